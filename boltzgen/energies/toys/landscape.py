"""A toy in the plane with two named states, whose exact answers are integrals."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from ..energy import Energy

__all__ = ["Landscape"]


class Landscape(Energy):
    """An energy of (x, y) with states a and b that share the plane; its integrals are done by quadrature in float64.

    A subclass writes `_energy`, `_in_a`, and `_nodes`, whose panels end where a meets b.
    """

    def __init__(self) -> None:
        super().__init__(2)

    @abstractmethod
    def _in_a(self, x: Tensor) -> Tensor:
        """Whether x, (n, 2), lies in a, (n,)."""

    @abstractmethod
    def _nodes(self) -> tuple[Tensor, Tensor]:
        """Nodes (m, 2) and logarithmic weights (m,) of the integral over the plane."""

    def in_a(self, x: Tensor) -> Tensor:
        """Mask of state a, (n, 2) → (n,)."""
        self._check(x)
        return self._in_a(x)

    def in_b(self, x: Tensor) -> Tensor:
        """Mask of state b, everything that is not a, (n, 2) → (n,)."""
        return ~self.in_a(x)

    def log_partition(self) -> float:
        """log Z = log ∫ exp(−u) dx dy."""
        x, log_w = self._nodes()
        return torch.logsumexp(log_w - self._energy(x), 0).item()

    def free_energy_difference(self) -> float:
        """F_b − F_a = −log(Z_b / Z_a) in kT."""
        x, log_w = self._nodes()
        log_p, a = log_w - self._energy(x), self._in_a(x)
        return (torch.logsumexp(log_p[a], 0) - torch.logsumexp(log_p[~a], 0)).item()

    def entropy(self) -> float:
        """−E_p[log p] = log Z + E_p[u], of the normalised density, in nats."""
        x, log_w = self._nodes()
        u = self._energy(x)
        p = (log_w - u).softmax(0)
        return self.log_partition() + torch.where(p > 0, p * u, 0.0).sum().item()
