"""Many numbers with their error bars: the array form of an estimate, and that over the bins of a variable."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .estimate import Estimate
from .weights import Array

__all__ = ["BinnedEstimate", "EstimateArray"]


@dataclass(frozen=True, eq=False)
class EstimateArray:
    """Estimates from the same weighted draws, in arrays of one shape; indexed by numbers it gives an `Estimate`.

    Each error and interval is of that entry alone: entries are correlated, and 5 % of the intervals miss.

    Attributes:
        value: the numbers.
        standard_error: of each.
        interval: lower and upper limits of the 95 % confidence intervals.
        ess: effective sample size of all the weights, a count.
        n: number of draws, those of weight zero included.
        pareto_k: k̂ of all the weights.
        why: reasons not to believe each, in words; an empty string where there is none.

    Example:
        >>> x = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
        >>> print(expectations(torch.zeros(10_000), x)[1])
        -0.005 ± 0.010
    """

    value: Array
    standard_error: Array
    interval: tuple[Array, Array]
    ess: float
    n: int
    pareto_k: float
    why: npt.NDArray[np.str_]

    # numpy scalars and arrays leave arithmetic to this class
    __array_ufunc__ = None

    @property
    def reliable(self) -> npt.NDArray[np.bool_]:
        """Which entries may be believed, as far as the weights can tell."""
        return np.asarray(self.why == "")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> Estimate:
        """The estimate of one entry, e.g. `profile[3]` or `profile[3, 7]`.

        Raises:
            InputError: if the index chooses more than one.
        """
        value, why = self.value[index], self.why[index]
        if np.ndim(value):
            raise InputError(f"an index must choose one entry; got {index!r}: use the arrays value, interval, ...")
        low, high = (float(limit[index]) for limit in self.interval)
        error = float(self.standard_error[index])
        return Estimate(float(value), error, (low, high), self.ess, self.n, self.pareto_k, not why, str(why))

    def __mul__(self, factor: float) -> Self:
        if not isinstance(factor, Real):
            return NotImplemented
        factor = float(factor)
        if not math.isfinite(factor) or factor == 0:
            raise InputError(f"estimates are scaled by a finite, non-zero number; got {factor}: pass e.g. kT(300.0)")
        low, high = (factor * limit for limit in self.interval[:: 1 if factor > 0 else -1])
        error = abs(factor) * self.standard_error
        return replace(self, value=factor * self.value, standard_error=error, interval=(low, high))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Self:
        if not isinstance(divisor, Real):
            return NotImplemented
        return self * (1 / float(divisor) if divisor else math.inf)

    def __neg__(self) -> Self:
        return self * -1.0


@dataclass(frozen=True, eq=False)
class BinnedEstimate(EstimateArray):
    """Estimates over the bins of one or two variables.

    Attributes:
        edges: limits of the bins of each variable, arrays of one more than its number of bins.
    """

    edges: tuple[Array, ...] = ()

    @property
    def centers(self) -> tuple[Array, ...]:
        """Middles of the bins of each variable."""
        return tuple((edges[1:] + edges[:-1]) / 2 for edges in self.edges)
