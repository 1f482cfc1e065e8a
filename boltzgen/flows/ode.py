"""Ordinary differential equations of many rows at once: Runge–Kutta steps, and the choice of their lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["DORMAND_PRINCE", "RK4", "adaptive_steps", "integrate"]

Rate = Callable[[Tensor, Tensor], Tensor]
Tableau = tuple[Sequence[float], Sequence[Sequence[float]], Sequence[float]]

RK4: Tableau = ((0, 1 / 2, 1 / 2, 1), ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
DORMAND_PRINCE: Tableau = (
    (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1),
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_LESS_FOURTH_ORDER = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
_SHORTEST = 2.0**-10


def integrate(rate: Rate, y: Tensor, steps: Tensor, tableau: Tableau) -> Tensor:
    """y(1) of dy/dt = rate(t, y) from y(0), by an explicit Runge–Kutta method.

    Arguments:
        rate: from t (n,) and y (m, n) to dy/dt (m, n), column by column.
        y: y(0), (m, n).
        steps: lengths of the steps of every column, (k, n), with sum 1; one of length 0 changes nothing.
        tableau: nodes, coefficients and weights of the method, `RK4` or `DORMAND_PRINCE` (of order five).

    References:
        Hairer, Nørsett, Wanner (1993), Solving ordinary differential equations I, section II.1.
    """
    t = torch.zeros_like(y[0])
    for h in steps:
        y = y + h * _combine(_stages(rate, t, y, h, tableau), tableau[2])
        t = t + h
    return y


@torch.no_grad()
def adaptive_steps(rate: Rate, y: Tensor, tolerance: float) -> Tensor:
    """Lengths of Dormand–Prince steps from 0 to 1, (k, n), of every column by itself, for `integrate`.

    A step is taken when its estimated error, in units of 1 + |y| and as a root mean square over the m rows, is at most
    the tolerance, or when it is as short as 1/1024. A column's steps depend on that column alone.

    Arguments:
        rate, y: as for `integrate`.
        tolerance: of a step; never less than ten roundings of the dtype.

    References:
        Dormand, Prince (1980); Hairer, Nørsett, Wanner (1993), section II.4.
    """
    tolerance = max(tolerance, 10 * torch.finfo(y.dtype).eps)
    t, h = torch.zeros_like(y[0]), torch.full_like(y[0], 0.125)
    taken: list[Tensor] = []
    while bool((t < 1).any()):
        last = t + h >= 1
        h = torch.where(last, 1 - t, h)
        stages = _stages(rate, t, y, h, DORMAND_PRINCE)
        following = y + h * _combine(stages, DORMAND_PRINCE[2])
        stages.append(rate(t + h, following))
        error = h * _combine(stages, _LESS_FOURTH_ORDER) / (1 + torch.maximum(y.abs(), following.abs()))
        ratio = (error.square().mean(0).sqrt() / tolerance).nan_to_num(torch.inf, torch.inf)
        good = (ratio <= 1) | (h <= _SHORTEST)
        taken.append(torch.where(good, h, 0.0))
        y, t = torch.where(good, following, y), torch.where(good, torch.where(last, 1.0, t + h), t)
        h = (h * (0.9 * ratio.clamp_min(1e-10) ** -0.2).clamp(0.2, 5.0)).clamp_min(_SHORTEST)
    return torch.stack(taken) if taken else y.new_zeros(0, 0)  # of no rows, no steps


def _stages(rate: Rate, t: Tensor, y: Tensor, h: Tensor, tableau: Tableau) -> list[Tensor]:
    stages: list[Tensor] = []
    for node, row in zip(*tableau[:2], strict=True):
        stages.append(rate(t + node * h, y + h * _combine(stages, row) if row else y))
    return stages


def _combine(stages: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([weight * stage for weight, stage in zip(weights, stages, strict=True) if weight]).sum(0)
