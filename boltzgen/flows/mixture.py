"""The base of many modes: a mixture of normal laws, drawn with exact gradients of all its parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import InputError
from .bases import Base

__all__ = ["GaussianMixture"]


class GaussianMixture(Base):
    """A mixture of K normal laws, p(z) = Σ_k π_k Π_i N(z_i; μ_ki, σ_ki²), with trainable π, μ and σ.

    Draws are differentiable in all of them, the weights π included, although the choice of a component is not: with
    F_i the conditional distribution function of z_i given those before it, F_i(z_i; ψ) keeps its value while the
    parameters ψ move, hence ∂z_i/∂ψ = −(∂F_i/∂ψ)/p_i.

    Arguments:
        means: the initial μ, (K, d).
        scales: the initial σ > 0, a number or (K, d).
        weights: the initial π, positive, (K,), normalised here; equal if None.

    Attributes:
        means, log_scales, logits: μ, log σ and log π up to a constant.

    Raises:
        InputError: if the shapes do not fit, or a scale or weight is not positive.

    Example:
        >>> base = GaussianMixture(torch.tensor([[-2.0], [2.0]]), scales=0.5)
        >>> base.log_prob(torch.zeros(1, 1)).detach()
        tensor([-8.2258])

    References:
        Figurnov, Mohamed, Mnih (2018), Implicit reparameterization gradients.
    """

    def __init__(self, means: Tensor, *, scales: float | Tensor = 1.0, weights: Tensor | None = None) -> None:
        if means.ndim != 2:
            raise InputError(f"means must have shape (K, d); got {tuple(means.shape)}: give one row per component")
        scales = torch.as_tensor(scales, dtype=means.dtype)
        weights = torch.ones(len(means)) if weights is None else weights
        if scales.shape not in (torch.Size([]), means.shape) or tuple(weights.shape) != (len(means),):
            raise InputError(
                f"scales and weights must have shapes {tuple(means.shape)} and ({len(means)},); got "
                f"{tuple(scales.shape)} and {tuple(weights.shape)}: give one row per component"
            )
        positive = bool((scales > 0).all() and (weights > 0).all())
        if not positive or not all(bool(v.isfinite().all()) for v in (means, scales, weights)):
            raise InputError(
                "means must be finite, scales and weights positive; got one that is not: leave that component out"
            )
        super().__init__(means.shape[1])
        dtype = torch.get_default_dtype()
        self.means = nn.Parameter(means.detach().to(dtype, copy=True))
        self.log_scales = nn.Parameter(scales.detach().log().expand_as(means).to(dtype, copy=True))
        self.logits = nn.Parameter(weights.detach().log().to(dtype, copy=True))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        dtype = self._like.dtype
        u = torch.rand(n, generator=generator, dtype=dtype).to(self._like.device)
        noise = torch.randn(n, *self.event_shape, generator=generator, dtype=dtype).to(self._like.device)
        with torch.no_grad():
            edges = self.logits.softmax(0).cumsum(0)[:-1]
            k = torch.searchsorted(edges, u, right=True)
            z = self.means[k] + self.log_scales.exp()[k] * noise
        return self._with_gradient(z) if torch.is_grad_enabled() else z

    def log_prob(self, z: Tensor) -> Tensor:
        t = (z[:, None] - self.means) * (-self.log_scales).exp()  # (n, K, d)
        return (_log_normal(t, self.log_scales).sum(-1) + self.logits.log_softmax(0)).logsumexp(-1)

    def _with_gradient(self, z: Tensor) -> Tensor:
        """z itself, with the gradient that keeps every conditional distribution function where it is."""
        log_weights = self.logits.log_softmax(0).expand(len(z), -1)  # of the components, given the dimensions before
        columns: list[Tensor] = []
        for column, mean, log_scale in zip(z.T, self.means.T, self.log_scales.T, strict=True):
            t = (column[:, None] - mean) * (-log_scale).exp()
            weights, below = log_weights.softmax(-1), torch.special.ndtr(t)
            upper = (weights * below).sum(-1, keepdim=True) > 0.5
            # F or F − 1, whichever is small: there the rounding of the other would drown the change
            moved = (weights * torch.where(upper, -torch.special.ndtr(-t), below)).sum(-1)
            p = (weights * _log_normal(t, log_scale).exp()).sum(-1)
            columns.append(column - (moved - moved.detach()) / p.detach())
            t = (columns[-1][:, None] - mean) * (-log_scale).exp()
            log_weights = log_weights + _log_normal(t, log_scale)
        return torch.stack(columns, -1)


def _log_normal(t: Tensor, log_scale: Tensor) -> Tensor:
    """Logarithm of the normal density at t standard deviations from the mean."""
    return -0.5 * t.square() - log_scale - 0.5 * math.log(2 * math.pi)
