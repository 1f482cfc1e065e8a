"""Distances, angles and dihedrals of a batch of frames, atoms in rows and frames in columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Frames", "Pairs", "cross", "dot", "positive"]


class Pairs(NamedTuple):
    """Distances of all pairs i < j: r², 1/r and r, each (n_pairs, n)."""

    squared: Tensor
    inverse: Tensor
    distance: Tensor


class Frames:
    """Positions of a batch as X of shape (3, n_atoms, n), in nm: the last index runs over frames.

    Every operation is then elementwise over long contiguous rows, whatever the number of terms.
    """

    def __init__(self, x: Tensor, i: Tensor, j: Tensor) -> None:
        self.X = x.permute(2, 1, 0).contiguous()
        self.i, self.j = i, j
        self._pairs: Pairs | None = None

    def vector(self, i: Tensor, j: Tensor) -> Tensor:
        """x_i − x_j for index lists of length m, (3, m, n)."""
        return self.X.index_select(1, i) - self.X.index_select(1, j)

    def pairs(self) -> Pairs:
        """Distances of all pairs, computed once for all forces."""
        if self._pairs is None:
            d = self.vector(self.i, self.j)
            squared = dot(d, d)
            inverse = squared.rsqrt()
            self._pairs = Pairs(squared, inverse, squared * inverse)
        return self._pairs


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar product over the first index."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Vector product over the first index."""
    return torch.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def positive(squared: Tensor) -> Tensor:
    """A squared length kept off zero, so that its root has a finite derivative (0 at coincidence)."""
    return squared.clamp_min(torch.finfo(squared.dtype).tiny)
