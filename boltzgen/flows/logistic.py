"""The transformer of Flow++: a mixture of logistic distribution functions, smooth everywhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..arguments import positive_counts
from ..errors import InputError
from .root import solve_increasing
from .transformer import Affine, Transformer

__all__ = ["LogisticMixture"]


class LogisticMixture(Transformer):
    """The logit of a mixture of logistic distribution functions, followed by a translation and a scaling:

        y = (1 − δ) logit Σ_k π_k sigmoid(t_k) + δ z,  t_k = exp(−s_k) (z − μ_k),   x = μ + exp(σ) y.

    It is infinitely differentiable, and linear far away. The inverse, by bracketed Newton iteration to the rounding of
    the dtype, takes about ten times as long as `forward`. π, s_k and μ_k come from θ.

    Components that start as one learn alike, and stay one for long. Hence they start as K narrow ones of scale
    c = (1 + 1/K)/2 that add up to nearly one of scale 1: their centres are quantiles of the law ∝ 1/(cosh μ + cos πc),
    whose sum with a logistic of scale c is one of scale 1. So the map starts NEAR the identity: within a tenth up to
    |z| = 2 with 8 components, and steeper further out. μ is the start plus Q θ_μ in the orthonormal cosine basis Q of
    k, so that what moves all centres, which is large and noisy, leaves alone what parts them.

    Arguments:
        dim: number of dimensions m.
        components: number of logistic functions K.
        max_log_scale: bound of |s_k − log c| and |σ|.
        min_slope: δ, without which the slope between distant components would be too small for floats to invert.

    Raises:
        InputError: if there is no component or δ is no positive fraction.

    References:
        Ho, Chen, Srinivas, Duan, Abbeel (2019), Flow++, section 3.2.
    """

    _basis: Tensor
    _start: Tensor

    def __init__(self, dim: int, *, components: int = 8, max_log_scale: float = 5.0, min_slope: float = 1e-3) -> None:
        positive_counts(components=components)
        if not 1e-6 <= min_slope < 1:
            raise InputError(f"min_slope must lie between 1e-6 and 1; got {min_slope}: pass e.g. min_slope=1e-3")
        super().__init__(dim, [3 * components * dim, dim, dim])
        self.components, self.min_slope = components, min_slope
        self.affine = Affine(dim, max_log_scale=max_log_scale)
        k = torch.arange(components, dtype=torch.float64)
        basis = ((k[:, None] + 0.5) * k * math.pi / components).cos() * (2 / components) ** 0.5
        basis[:, 0] /= 2**0.5
        self.register_buffer("_basis", basis.to(torch.get_default_dtype()), persistent=False)
        self._scale = (1 + 1 / components) / 2
        turn = ((k + 0.5) / components - 0.5) * math.pi * self._scale
        start = 2 * (turn.tan() / math.tan(math.pi * self._scale / 2)).atanh()
        self.register_buffer("_start", start[:, None].to(torch.get_default_dtype()), persistent=False)

    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        y, step = self._mixture(z, *self._components(theta[0], z))
        x, log_det = self.affine(y, *theta[1:])
        return x, log_det + step.log().sum(0)

    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = self.affine.inverse(x, *theta[1:])
        components = self._components(theta[0], x)
        with torch.no_grad():  # where each component alone, and z alone, would be y: the answer lies between
            at = torch.cat([components[1] + y / components[2], y[None]])
            margin = 1e-6 * (1 + at.abs().amax(0))
        z = solve_increasing(lambda z: self._mixture(z, *components), y, at.amin(0) - margin, at.amax(0) + margin)
        return z, log_det - self._mixture(z, *components)[1].log().sum(0)

    def _components(self, theta: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log π, μ_k and exp(−s_k), each (K, m, n)."""
        logits, mean, log_scale = theta.view(3, self.components, *z.shape)
        bound = self.affine.max_log_scale
        mean = (self._start + self._basis @ mean.flatten(1)).view_as(mean)
        return logits.log_softmax(0), mean, (-bound * (log_scale / bound).tanh()).exp() / self._scale

    def _mixture(self, z: Tensor, log_pi: Tensor, mean: Tensor, inverse_scale: Tensor) -> tuple[Tensor, Tensor]:
        """y(z) and dy/dz: sums of positive terms, in logarithms, so that nothing overflows or cancels."""
        t = (z - mean) * inverse_scale
        below, above = log_pi + functional.logsigmoid(t), log_pi + functional.logsigmoid(-t)
        y = below.logsumexp(0) - above.logsumexp(0)
        slope = inverse_scale * (below.softmax(0) * torch.sigmoid(-t) + above.softmax(0) * torch.sigmoid(t))
        return torch.lerp(y, z, self.min_slope), (1 - self.min_slope) * slope.sum(0) + self.min_slope
