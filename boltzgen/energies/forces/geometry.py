"""Vectors and distances in a batch of frames, atoms in rows and frames in columns."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Frames",
    "Points",
    "Vectors",
    "all_pairs",
    "angle",
    "dihedral",
    "dihedral_angle",
    "dot",
    "length",
    "take_rows",
    "total_rows",
]

Vectors = tuple[Tensor, Tensor, Tensor]
"""The x, y and z components of m vectors in n frames, (m, n) each."""


class Points:
    """Points of a batch with the frames in the last index.

    Whatever the number of terms, every operation is then elementwise over long contiguous rows.

    Arguments:
        components: x, y and z of the points, (n_points, n) each.
    """

    def __init__(self, components: Vectors) -> None:
        self._X = components

    @property
    def dtype(self) -> torch.dtype:
        return self._X[0].dtype

    def positions(self, i: Tensor) -> Vectors:
        """x_i for an index list of length m."""
        x, y, z = (take_rows(component, i) for component in self._X)
        return x, y, z

    def vectors(self, i: Tensor, j: Tensor) -> Vectors:
        """x_i − x_j for index lists of length m."""
        x, y, z = (take_rows(component, i) - take_rows(component, j) for component in self._X)
        return x, y, z

    def centroids(self, atoms: Tensor, weights: Tensor, groups: Tensor, n: int) -> Points:
        """Weighted sums over groups of points: group, point and weight (·, 1) of each summand."""
        x, y, z = (total_rows(weights * take_rows(component, atoms), groups, n) for component in self._X)
        return Points((x, y, z))


class Frames(Points):
    """Positions of a batch, and the distances that forces share.

    Arguments:
        x: positions, (n, n_atoms, 3), in nm.
        i, j: the pairs whose distances `distances` gives, in the order of `all_pairs`, (n_pairs,).
    """

    def __init__(self, x: Tensor, i: Tensor, j: Tensor) -> None:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        rows = torch.cat(x.permute(2, 1, 0).unbind(0))  # cat copies; torch.compile would gather from a strided view
        X, Y, Z = rows.view(3, x.shape[1], x.shape[0]).unbind(0)
        super().__init__((X, Y, Z))
        self._pairs = i, j
        self._distances: Tensor | None = None

    def distances(self) -> Tensor:
        """r of all pairs, (n_pairs, n), computed once for all forces."""
        if self._distances is None:
            self._distances = length(self.vectors(*self._pairs))
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


def length(a: Vectors) -> Tensor:
    """|a|."""
    return positive(dot(a, a)).sqrt()


def angle(a: Vectors, b: Vectors) -> Tensor:
    """Angle between a and b, in [0, π]: atan2(|a × b|, a·b).

    Unlike the arc cosine, atan2 keeps its digits near 0 and π; at exactly 0 and π the gradient is 0.
    """
    return torch.atan2(length(cross(a, b)), dot(a, b))


def dihedral(a: Vectors, b: Vectors, c: Vectors) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the dihedral along the bonds a, b, c, both 0 where there is none, two bonds being in line."""
    ab, bc = cross(a, b), cross(b, c)
    norms = dot(ab, ab), dot(bc, bc)
    scale = positive(norms[0]).rsqrt() * positive(norms[1]).rsqrt()
    scale = torch.where((norms[0] > 0) & (norms[1] > 0), scale, 0.0)
    return dot(ab, bc) * scale, dot(a, bc) * length(b) * scale


def dihedral_angle(a: Vectors, b: Vectors, c: Vectors) -> Tensor:
    """Dihedral along the bonds a, b, c, in [−π, π]; 0, with the gradient 0, where there is none."""
    cosine, sine = dihedral(a, b, c)
    return torch.atan2(sine, torch.where((cosine == 0) & (sine == 0), 1.0, cosine))


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
