"""Vectors and distances in a batch of frames, atoms in rows and frames in columns."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Frames",
    "Points",
    "all_pairs",
    "angle",
    "cross",
    "dihedral_angle",
    "dot",
    "length",
    "positive",
    "rows",
    "take_rows",
    "total_rows",
]


class Points:
    """Points of a batch with the frames in the last index.

    Whatever the number of terms, every operation is then elementwise over long contiguous rows.

    Arguments:
        rows: x, y and z of the points, (n_points, 3, n).
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    @property
    def dtype(self) -> torch.dtype:
        return self.rows.dtype

    def positions(self, i: Tensor) -> Tensor:
        """x_i for an index list of length m, (m, 3, n)."""
        return take_rows(self.rows, i)

    def vectors(self, i: Tensor, j: Tensor) -> Tensor:
        """x_i − x_j for index lists of length m, (m, 3, n)."""
        return take_rows(self.rows, i) - take_rows(self.rows, j)

    def spread(self, slopes: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Gradient by the points, (n_points, 3, n), of what has these slopes by x_i − x_j, (m, 3, n)."""
        return torch.zeros_like(self.rows).index_add(0, i, slopes).index_add(0, j, slopes, alpha=-1)

    def centroids(self, atoms: Tensor, weights: Tensor, groups: Tensor, n: int) -> Points:
        """Weighted sums over groups of points: group, point and weight (·, 1) of each summand."""
        return Points(total_rows(weights[..., None] * take_rows(self.rows, atoms), groups, n))


class Frames(Points):
    """Positions of a batch, and the distances that forces share, computed once for all of them.

    Arguments:
        rows: positions in nm, (n_atoms, 3, n), as `rows` gives them.
        i, j: the pairs whose distances `distances` gives, in the order of `all_pairs`, (n_pairs,).
    """

    def __init__(self, rows: Tensor, i: Tensor, j: Tensor) -> None:
        super().__init__(rows)
        self._pairs = i, j
        self._found: tuple[Tensor, Tensor, Tensor] | None = None
        self._r: Tensor | None = None

    def distances(self) -> Tensor:
        """r of all pairs, (n_pairs, n)."""
        if self._r is None:
            if torch.compiler.is_compiling():  # component by component: it would write the vectors to memory
                x, y, z = (take_rows(c, self._pairs[0]) - take_rows(c, self._pairs[1]) for c in self.rows.unbind(1))
                self._r = _squared(x, y, z).sqrt()
            else:
                self._r = self._separations()[2]
        return self._r

    def inverse_distances(self) -> Tensor:
        """1/r of all pairs, (n_pairs, n)."""
        return self._separations()[1]

    def spread_pairs(self, slopes: Tensor) -> Tensor:
        """Gradient by the positions, (n_atoms, 3, n), of what has these slopes by the distances, (n_pairs, n)."""
        vectors, inverse, _ = self._separations()
        return self.spread((slopes * inverse)[:, None] * vectors, *self._pairs)

    def _separations(self) -> tuple[Tensor, Tensor, Tensor]:
        """x_i − x_j, 1/r and r."""
        if self._found is None:
            vectors = self.vectors(*self._pairs)
            squares = _squared(*vectors.unbind(1))
            inverse = squares.rsqrt()
            self._found = vectors, inverse, squares * inverse
        return self._found


def _squared(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return positive(torch.addcmul(torch.addcmul(x * x, y, y), z, z))  # less traffic than dot


def rows(x: Tensor) -> Tensor:
    """Positions (n, n_atoms, 3) with the frames in the last index, (n_atoms, 3, n), in float32 at least."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x.permute(1, 2, 0).contiguous()


def all_pairs(n_atoms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and second atoms of all pairs i < j."""
    i, j = np.triu_indices(n_atoms, 1)
    return i.astype(np.int64), j.astype(np.int64)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products a·b of vectors (..., 3, n), (..., n)."""
    return (a * b).sum(-2)


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Vector products a × b of vectors (..., 3, n)."""
    A, B = a.unbind(-2), b.unbind(-2)
    products = [torch.addcmul(A[j] * B[k], A[k], B[j], value=-1) for j, k in ((1, 2), (2, 0), (0, 1))]
    return torch.stack(products, -2)


def positive(squared: Tensor) -> Tensor:
    """Squared lengths kept off zero, so that the derivative of their root is 0 there instead of NaN."""
    return squared.clamp_min(torch.finfo(squared.dtype).tiny)


def length(a: Tensor) -> Tensor:
    """|a|."""
    return positive(dot(a, a)).sqrt()


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle between a and b, in [0, π]: atan2(|a × b|, a·b).

    Unlike the arc cosine, atan2 keeps its digits near 0 and π; at exactly 0 and π the gradient is 0.
    """
    return torch.atan2(length(cross(a, b)), dot(a, b))


def dihedral_angle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Dihedral along the bonds a, b, c, in [−π, π]; 0, with the gradient 0, where there is none, two being in line."""
    ab, bc = cross(a, b), cross(b, c)
    norms = dot(ab, ab), dot(bc, bc)
    scale = positive(norms[0]).rsqrt() * positive(norms[1]).rsqrt()
    scale = torch.where((norms[0] > 0) & (norms[1] > 0), scale, 0.0)
    cosine, sine = dot(ab, bc) * scale, dot(a, bc) * length(b) * scale
    return torch.atan2(sine, torch.where((cosine == 0) & (sine == 0), 1.0, cosine))


def take_rows(values: Tensor, index: Tensor) -> Tensor:
    """values[index], (rows, ...) → (m, ...)."""
    if torch.compiler.is_compiling():
        return values.gather(0, _spread(index, values))
    return values.index_select(0, index)


def total_rows(values: Tensor, index: Tensor, rows: int) -> Tensor:
    """Sum of the values that share an index, (m, ...) → (rows, ...)."""
    zeros = values.new_zeros(rows, *values.shape[1:])
    if torch.compiler.is_compiling():
        return zeros.scatter_add(0, _spread(index, values), values)
    return zeros.index_add(0, index, values)


def _spread(index: Tensor, values: Tensor) -> Tensor:
    """The index of each value, for compiled code: on several threads `index_add` gives other bits every time there.

    So would the derivative of `index_select`. Without compilation these two are the quicker ones.
    """
    return index.view(-1, *[1] * (values.ndim - 1)).expand(-1, *values.shape[1:])
