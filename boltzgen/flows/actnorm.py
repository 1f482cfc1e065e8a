"""A scaling and translation that take their first values from the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bijection import Bijection

__all__ = ["ActNorm"]


class ActNorm(Bijection):
    """A learned scaling and translation of every dimension, x = b + exp(s) z, which begins by standardising data.

    The first call in training mode with gradients enabled sets b and s so that its output, in the direction called, has
    mean 0 and variance 1 in every dimension (a constant one is only centred); after it they are ordinary parameters.
    So the first batch of `log_prob` standardises data layer by layer, and `sample`, which is without gradient, never
    touches it. That it has happened is state, `initialised`, saved with the parameters.

    One that depends on a context is a `Coupling` of all dimensions with nothing given but the context, and `Affine`.

    Arguments:
        dim: number of dimensions d.

    Example:
        >>> layer = ActNorm(1)
        >>> z, _ = layer.inverse(torch.tensor([[3.0], [5.0]]))
        >>> z.tolist(), layer.bias.tolist()
        ([[-1.0], [1.0]], [4.0])

    References:
        Kingma, Dhariwal (2018), Glow, section 3.1.
    """

    initialised: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.register_buffer("initialised", torch.tensor(False))

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if self._is_first_call(z):
            mean, log_std = _statistics(z)
            self._set(-mean * (-log_std).exp(), -log_std)
        return self.bias + self.log_scale.exp() * z, self.log_scale.sum().expand(len(z))

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if self._is_first_call(x):
            self._set(*_statistics(x))
        return (-self.log_scale).exp() * (x - self.bias), -self.log_scale.sum().expand(len(x))

    def _is_first_call(self, batch: Tensor) -> bool:
        return self.training and torch.is_grad_enabled() and len(batch) > 0 and not bool(self.initialised)

    def _set(self, bias: Tensor, log_scale: Tensor) -> None:
        with torch.no_grad():
            self.bias.copy_(bias)
            self.log_scale.copy_(log_scale)
            self.initialised.fill_(True)


def _statistics(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and logarithm of the standard deviation of every dimension."""
    std = batch.detach().std(0, correction=0)
    return batch.detach().mean(0), torch.where(std > 0, std, 1.0).log()
