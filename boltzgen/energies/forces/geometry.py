"""Vectors and distances in a batch of frames, atoms in rows and frames in columns."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Frames", "Vectors", "all_pairs", "cross", "dot", "positive", "take_rows", "total_rows"]

Vectors = tuple[Tensor, Tensor, Tensor]
"""The x, y and z components of m vectors in n frames, (m, n) each."""


class Frames:
    """Positions of a batch with the frames in the last index, and the distances that forces share.

    Whatever the number of terms, every operation is then elementwise over long contiguous rows.

    Arguments:
        x: positions, (n, n_atoms, 3), in nm.
        i, j: the pairs whose distances `distances` gives, in the order of `all_pairs`, (n_pairs,).
    """

    def __init__(self, x: Tensor, i: Tensor, j: Tensor) -> None:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        rows = torch.cat(x.permute(2, 1, 0).unbind(0))  # cat copies; torch.compile would gather from a strided view
        self._X = rows.view(3, x.shape[1], x.shape[0]).unbind(0)
        self._pairs = i, j
        self._distances: Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self._X[0].dtype

    def vectors(self, i: Tensor, j: Tensor) -> Vectors:
        """x_i − x_j for index lists of length m."""
        x, y, z = (take_rows(component, i) - take_rows(component, j) for component in self._X)
        return x, y, z

    def distances(self) -> Tensor:
        """r of all pairs, (n_pairs, n), computed once for all forces."""
        if self._distances is None:
            d = self.vectors(*self._pairs)
            self._distances = positive(dot(d, d)).sqrt()
        return self._distances


def all_pairs(n_atoms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and second atoms of all pairs i < j."""
    i, j = np.triu_indices(n_atoms, 1)
    return i.astype(np.int64), j.astype(np.int64)


def dot(a: Vectors, b: Vectors) -> Tensor:
    """Scalar products a·b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vectors, b: Vectors) -> Vectors:
    """Vector products a × b."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def positive(squared: Tensor) -> Tensor:
    """Squared lengths kept off zero, so that the derivative of their root is 0 there instead of NaN."""
    return squared.clamp_min(torch.finfo(squared.dtype).tiny)


def take_rows(values: Tensor, index: Tensor) -> Tensor:
    """values[index], (rows, n) → (m, n)."""
    return values.gather(0, index[:, None].expand(-1, values.shape[1]))


def total_rows(values: Tensor, index: Tensor, rows: int) -> Tensor:
    """Sum of the values that share an index, (m, n) → (rows, n).

    Like the derivative of `take_rows`, a `scatter_add`: unlike `index_add` it gives the same bits every time when
    torch.compile runs it on several threads.
    """
    zeros = values.new_zeros(rows, values.shape[1])
    return zeros.scatter_add(0, index[:, None].expand(-1, values.shape[1]), values)
