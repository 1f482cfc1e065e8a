"""Clusters of particles whose energy depends on their distances only."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from ...errors import InputError
from ..combinators import Pullback
from ..energy import Energy

__all__ = ["DW4", "LJ13"]


class _Cluster(Energy):
    """Energy of n particles in k dimensions, x of shape (batch, n·k), the same wherever the centroid is.

    Such an energy is normalisable only on the configurations whose centroid is zero: those of `centred()`.
    """

    def __init__(self, n: int, k: int) -> None:
        super().__init__(n * k)
        self.n, self.k = n, k
        # orthonormal columns that sum to zero, each putting one more particle against those before it (Helmert)
        m = torch.arange(1, n, dtype=torch.float64)
        basis = torch.triu(torch.ones(n, n - 1, dtype=torch.float64)) - torch.diag(m, -1)[:, : n - 1]
        self.basis: Tensor
        self.register_buffer("basis", basis / (m * (m + 1)).sqrt())
        self.pairs: Tensor
        self.register_buffer("pairs", torch.triu_indices(n, n, 1))

    @abstractmethod
    def _cluster_energy(self, x: Tensor, d: Tensor) -> Tensor:
        """u, (batch,), from positions (batch, n, k) and the displacements (batch, pairs, k) between them."""

    def _energy(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, self.n, self.k)
        i, j = self.pairs
        return self._cluster_energy(x, x[:, i] - x[:, j])

    def centred(self) -> Pullback:
        """The energy on orthonormal coordinates y, (batch, (n − 1)·k), of the configurations whose centroid is zero."""
        return Pullback(self, self._zero_centroid, event_shape=(self.n - 1) * self.k)

    def _zero_centroid(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = y.reshape(-1, 1, self.n - 1, self.k)
        x: Tensor = (self.basis.to(y.dtype)[:, :, None] * y).sum(-2)
        return x.flatten(1), torch.zeros_like(x[:, 0, 0])


class DW4(_Cluster):
    """Four particles in the plane, u = Σ_{i<j} 0.9 (d_ij − 4)⁴ − 4 (d_ij − 4)²; x is (n, 8).

    On zero centroid E_p[u] = −22.544 ± 0.004, and the virial E_p[x·∇u] is exactly 6.

    References:
        Köhler, Klein, Noé (2020), "Equivariant flows".
    """

    def __init__(self) -> None:
        super().__init__(4, 2)

    def _cluster_energy(self, x: Tensor, d: Tensor) -> Tensor:
        square: Tensor = (torch.linalg.vector_norm(d, dim=-1) - 4).square()
        return (square * (0.9 * square - 4)).sum(-1)


class LJ13(_Cluster):
    """Thirteen Lennard-Jones particles on springs, u = c Σ_{i<j} (d⁻¹² − 2 d⁻⁶) + ½ Σ_i |x_i − x̄|²; x is (n, 39).

    Papers differ in c, which makes two different targets: there is no default.

    Arguments:
        pairs_counted: c, 1 or 2.

    Raises:
        InputError: if c is neither.

    References:
        Köhler, Klein, Noé (2020), "Equivariant flows".
    """

    def __init__(self, *, pairs_counted: int) -> None:
        if pairs_counted not in (1, 2):
            raise InputError(
                f"pairs_counted must be 1 or 2; got {pairs_counted!r}: choose the convention compared with"
            )
        super().__init__(13, 3)
        self.pairs_counted = pairs_counted

    def _cluster_energy(self, x: Tensor, d: Tensor) -> Tensor:
        sixth: Tensor = d.square().sum(-1) ** -3
        spring = 0.5 * (x - x.mean(1, keepdim=True)).square().sum((1, 2))
        return self.pairs_counted * (sixth * (sixth - 2)).sum(-1) + spring
