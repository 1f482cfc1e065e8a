"""The law of a base at the points of a scrambled Sobol sequence, which fill space more evenly than chance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from ..arguments import instances, positive_counts
from ..errors import InputError
from .bases import Base
from .noise import BLOCK, keyed_generator

__all__ = ["Sobol"]

_RESOLUTION = 2.0**-30  # of the engine's points
_NET = 1024  # blocks from one scrambling; to go to the last of them takes less than to push it through a flow


class Sobol(Base):
    """Another base, drawn by the inverse of its distribution function from a scrambled Sobol sequence.

    Every call of `sample` scrambles anew, and so does every seed of a flow, once for each 2²⁰ draws. Each row follows
    the law of the base: averages over the n draws are unbiased, and of smooth functions of few dimensions closer to the
    truth, by an error that falls nearly as 1/n. A power of two of draws is best. Wrap a product as a whole: sequences
    of its factors would go in step.

    But the rows of one scrambling are not independent of each other. `draw` says so in its samples, and their verdict
    is red; estimators, which are given weights and not samples, cannot know it and report error bars that are too large
    as a rule, yet without warrant.

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
        return self._part(generator, 0, n)

    def block(self, seed: int, index: int) -> Tensor:
        net, start = divmod(index, _NET)
        return self._part(keyed_generator(seed, net), start * BLOCK, BLOCK)

    def _part(self, generator: torch.Generator | None, start: int, n: int) -> Tensor:
        """n rows of one scrambling, from row `start` on."""
        scramble = int(torch.randint(2**62, (), generator=generator))
        engine = SobolEngine(self.event_shape.numel(), scramble=True, seed=scramble)  # type: ignore[no-untyped-call]
        if start:
            engine.fast_forward(start)  # type: ignore[no-untyped-call]
        points = engine.draw(n, dtype=torch.float64)
        return self.base.quantile(points + _RESOLUTION / 2).to(self._like)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.base.log_prob(z)

    def quantile(self, p: Tensor) -> Tensor:
        return self.base.quantile(p)

    def tempered(self, ratio: float) -> Sobol:
        return Sobol(self.base.tempered(ratio)).to(self._like)
