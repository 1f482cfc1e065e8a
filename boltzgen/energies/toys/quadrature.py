"""Gauss–Legendre nodes, panel by panel: the truth about low-dimensional toys."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

__all__ = ["grid", "panels"]


def panels(edges: Sequence[float], count: int, order: int = 16) -> tuple[Tensor, Tensor]:
    """Nodes and logarithmic weights of ∫ f(s) ds ≈ Σ_i exp(log_w_i) f(s_i), for integrands that may jump at the edges.

    Arguments:
        edges: ends of the intervals, ascending.
        count: panels in each interval.
        order: nodes in each panel.

    Returns:
        Two (m,) tensors of float64.
    """
    nodes, weights = np.polynomial.legendre.leggauss(order)
    ends = np.concatenate([np.linspace(a, b, count, endpoint=False) for a, b in pairwise(edges)] + [[edges[-1]]])
    half = np.diff(ends)[:, None] / 2
    s = (ends[:-1] + ends[1:])[:, None] / 2 + half * nodes
    return torch.from_numpy(s.ravel()), torch.from_numpy(np.log(half * weights).ravel())


def grid(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Nodes (m, 2) and logarithmic weights (m,) of the product of two one-dimensional rules."""
    points = torch.cartesian_prod(first[0], second[0])
    return points, torch.cartesian_prod(first[1], second[1]).sum(-1)
