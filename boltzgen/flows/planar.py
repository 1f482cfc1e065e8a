"""The two flows of one bump: planar, along a direction, and radial, around a point."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .bijection import Bijection
from .conditioner import Conditioner
from .root import solve_increasing

__all__ = ["Planar", "Radial"]

_TINY = 1e-30
_MARGIN = 1e-3  # how far from −1 the slope of a bump stays, so that floats can invert it


class Planar(Bijection):
    """A planar flow, x = z + û tanh(a) with a = w·z + b, log_det = log(1 + w·û (1 − tanh² a)).

    û is u plus the multiple of w that makes w·û = m(w·u), m(c) = 0.999 (log(1 + (e − 1) e^c) − 1) > −1, which makes it
    invertible, and the identity at u = 0, where the layer starts. The inverse is that of the one number a, found by
    bracketed Newton iteration to the rounding of the dtype, which it amplifies by 1/(1 + w·û), at most a thousandfold.

    Arguments:
        dim: number of dimensions d.
        context: length of the context that u, w and b depend on; learned constants if 0.
        hidden: widths of the hidden layers of the network from context to u, w, b.
        generator: source of the initial w; the default generator of torch if None.

    References:
        Rezende, Mohamed (2015), Variational inference with normalizing flows, eqs. 10-12 and appendix A.1, there with
        m(c) = log(1 + e^c) − 1, which is not the identity at u = 0.
    """

    def __init__(
        self,
        dim: int,
        *,
        context: int = 0,
        hidden: tuple[int, ...] = (64, 64),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(dim, context_size=context)
        self.conditioner = Conditioner(0, 0, context, [dim, dim, 1], hidden=hidden, generator=generator)
        with torch.no_grad():  # at u = w = 0 every gradient vanishes
            self.conditioner.get_parameter("heads.1.bias").normal_(0.0, dim**-0.5, generator=generator)

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        u, w, b, wu = self._theta(z, context)
        a = (w * z.T).sum(0) + b
        return (z.T + u * a.tanh()).T, _slope(a, wu).log()

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        u, w, b, wu = self._theta(x, context)
        y = (w * x.T).sum(0) + b
        reach = wu.abs() * (1 + 1e-6) + 1e-6 * (1 + y.abs())
        a = solve_increasing(lambda a: (a + wu * a.tanh(), _slope(a, wu)), y, y - reach, y + reach)
        return (x.T - u * a.tanh()).T, -_slope(a, wu).log()

    def _theta(self, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """û, w, b and w·û, batch last."""
        nothing = v.new_zeros(0, len(v))
        u, w, b = self.conditioner(nothing, nothing, context)
        wu = (w * u).sum(0)
        bounded = _above_minus_one(wu)
        return u + (bounded - wu) * w / w.square().sum(0).clamp_min(_TINY), w, b[0], bounded


class Radial(Bijection):
    """A radial flow, x = z + β̂ (z − c)/(α + r) with r = |z − c|,

        log_det = (d − 1) log(1 + β̂/(α + r)) + log(1 + α β̂/(α + r)²).

    α = exp(s) > 0 and β̂ = α m(β) > −α, with m as in `Planar`, make it invertible, and the identity at β = 0, where it
    starts. The inverse solves a quadratic in r, by the form of the root that does not cancel; where the layer
    contracts, it amplifies rounding at most a thousandfold.

    Arguments:
        dim: number of dimensions d.
        context: length of the context that c, s and β depend on; learned constants if 0.
        hidden: widths of the hidden layers of the network from context to c, s, β.
        generator: source of the initial c; the default generator of torch if None.

    References:
        Rezende, Mohamed (2015), eqs. 13-14 and appendix A.2.
    """

    def __init__(
        self,
        dim: int,
        *,
        context: int = 0,
        hidden: tuple[int, ...] = (64, 64),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(dim, context_size=context)
        self.conditioner = Conditioner(0, 0, context, [dim, 1, 1], hidden=hidden, generator=generator)
        with torch.no_grad():  # layers that start alike would learn alike
            self.conditioner.get_parameter("heads.0.bias").normal_(generator=generator)

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        centre, alpha, beta = self._theta(z, context)
        v = z.T - centre
        r = _length(v)
        return (z.T + v * (beta / (alpha + r))).T, self._log_det(r, alpha, beta)

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        centre, alpha, beta = self._theta(x, context)
        v = x.T - centre
        length = _length(v)  # r² + p r − α |x − c| = 0
        p = alpha + beta - length
        root = (p * p + 4 * alpha * length).clamp_min(_TINY).sqrt() + p.abs()
        r = torch.where(p > 0, 2 * alpha * length / root, root / 2)
        return (centre + v * ((alpha + r) / (alpha + r + beta))).T, -self._log_det(r, alpha, beta)

    def _log_det(self, r: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        h = 1 / (alpha + r)
        return (self.in_shape[0] - 1) * torch.log1p(beta * h) + torch.log1p(alpha * beta * h * h)

    def _theta(self, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """c (d, n), α and β̂ (n,)."""
        nothing = v.new_zeros(0, len(v))
        centre, s, beta = self.conditioner(nothing, nothing, context)
        alpha = s[0].exp()
        return centre, alpha, alpha * _above_minus_one(beta[0])


def _slope(a: Tensor, wu: Tensor) -> Tensor:
    """Derivative of a + w·û tanh a."""
    return 1 + wu * (1 - a.tanh().square())


def _above_minus_one(c: Tensor) -> Tensor:
    """m(c), increasing from −1, with m(0) = 0."""
    return (1 - _MARGIN) * (functional.softplus(c + math.log(math.e - 1)) - 1)


def _length(v: Tensor) -> Tensor:
    return v.square().sum(0).clamp_min(_TINY).sqrt()
