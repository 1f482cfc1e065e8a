"""The law of a base at the points of a scrambled Sobol sequence, which fill space more evenly than chance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from ..arguments import instances, positive_counts
from ..errors import InputError
from .bases import Base

__all__ = ["Sobol"]

_RESOLUTION = 2.0**-30  # of the engine's points


class Sobol(Base):
    """Another base, drawn by the inverse of its distribution function from a scrambled Sobol sequence.

    Every call of `sample` scrambles anew, and each of its rows follows the law of the base: averages over the n draws
    are unbiased, and of smooth functions of few dimensions closer to the truth, by an error that falls nearly as 1/n.
    But the rows of one call are not independent of each other: `draw` says so in its samples, whose error bars are then
    too large as a rule, yet without warrant. A power of two of draws is best.

        flow = Flow(Sobol(flow.base), flow.bijection)    # the same density and parameters

    Arguments:
        base: normal or uniform on the torus, or a product of these.

    Raises:
        InputError: if the base cannot be drawn so, or has more dimensions than the sequence, 21201.

    Example:
        >>> from boltzgen.flows import Normal
        >>> z = Sobol(Normal(1)).sample(1024, torch.Generator().manual_seed(0))
        >>> bool(z.mean().abs() < 1e-3)  # 0.03 by chance
        True

    References:
        Owen (1998), Scrambling Sobol' and Niederreiter-Xing points, J. Complexity 14, 466.
    """

    independent = False

    def __init__(self, base: Base) -> None:
        instances(base=(base, Base))
        super().__init__(base.event_shape.numel())
        if base.event_shape.numel() > SobolEngine.MAXDIM:
            raise InputError(
                f"base must have at most {SobolEngine.MAXDIM} dimensions, as the sequence has; got "
                f"{base.event_shape.numel()}: draw at random"
            )
        base.quantile(torch.full((1, *base.event_shape), 0.5, dtype=torch.float64))  # refuses what has none
        self.base = base

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        (n,) = positive_counts(n=n)
        scramble = int(torch.randint(2**62, (), generator=generator))
        points = SobolEngine(self.event_shape.numel(), scramble=True, seed=scramble).draw(n, dtype=torch.float64)  # type: ignore[no-untyped-call]
        return self.base.quantile(points + _RESOLUTION / 2).to(self._like)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.base.log_prob(z)

    def quantile(self, p: Tensor) -> Tensor:
        return self.base.quantile(p)

    def tempered(self, ratio: float) -> Sobol:
        return Sobol(self.base.tempered(ratio)).to(self._like)
