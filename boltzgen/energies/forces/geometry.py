"""Vectors and distances in a batch of frames, atoms in rows and frames in columns."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Frames", "cross", "dot", "positive", "take_rows", "total_rows"]


Vectors = tuple[Tensor, Tensor, Tensor]


class Frames:
    """Positions of a batch, the last index running over frames, and the distances that forces share.

    Whatever the number of terms, every operation is then elementwise over long contiguous rows.

    Arguments:
        x: positions, (n, n_atoms, 3), in nm.
        first, second: the pairs whose distances `distances` gives, (n_pairs,).
    """

    def __init__(self, x: Tensor, first: Tensor, second: Tensor) -> None:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        rows = torch.cat(x.permute(2, 1, 0).unbind(0))  # copied by cat, since torch.compile would gather from a view
        self._X = rows.view(3, x.shape[1], len(x)).unbind(0)
        self._pairs = first, second
        self._distances: Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self._X[0].dtype

    def vectors(self, i: Tensor, j: Tensor) -> Vectors:
        """Components of x_i − x_j for index lists of length m, (m, n) each."""
        x, y, z = (take_rows(rows, i) - take_rows(rows, j) for rows in self._X)
        return x, y, z

    def distances(self) -> Tensor:
        """Distances of the pairs, (n_pairs, n), computed once for all forces."""
        if self._distances is None:
            d = self.vectors(*self._pairs)
            self._distances = positive(dot(d, d)).sqrt()
        return self._distances


def dot(a: Vectors, b: Vectors) -> Tensor:
    """Scalar product a·b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vectors, b: Vectors) -> Vectors:
    """Vector product a × b."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def positive(squared: Tensor) -> Tensor:
    """A squared length kept off zero, so that its root has a finite derivative (0 at coincidence)."""
    return squared.clamp_min(torch.finfo(squared.dtype).tiny)


def take_rows(values: Tensor, index: Tensor) -> Tensor:
    """values[index] for values of shape (rows, n)."""
    return values.gather(0, index[:, None].expand(-1, values.shape[1]))


def total_rows(values: Tensor, index: Tensor, rows: int) -> Tensor:
    """Sum of the values that share an index, (m, n) → (rows, n).

    `scatter_add`, for both this sum and the derivative of `take_rows`: the one scatter that stays reproducible
    bit for bit when torch.compile runs it on several threads.
    """
    zeros = values.new_zeros(rows, values.shape[1])
    return zeros.scatter_add(0, index[:, None].expand(-1, values.shape[1]), values)
