"""Learned or fixed linear maps that mix all dimensions, with log-determinants that cost nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..arguments import positive_counts
from ..errors import InputError
from .bijection import Bijection

__all__ = ["LU", "Householder", "Permutation"]


class LU(Bijection):
    """A learned affine map through its triangular factors, x = L U z + b, log_det = Σ log U_ii; the identity at first.

    L has ones on its diagonal, that of U is positive. After a `Permutation` it is the 1×1 convolution of Glow for
    vectors. Either direction costs d² operations per row. A matrix that depends on a context is a
    `Coupling` of all dimensions with nothing given but the context, and a `TriangularAffine`.

    Arguments:
        dim: number of dimensions d.

    References:
        Kingma, Dhariwal (2018), Glow, section 3.2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.weight = nn.Parameter(torch.zeros(dim, dim))  # L below the diagonal, U above it, log U_ii on it
        self.bias = nn.Parameter(torch.zeros(dim))

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        x = torch.addmm(self.bias[:, None], lower @ upper, z.T)
        return x.T, self.weight.diagonal().sum().expand(len(z))

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        v = torch.linalg.solve_triangular(lower, x.T - self.bias[:, None], upper=False, unitriangular=True)
        z = torch.linalg.solve_triangular(upper, v, upper=True)
        return z.T, -self.weight.diagonal().sum().expand(len(x))

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.weight), dtype=self.weight.dtype, device=self.weight.device)
        return self.weight.tril(-1) + identity, self.weight.triu(1) + self.weight.diagonal().exp().diag()


class Householder(Bijection):
    """A learned rotation as a product of reflections, x = H_1 … H_k z with H = 1 − 2 v vᵀ/|v|², log_det = 0.

    d reflections reach every orthogonal matrix of determinant (−1)^d. It starts at random reflections.

    Arguments:
        dim: number of dimensions d.
        reflections: their number k; d if None.
        generator: source of the initial v; the default generator of torch if None.

    Raises:
        InputError: if there is no reflection.

    References:
        Tomczak, Welling (2016), Improving variational auto-encoders using Householder flow.
    """

    def __init__(self, dim: int, *, reflections: int | None = None, generator: torch.Generator | None = None) -> None:
        super().__init__(dim)
        reflections = dim if reflections is None else reflections
        (reflections,) = positive_counts(reflections=reflections)
        self.vectors = nn.Parameter(torch.randn(reflections, dim, generator=generator))

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return (self._rotation() @ z.T).T, z.new_zeros(len(z))

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return (self._rotation().T @ x.T).T, x.new_zeros(len(x))

    def _rotation(self) -> Tensor:
        rotation = torch.eye(self.vectors.shape[1], dtype=self.vectors.dtype, device=self.vectors.device)
        for v in self.vectors:
            rotation = rotation - torch.outer(rotation @ v, v) * (2 / v.square().sum())
        return rotation


class Permutation(Bijection):
    """A fixed reordering of dimensions, x_i = z_order(i), log_det = 0.

    Arguments:
        order: a permutation of 0 … d − 1, e.g. `torch.randperm(d).tolist()`.

    Raises:
        InputError: if it is none.

    Example:
        >>> Permutation([2, 0, 1]).forward(torch.tensor([[10.0, 20.0, 30.0]]))[0]
        tensor([[30., 10., 20.]])
    """

    _order: Tensor
    _back: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        order = [int(i) for i in order]
        if sorted(order) != list(range(len(order))):
            raise InputError(f"order must be a permutation of 0 to d - 1; got {order}: name each dimension once")
        super().__init__(len(order))
        self.register_buffer("_order", torch.tensor(order))
        self.register_buffer("_back", torch.tensor(order).argsort())

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return z.index_select(1, self._order), z.new_zeros(len(z))

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self._back), x.new_zeros(len(x))
