"""The monotone rational-quadratic spline on [0, 1]: value and log-derivative in one pass, either way."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["rational_quadratic_spline"]

_TINY = 1e-30  # keeps the gradient of a square root finite; far below every discriminant that floats can resolve


def rational_quadratic_spline(
    x: Tensor,
    widths: Tensor,
    heights: Tensor,
    derivatives: Tensor,
    *,
    min_width: float,
    min_height: float,
    min_derivative: float,
    inverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Monotone rational-quadratic spline [0, 1] → [0, 1] through K + 1 knots, and its log-derivative.

    In the bin k of width w and height h, with slope s = h/w, t = (x − x_k)/w and m = t(1 − t):

        y = y_k + h (s t² + d_k m) / D,   D = s (1 − 2m) + (d_k + d_{k+1}) m
        y' = s² (d_{k+1} t² + 2 s m + d_k (1 − t)²) / D²

    Every term is positive, so nothing cancels. All parameters zero give the identity. Whatever the finite input and
    parameters, value and gradient are finite; x outside [0, 1] is moved to the nearer end.

    A floor is a defensive mixture: whatever the parameters say, each bin keeps `min_width` of x and `min_height` of y,
    which is probability that a density pays everywhere.

    Arguments:
        x: points of any shape (…); ordinates if `inverse`.
        widths, heights: unnormalised, (…, K); a softmax makes them sum to one.
        derivatives: unnormalised, (…, K + 1); the derivative at a knot lies between `min_derivative` and its reciprocal.
        min_width, min_height: floors of the normalised bins, below 1/K.
        min_derivative: floor of the derivatives, below 1.
        inverse: solve y(x) for x instead.

    Returns:
        y (or x) and log |dy/dx| (or log |dx/dy|), both (…).

    References:
        Durkan, Bekasov, Murray, Papamakarios (2019), Neural Spline Flows, eqs. 4-8.
    """
    K = widths.shape[-1]
    bound = -math.log(min_derivative)
    w = min_width + (1 - min_width * K) * widths.softmax(-1)
    h = min_height + (1 - min_height * K) * heights.softmax(-1)
    d = (bound * functional.softsign(derivatives / bound)).exp()
    X, Y = (functional.pad(functional.pad(v[..., :-1].cumsum(-1), (1, 0)), (0, 1), value=1.0) for v in (w, h))

    x = x.clamp(0, 1)
    k = (x[..., None] >= (Y if inverse else X)[..., 1:-1]).sum(-1, keepdim=True)
    at = torch.cat([k, k + 1, k + (K + 1), k + (K + 2), k + (2 * K + 2), k + (2 * K + 3)], -1)
    x0, x1, y0, y1, d0, d1 = torch.cat([X, Y, d], -1).gather(-1, at).unbind(-1)
    w, h = (x1 - x0).clamp_min(min_width), (y1 - y0).clamp_min(min_height)
    s = h / w

    if inverse:  # (s - d0 + v q) t² + (d0 - v q) t = s v, by the form of the root that does not cancel
        v = ((x - y0) / h).clamp(0, 1)
        b = d0 - v * (d0 + d1 - 2 * s)
        a, c = s - b, s * v
        r = b.abs() + (b * b + 4 * a * c).clamp_min(_TINY).sqrt()
        t = torch.where(b > 0, 2 * c, r) / torch.where(b > 0, r, 2 * a)
    else:
        t = (x - x0) / w
    t = t.clamp(0, 1)
    m = t * (1 - t)
    D = s * (1 - 2 * m) + (d0 + d1) * m
    log_derivative = 2 * (s / D).log() + (d1 * t * t + 2 * s * m + d0 * (1 - t) ** 2).log()
    if inverse:
        return x0 + w * t, -log_derivative
    return y0 + h * (s * t * t + d0 * m) / D, log_derivative
