"""The monotone rational-quadratic spline on [0, 1]: value and log-derivative in one pass, either way."""

from __future__ import annotations

import math
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from ..arguments import positive_counts

__all__ = ["Floors", "float32_floors", "rational_quadratic_spline"]

_TINY = 1e-30  # keeps the gradient of a square root finite; far below every discriminant that floats can resolve


class Floors(TypedDict):
    """The least bins and derivatives of a spline; see `rational_quadratic_spline`."""

    min_width: float
    min_height: float
    min_derivative: float


def float32_floors(bins: int = 8) -> Floors:
    """Floors with which a spline loses at most 1e-5 on a round trip in float32, whatever its parameters.

    Slopes of bins and derivatives at knots lie between 1/3 and 3, hence y' between 1/27 and 6. The 1e-5 holds for
    `Spline` of the default reach and `CircularSpline` in their own units, but not for the affine map that follows a
    `Spline`, and it costs flexibility.

    Arguments:
        bins: number of bins K of the spline.

    Raises:
        InputError: unless bins is a positive integer.

    Example:
        >>> from boltzgen.flows import Coupling, Spline
        >>> layer = Coupling(2, [0], [1], Spline(1, **float32_floors()))
    """
    (bins,) = positive_counts(bins=bins)
    return {"min_width": 1 / (bins + 2), "min_height": 1 / (bins + 2), "min_derivative": 1 / 3}


def rational_quadratic_spline(
    x: Tensor,
    bins: Tensor,
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

    Floors bound the slopes too: δ min(1, s)² ≤ y' ≤ max(2S, 1/δ), with δ = `min_derivative` and the slopes of bins
    between s = min_height/(1 − (K − 1) min_width) and S = (1 − (K − 1) min_height)/min_width. Since y is rounded,
    x → y → x loses up to ε (1 + 1/min y'), ε the rounding of the dtype, and no solution of y(x) could bring it back: in
    float32 less than 1e-5 where y' > 0.03, and everywhere if the floors see to that (`float32_floors`), but anything
    where y' comes near the 1e-9 that floors of 1e-3 allow. y → x → y loses up to ε (1 + max y').

    Arguments:
        x: points of any shape (…); ordinates if `inverse`.
        bins: unnormalised widths and heights, (2, K, …); a softmax makes each sum to one.
        derivatives: unnormalised, at the K + 1 knots, (K + 1, …), or at the first K of a periodic spline, (K, …);
            a derivative lies between `min_derivative` and its reciprocal.
        min_width, min_height: floors of the normalised bins, below 1/K.
        min_derivative: floor of the derivatives, below 1.
        inverse: solve y(x) for x instead.

    Returns:
        y (or x) and log |dy/dx| (or log |dx/dy|), both (…).

    References:
        Durkan, Bekasov, Murray, Papamakarios (2019), Neural Spline Flows, eqs. 4-8.
    """
    K = bins.shape[1]
    x = x.clamp(0, 1)
    shares = bins.softmax(1)
    with torch.no_grad():  # which bin
        share, floor = (shares[1], min_height) if inverse else (shares[0], min_width)
        edges = torch.arange(1, K + 1, dtype=x.dtype, device=x.device).view(K, *[1] * x.ndim)
        edges = share.cumsum(0).mul_(1 - K * floor).add_(edges, alpha=floor)  # right ends; they ascend, rounded too
        before = edges.le_(x)  # one for a bin wholly to the left of x, zero for the others: no booleans, which are slow
        before[-1].zero_()
        position = before.sum(0)
        k = position.long()[None]
        following = k + 1 if len(derivatives) > K else (k + 1).masked_fill_(k == K - 1, 0)
    (x0, y0), (w, h) = (shares * before).sum(1), shares.gather(1, k.expand(2, *k.shape)).squeeze(1)
    x0, y0 = min_width * position + (1 - K * min_width) * x0, min_height * position + (1 - K * min_height) * y0
    w, h = min_width + (1 - K * min_width) * w, min_height + (1 - K * min_height) * h
    d = derivatives.gather(0, torch.cat([k, following]))
    bound = -math.log(min_derivative)
    if bound < 1:  # d / bound must not overflow
        limit = bound * torch.finfo(d.dtype).max / 2
        d = d.clamp(-limit, limit)
    d0, d1 = (bound * functional.softsign(d / bound)).exp()
    s = h / w

    if inverse:  # (s − b) t² + b t = s v with b = d0 − v q, by the form of the root that does not cancel
        v = ((x - y0) / h).clamp(0, 1)
        b = d0 - v * (d0 + d1 - 2 * s)
        a, c = s - b, s * v
        r = b.abs() + (b * b + 4 * a * c).clamp_min(_TINY).sqrt()
        t = torch.where(b > 0, 2 * c, r) / torch.where(b > 0, r, 2 * a)
    else:
        t = (x - x0) / w
    t = t.clamp(0, 1)
    u = 1 - t
    m = t * u
    D = s * (1 - 2 * m) + (d0 + d1) * m
    log_derivative = ((d1 * t * t + 2 * s * m + d0 * u * u) * (s / D).square()).log()
    if inverse:
        return x0 + w * t, -log_derivative
    return y0 + h * (s * t * t + d0 * m) / D, log_derivative
