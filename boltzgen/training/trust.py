"""How far the weights of a batch can be trusted: to the power at which enough draws still count."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["boundary", "effective_fraction", "raised", "trusted"]


def effective_fraction(log_w: Tensor) -> float:
    """Effective sample size as a fraction of the draws, those of weight 0 included."""
    log_w = log_w - log_w.max().clamp_min(-1e300)  # -inf throughout is 0, not NaN
    w = log_w.exp()
    return float(w.sum().square() / w.square().sum().clamp_min(1e-300)) / len(w)


def trusted(log_w: Tensor, least: float, power: float = 1.0) -> float:
    """The highest β ≤ power at which the weights w^β keep the effective sample fraction `least`; 0 if none does."""
    return boundary(lambda beta: effective_fraction(raised(log_w, beta)) >= least, 0.0, power)


def raised(log_w: Tensor, power: float) -> Tensor:
    """power · log w, and −inf where w is zero also for power 0."""
    return torch.where(log_w.isneginf(), log_w, power * log_w)


def boundary(holds: Callable[[float], bool], start: float, end: float) -> float:
    """How far from `start` towards `end` a condition holds; `start` if it does not hold there."""
    if holds(end):
        return end
    if not holds(start):
        return start
    for _ in range(30):
        middle = 0.5 * (start + end)
        start, end = (middle, end) if holds(middle) else (start, middle)
    return start
