"""A conditional full covariance: an affine map with a lower triangular matrix for every row of the batch."""

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .transformer import Affine

__all__ = ["TriangularAffine"]


class TriangularAffine(Affine):
    """A full conditional covariance, x = μ + (1 + N) exp(σ) z with N strictly lower triangular.

    It has m(m − 1)/2 + 2m parameters: dear beyond a hundred dimensions.

    Arguments:
        dim: number of dimensions m.
        max_log_scale: bound of |σ|.
        gain: N is `gain` times its parameters; small, because a row of N sums many terms.
    """

    _rows: Tensor
    _columns: Tensor

    def __init__(self, dim: int, *, max_log_scale: float = 5.0, gain: float = 0.1) -> None:
        super().__init__(dim, max_log_scale=max_log_scale)
        rows, columns = _packed(dim)
        self.sizes = (dim, dim, len(rows))
        self.gain = gain
        self.register_buffer("_rows", rows, persistent=False)
        self.register_buffer("_columns", columns, persistent=False)

    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale, entries = theta
        v, log_det = super().forward(z, torch.zeros_like(mean), log_scale)
        terms = self.gain * entries * v.index_select(0, self._columns)
        return mean + v.index_add(0, self._rows, terms), log_det

    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale, entries = theta
        v = unit_lower_solve(self.gain * entries, x - mean, transpose=False)
        return super().inverse(v, torch.zeros_like(mean), log_scale)

    def owners(self) -> list[Tensor]:
        raise InputError(
            "the transformer must treat every dimension by itself; got TriangularAffine: use Affine, and let the layer "
            "make the dimensions depend on one another"
        )


def unit_lower_solve(entries: Tensor, b: Tensor, *, transpose: bool) -> Tensor:
    """The solution y of (1 + N) y = b, or of (1 + N)ᵀ y = b, for each of n matrices at once.

    Substitution whose every step is one operation on rows of length n: many times as fast as a batch of LAPACK calls.
    An operator of its own, so that `torch.compile` calls it instead of unrolling it.

    Arguments:
        entries: N below the diagonal, column by column, (m(m − 1)/2, n).
        b: right-hand sides, (m, n).
        transpose: which system.

    Returns:
        y, (m, n).
    """
    y: Tensor = torch.ops.boltzgen.unit_lower_solve(entries, b, transpose)
    return y


def _substitute(entries: Tensor, b: Tensor, transpose: bool) -> Tensor:
    y = b.clone(memory_format=torch.contiguous_format)
    m = len(y)
    columns = entries.split_with_sizes(list(range(m - 1, 0, -1)))
    if transpose:
        for j in range(m - 2, -1, -1):
            y[j] -= (columns[j] * y[j + 1 :]).sum(0)
    else:
        for j in range(m - 1):
            y[j + 1 :].addcmul_(columns[j], y[j], value=-1)
    return y


def _fake(entries: Tensor, b: Tensor, transpose: bool) -> Tensor:
    return torch.empty_like(b, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)
    ctx.transpose = inputs[2]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    entries, y = ctx.saved_tensors
    w = unit_lower_solve(entries, grad, transpose=not ctx.transpose)
    rows, columns = _packed(len(y), y.device)
    i, j = (columns, rows) if ctx.transpose else (rows, columns)
    return -w.index_select(0, i) * y.index_select(0, j), w, None


_NAME = "boltzgen::unit_lower_solve"
torch.library.define(_NAME, "(Tensor entries, Tensor b, bool transpose) -> Tensor")
torch.library.impl(_NAME, "default", _substitute)
torch.library.register_fake(_NAME, _fake)
torch.library.register_autograd(_NAME, _backward, setup_context=_save)


def _packed(m: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Row and column of every entry below the diagonal, column by column."""
    columns, rows = torch.triu_indices(m, m, 1, device=device)
    return rows, columns
