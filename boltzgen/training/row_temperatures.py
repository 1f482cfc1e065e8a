"""Rows that have temperatures of their own: what a flow for every temperature is given, and their energies."""

from __future__ import annotations

import torch
from torch import Tensor

from ..energies.energy import Energy
from ..flows.flow import Flow

__all__ = ["context_of", "evaluated"]


def context_of(flow: Flow, temperatures: Tensor) -> Tensor:
    """What stands for the temperature of each row, (n,) → (n, 1), in a flow for every temperature; see `Flow.at`."""
    assert flow.temperature is not None
    ratios: Tensor = (temperatures.double() / flow.temperature).log()[:, None]
    return ratios.to(next(flow.parameters()))


def evaluated(target: Energy, x: Tensor, temperatures: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """u and potential (n,) at the temperature of each row, (n,), or at the target's own; see `Energy.evaluate`."""
    u, _, potential = target.evaluate(x)
    if temperatures is None:
        return u, potential
    ratio, finite = (target.temperature / temperatures).to(potential), torch.isfinite(u)
    potential = torch.where(finite, potential, 0.0)
    return torch.where(finite, u + (ratio - 1.0) * potential, torch.inf), ratio * potential
