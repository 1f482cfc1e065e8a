"""Fresh draws of a flow, evaluated, with the gradient that losses on them need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..energies.energy import Energy
from ..flows.flow import Flow
from ..processes import ranks
from .row_temperatures import context_of, evaluated

__all__ = ["Draws", "frozen", "mean_of_finite", "pathwise", "rowwise"]

_LOST = 1.0
"""kT by which log q(x) may come back differently from what it was when x was drawn."""


class Draws(NamedTuple):
    """Fresh draws of a flow.

    Attributes:
        x: (n, *event_shape), without a gradient.
        log_q: log q(x), (n,), without a gradient; NaN for a draw lost to rounding.
        loss: u(x) + log q(x), (n,), with the gradient that flows through x alone; +inf for a draw lost to rounding.
        potential: what a temperature divides, in kT, (n,), without a gradient; see `Energy.evaluate`.
    """

    x: Tensor
    log_q: Tensor
    loss: Tensor
    potential: Tensor

    @property
    def log_w(self) -> Tensor:
        """Log-weights in float64, −inf where u is not finite or the draw was lost."""
        return torch.where(torch.isfinite(self.loss), -self.loss, -torch.inf).detach().double()


def pathwise(
    flow: Flow,
    target: Energy,
    n: int,
    *,
    generator: torch.Generator | None = None,
    temperatures: Tensor | None = None,
) -> Draws:
    """n fresh draws, and u + log q with the gradient that flows through x alone.

    Draws that rounding does not let back to where they came from, in spikes of the density, have no such gradient.
    Their loss is +inf and their log q NaN, so that they are left out.

    Arguments:
        temperatures: of each draw, (n,), for a flow for every temperature; that of the target if None.
    """
    context = None if temperatures is None else context_of(flow, temperatures)

    def rows(mine: slice) -> tuple[Tensor, ...]:
        x, log_q = flow.rsample(n, generator=generator, rows=mine, context=context)
        with frozen(flow):
            u, potential = evaluated(target, x, None if temperatures is None else temperatures[mine])
            again = flow.log_prob(x, None if context is None else context[mine])
            kept = (again - log_q).abs() < _LOST
            loss = torch.where(kept, u + again + (log_q - again).detach(), torch.inf)
            log_q = torch.where(kept, log_q, torch.nan)
        _count_others(target, n - len(x), loss)
        return x.detach(), log_q.detach(), loss, potential.detach()

    return Draws(*ranks().shared(rows, n))


def rowwise(flow: Flow, target: Energy, n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """u(x) + log q(x) of n fresh draws, (n,), with all of its gradient."""

    def rows(mine: slice) -> tuple[Tensor, ...]:
        x, log_q = flow.rsample(n, generator=generator, rows=mine)
        loss = target.energy(x) + log_q
        _count_others(target, n - len(x), loss)
        return (loss,)

    return ranks().shared(rows, n)[0]


def _count_others(target: Energy, n: int, loss: Tensor) -> None:
    """Notes the evaluations that other processes make for their rows of a loss."""
    if loss.requires_grad:
        target.evaluations.gradient += n
    else:
        target.evaluations.energy += n


def mean_of_finite(loss: Tensor, soften: float | None) -> Tensor:
    """The mean of the finite rows; what lies more than `soften` above their median counts logarithmically."""
    finite = torch.isfinite(loss)
    loss = torch.where(finite, loss, torch.zeros_like(loss))
    if soften is not None:
        threshold = torch.where(finite, loss.detach(), torch.nan).nanmedian() + soften
        over = torch.nan_to_num(loss - threshold).clamp_min(0.0)
        loss = loss - over + torch.log1p(over)
    return torch.where(finite, loss, torch.zeros_like(loss)).sum() / finite.sum()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within it the parameters of a module are constants: they require no gradient, and gather none."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
