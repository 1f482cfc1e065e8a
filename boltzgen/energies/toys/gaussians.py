"""Gaussians, one or forty."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import InputError
from ..energy import Energy
from .draws import uniform
from .quadrature import grid, panels

__all__ = ["Gaussian", "GaussianMixture40"]


class Gaussian(Energy):
    """Normal density of any mean and covariance, u = ½ (x − μ)ᵀ Σ⁻¹ (x − μ), whose integral is (2π)^(d/2) |Σ|^½.

    Arguments:
        mean: μ, (d,).
        covariance: Σ, (d, d).

    Raises:
        InputError: unless the covariance is symmetric, positive definite, and of the mean's size.

    Example:
        >>> print(f"{Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 4.0]]).log_partition():.6f}")  # log 4π
        2.531024
    """

    def __init__(self, mean: Sequence[float] | Tensor, covariance: Sequence[Sequence[float]] | Tensor) -> None:
        mu = torch.as_tensor(mean, dtype=torch.float64)
        sigma = torch.as_tensor(covariance, dtype=torch.float64)
        if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
            raise InputError(
                f"mean and covariance must have shapes (d,) and (d, d); got {tuple(mu.shape)} and "
                f"{tuple(sigma.shape)}: pass one row of the covariance for each coordinate"
            )
        factor, failed = torch.linalg.cholesky_ex(sigma)
        if failed or not torch.allclose(sigma, sigma.T):
            raise InputError(
                "covariance must be symmetric and positive definite; got one that is not: pass e.g. torch.eye(d)"
            )
        super().__init__(len(mu))
        self.mean: Tensor
        self.factor: Tensor
        self.whitening: Tensor
        self.register_buffer("mean", mu.clone())
        self.register_buffer("factor", factor)
        self.register_buffer("whitening", torch.linalg.inv(factor))

    def _energy(self, x: Tensor) -> Tensor:
        # products and sums rather than a matrix product, whose last bits depend on the other rows
        z: Tensor = (self.whitening.to(x.dtype) * (x - self.mean.to(x.dtype))[:, None, :]).sum(-1)
        return 0.5 * z.square().sum(-1)

    def log_partition(self) -> float:
        """log Z = d/2 log 2π + ½ log |Σ|."""
        return 0.5 * len(self.mean) * math.log(2 * math.pi) + self.factor.diagonal().log().sum().item()

    def entropy(self) -> float:
        """−E_p[log p] = log Z + d/2, in nats."""
        return self.log_partition() + 0.5 * len(self.mean)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """Independent draws, (n, d)."""
        z = torch.special.ndtri(uniform(n, len(self.mean), seed))
        x: Tensor = self.mean + (self.factor * z[:, None, :]).sum(-1)
        return x.to(torch.get_default_dtype())


class GaussianMixture40(Energy):
    """Forty equal, round Gaussians scattered over the square [−40, 40]², u = −log Σ_k exp(−|x − μ_k|²/2σ²)/(40·2πσ²).

    σ = log(1 + e), and the centres are the first numbers of PyTorch's stream of seed 0. The density is normalised.

    Example:
        >>> GaussianMixture40().locs[0]
        tensor([-0.2995, 21.4577], dtype=torch.float64)

    References:
        Midgley, Stimper, Simm, Schölkopf, Hernández-Lobato (2023), "Flow annealed importance sampling bootstrap".
    """

    scale = math.log1p(math.e)

    def __init__(self) -> None:
        super().__init__(2)
        stream = torch.rand(40, 2, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
        self.locs: Tensor
        self.register_buffer("locs", ((stream - 0.5) * 80).double())

    def _energy(self, x: Tensor) -> Tensor:
        square = (x[:, None] - self.locs.to(x.dtype)).square().sum(-1)  # (n, 40)
        constant = math.log(40 * 2 * math.pi * self.scale**2)
        return constant - torch.logsumexp(square / (-2 * self.scale**2), -1)

    def log_partition(self) -> float:
        """log Z = 0."""
        return 0.0

    def entropy(self) -> float:
        """−E_p[log p] in nats, by quadrature."""
        axis = panels([-52.0, 52.0], 64, order=8)
        x, log_w = grid(axis, axis)
        u = self._energy(x)
        return ((log_w - u).exp() * u).sum().item()

    def sample(self, n: int, *, seed: int) -> Tensor:
        """Independent draws, (n, 2)."""
        p = uniform(n, 3, seed)
        k = (40 * p[:, 0]).long()
        x: Tensor = self.locs[k] + self.scale * torch.special.ndtri(p[:, 1:])
        return x.to(torch.get_default_dtype())
