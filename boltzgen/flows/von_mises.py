"""The base of angles about a mean: von Mises laws, whose draws follow their parameters."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from .bases import Base

__all__ = ["VonMises"]

_NODES, _WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(64))  # of [−1, 1]
_REACH = 9.0  # standard deviations, beyond which a law has less than 1e-17 of its height


class VonMises(Base):
    """Independent von Mises laws of d angles, p(z) = Π_i exp(κ_i cos(z_i − μ_i)) / (2π I_0(κ_i)); draws in [−π, π).

    If μ and κ are trainable, draws move with them: the distribution function of each, F(z − μ; κ), keeps its value,
    hence ∂z/∂μ = 1 and, with t from z − μ to π,

        ∂z/∂κ = −(∂F/∂κ)/p = ∫ (cos t − I_1(κ)/I_0(κ)) exp(κ cos t − κ cos(z − μ)) dt

    which is computed to 1e-9 by Gauss-Legendre quadrature. These gradients of draws have no gradients themselves.

    Arguments:
        mean: μ in radians, (d,).
        concentration: κ > 0, (d,), below 1e12; about the reciprocal of the variance when large.
        trainable: whether μ and log κ are parameters; they stay as given otherwise.

    Attributes:
        mean, log_concentration: μ and log κ.
        concentration: κ.

    Raises:
        InputError: if the shapes differ, a mean is not finite, or a concentration not positive or not below 1e12.

    Example:
        >>> base = VonMises(torch.zeros(1), torch.ones(1), trainable=True)
        >>> base.sample(5).requires_grad
        True

    References:
        Best, Fisher (1979), Efficient simulation of the von Mises distribution. Figurnov, Mohamed, Mnih (2018),
        Implicit reparameterization gradients.
    """

    mean: Tensor
    log_concentration: Tensor

    def __init__(self, mean: Tensor, concentration: Tensor, *, trainable: bool = False) -> None:
        fits = mean.ndim == 1 and mean.shape == concentration.shape and bool(mean.isfinite().all())
        if not fits or not bool(((concentration > 0) & (concentration < 1e12)).all()):
            raise InputError(
                f"finite mean and positive concentration below 1e12 must have one shape (d,); got {tuple(mean.shape)} "
                f"and {concentration}: use UniformTorus where the concentration is 0"
            )
        super().__init__(len(mean))
        for name, value in (("mean", mean), ("log_concentration", concentration.log())):
            value = value.detach().to(torch.get_default_dtype(), copy=True)
            if trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    @property
    def concentration(self) -> Tensor:
        return self.log_concentration.exp()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        with torch.no_grad():
            kappa = self.concentration.double().cpu()
            deviation = _deviations(n, kappa, generator)
            z = self.mean.double().cpu() + deviation
            z = ((z + math.pi).remainder(2 * math.pi) - math.pi).to(self._like)
        if not (self.mean.requires_grad and torch.is_grad_enabled()):
            return z
        moved = self.log_concentration - self.log_concentration.detach()
        return z + (self.mean - self.mean.detach()) + _slopes(deviation, kappa).to(self._like) * moved

    def log_prob(self, z: Tensor) -> Tensor:
        kappa = self.concentration
        constant = math.log(2 * math.pi) + torch.special.i0e(kappa.double()).log()  # its slope is a small difference
        log_p: Tensor = (-2 * kappa * ((z - self.mean) / 2).sin().square() - constant.to(kappa)).sum(-1)
        return log_p

    def tempered(self, ratio: float) -> VonMises:
        if isinstance(self.mean, nn.Parameter):
            raise InputError(
                "a von Mises base must stay as given to be tempered; got a trainable one: build it with trainable=False"
            )
        twin = copy.deepcopy(self)  # in its own dtype, which the constructor would round
        twin.log_concentration -= math.log(ratio)
        return twin


def _deviations(n: int, kappa: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws about a mean of zero, (n, d)."""
    root = (1 + 4 * kappa.square()).sqrt()
    rho = 2 * kappa / (1 + root + (2 * (1 + root)).sqrt())  # (τ − √(2τ))/2κ with τ = 1 + root, not cancelling
    r = (1 + rho.square()) / (2 * rho)
    cosine = torch.zeros(n, len(kappa), dtype=torch.float64)
    missing = torch.ones_like(cosine, dtype=torch.bool)
    while bool(missing.any()):  # two in three proposals or more are accepted
        u = torch.rand(2, *cosine.shape, generator=generator, dtype=torch.float64)
        c = (math.pi * u[0]).cos()
        proposal = (1 + r * c) / (r + c)
        accepted = missing & (kappa * (r - proposal)).log().sub(kappa * (r - proposal)).add(1).exp().ge(u[1])
        cosine, missing = torch.where(accepted, proposal, cosine), missing & ~accepted
    sign = torch.rand(cosine.shape, generator=generator, dtype=torch.float64) - 0.5
    return cosine.clamp(-1, 1).acos() * sign.sign()


def _slopes(deviation: Tensor, kappa: Tensor) -> Tensor:
    """∂z/∂log κ of draws so far from their mean, (n, d)."""
    distance = deviation.abs()
    half = torch.minimum(math.pi - distance, _REACH / kappa.sqrt()) / 2
    step = half[..., None] * (1 + _NODES)  # t − |z − μ|, (n, d, nodes)
    t = distance[..., None] + step
    fall = -2 * (t - step / 2).sin() * (step / 2).sin()  # cos t − cos(z − μ)
    excess = (1 - torch.special.i1e(kappa) / torch.special.i0e(kappa))[:, None] - 2 * (t / 2).sin().square()
    integral: Tensor = half * ((excess * (kappa[:, None] * fall).exp()) @ _WEIGHTS)
    return kappa * deviation.sign() * integral
