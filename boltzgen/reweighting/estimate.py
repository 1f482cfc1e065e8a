"""A number with its error bar, and the reasons not to believe it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real

from ..errors import InputError

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """An estimate from weighted draws: value ± standard error.

    It converts to `float`, and scales with its error: `estimate * kT(300.0)` turns kT into kJ/mol.

    Attributes:
        value: the number.
        standard_error: of the value, by the delta method.
        interval: limits of the 95 % confidence interval; not symmetric about the value when the weights are skewed.
        ess: effective sample size of all the weights, a count.
        n: number of draws, those of weight zero included.
        pareto_k: k̂ of all the weights.
        reliable: whether value, error and interval may be believed, as far as the weights can tell.
        why: the reasons against, in words; empty if reliable.

    Example:
        >>> print(Estimate(-3.3801, 0.0123, (-3.404, -3.356), ess=900.0, n=1000, pareto_k=0.1))
        -3.380 ± 0.012
    """

    value: float
    standard_error: float
    interval: tuple[float, float]
    ess: float
    n: int
    pareto_k: float
    reliable: bool = True
    why: str = ""

    # numpy scalars and arrays leave arithmetic to this class
    __array_ufunc__ = None

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        note = "" if self.reliable else f" (unreliable: {self.why})"
        if not 1e-9 < self.standard_error < 1e9:
            return f"{self.value:.7g} ± {self.standard_error:.2g}{note}"
        decimals = max(0, 1 - math.floor(math.log10(self.standard_error)))
        return f"{self.value:.{decimals}f} ± {self.standard_error:.{decimals}f}{note}"

    def __mul__(self, factor: float) -> Estimate:
        if not isinstance(factor, Real):
            return NotImplemented
        factor = float(factor)
        if not math.isfinite(factor) or factor == 0:
            raise InputError(f"an Estimate is scaled by a finite, non-zero number; got {factor}: pass e.g. kT(300.0)")
        low, high = sorted(factor * limit for limit in self.interval)
        return replace(
            self, value=factor * self.value, standard_error=abs(factor) * self.standard_error, interval=(low, high)
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Estimate:
        if not isinstance(divisor, Real):
            return NotImplemented
        return self * (1 / float(divisor) if divisor else math.inf)

    def __neg__(self) -> Estimate:
        return self * -1.0
