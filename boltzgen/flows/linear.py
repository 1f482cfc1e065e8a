"""Linear maps whose coefficients are not learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from .bijection import Bijection

__all__ = ["Whitening", "Widening"]


class Whitening(Bijection):
    """A fixed affine map of some dimensions, x_S = μ + C z_S, that gives white z the mean μ and covariance C Cᵀ.

    Arguments:
        dim: number of dimensions d; those outside S pass through.
        dims: the dimensions S.
        mean: μ, (k,).
        factor: C, lower triangular with a positive diagonal, (k, k), e.g. the Cholesky factor of a covariance.

    Raises:
        InputError: if the shapes do not fit or C is not such a factor.
    """

    _dims: Tensor
    _mean: Tensor
    _factor: Tensor

    def __init__(self, dim: int, dims: Sequence[int], mean: Tensor, factor: Tensor) -> None:
        super().__init__(dim)
        k = len(dims)
        if tuple(mean.shape) != (k,) or tuple(factor.shape) != (k, k):
            raise InputError(
                f"mean and factor must have shapes ({k},) and ({k}, {k}); got {tuple(mean.shape)} and "
                f"{tuple(factor.shape)}: give one row for each of the {k} dimensions"
            )
        if not (torch.equal(factor, factor.tril()) and bool((factor.diagonal() > 0).all() and factor.isfinite().all())):
            raise InputError(
                "factor must be lower triangular with a positive diagonal; got another matrix: "
                "use torch.linalg.cholesky(covariance)"
            )
        self.register_buffer("_dims", torch.tensor([int(i) for i in dims], dtype=torch.long), persistent=False)
        self.register_buffer("_mean", mean.detach().to(torch.get_default_dtype(), copy=True))
        self.register_buffer("_factor", factor.detach().to(torch.get_default_dtype(), copy=True))

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        x = torch.addmm(self._mean[:, None], self._factor, z.T.index_select(0, self._dims))
        return z.T.index_copy(0, self._dims, x).T, self._log_det().expand(len(z))

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        centred = x.T.index_select(0, self._dims) - self._mean[:, None]
        z = torch.linalg.solve_triangular(self._factor, centred, upper=False)
        return x.T.index_copy(0, self._dims, z).T, -self._log_det().expand(len(x))

    def _log_det(self) -> Tensor:
        return self._factor.diagonal().log().sum()


class Widening(Bijection):
    """The fixed map x_S = e^(c/2) z_S of some dimensions for a context c: what is harmonic, at another temperature.

    With c = ln(T/T₀) a normal law at T₀ becomes that at T, √(T/T₀) times as wide.

    Arguments:
        dim: number of dimensions d; those outside S pass through.
        dims: the dimensions S.

    Raises:
        InputError: if S does not name dimensions, each once.
    """

    _within: Tensor

    def __init__(self, dim: int, dims: Sequence[int]) -> None:
        super().__init__(dim, context_size=1)
        self.dims = [int(i) for i in dims]
        if len(set(self.dims)) != len(self.dims) or not all(0 <= i < dim for i in self.dims):
            raise InputError(f"dims must be distinct dimensions below {dim}; got {self.dims}: name each once")
        within = torch.zeros(dim)
        within[self.dims] = 0.5
        self.register_buffer("_within", within, persistent=False)

    def extra_repr(self) -> str:
        return f"dims={self.dims}"

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        assert context is not None
        log_scale = context * self._within
        return z * log_scale.exp(), log_scale.sum(1)

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        assert context is not None
        log_scale = context * self._within
        return x * (-log_scale).exp(), -log_scale.sum(1)
