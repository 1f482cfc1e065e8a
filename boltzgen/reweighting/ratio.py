"""The ratio of two means over the same draws, with its error: the one estimator behind all the others."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .weights import Array, scaled_weights

__all__ = ["Ratio", "Ratios", "log_of_mean", "powers", "ratio_of_means", "shares", "student", "with_influences"]

_NORMAL = 1.959963984540054  # 97.5 % quantile
_DEGREES, _SKEWED = 1.0, 1.25  # in place of 2 and 1: what sums of fourth and third powers lack in a heavy tail
_ALL = 1 - 1e-9  # share of the weight that leaves nothing to compare with


class Ratio(NamedTuple):
    """Ratio of two means, its standard error, and the limits of its 95 % confidence interval."""

    value: float
    standard_error: float
    low: float
    high: float


class Ratios(NamedTuple):
    """Many ratios: arrays of one shape."""

    value: Array
    standard_error: Array
    low: Array
    high: Array


def ratio_of_means(a: Array, b: Array, mean: Array | None = None) -> Ratio:
    """Ratio r = Σa / Σb for n independent pairs, b ≥ 0, both of shape (n,).

    The standard error is that of the delta method, √Σψ², with ψᵢ = (aᵢ − r bᵢ) / (Σb − bᵢ): leaving out draw i
    changes r by −ψᵢ, which is more than a linear expansion says of a draw that carries much of the weight.

    The interval is r − t se with two corrections for heavy and skewed weights: Student's quantile, with the degrees
    of freedom to which √Σψ² itself is known, and Hall's monotone cubic, which takes the skewness from r / se. They are

        ν = 1 / (Σψ⁴ / se⁴ − 1/n)    and    5/4 Σψ³ / se³ + 3/2 κ,    κ = Σᵢⱼ ψᵢ ψⱼ Qᵢⱼ / se³,

    with the second derivatives Q of the estimate, which bends where its draws do: −(ψᵢ bⱼ + bᵢ ψⱼ) / Σb for a ratio.
    The interval leans to the side on which the rare large weights are missing. For the same reason sums of high powers
    come out too small: ν is half of what Satterthwaite's rule makes of them, the skewness a quarter more. With that,
    intervals from lognormal weights cover what they should (`benchmarks/calibration.py`), and others do as before.

    The caller sees to it that Σb > 0.

    Arguments:
        a, b: the pairs.
        mean: for squares a = b (f − ⟨f⟩)² about an estimated mean, the influences ψ on that mean, (n,): what the
            squares lose to it bends r by −2 ψᵢ ψⱼ more.

    References:
        Efron & Stein, Ann. Stat. 9, 586 (1981). Hall, J. R. Stat. Soc. B 54, 221 (1992), and The Bootstrap and
        Edgeworth Expansion (1992), section 2.4, for smooth functions of means. Satterthwaite, Biometrics Bull. 2, 110
        (1946).
    """
    n, total = len(a), float(b.sum())
    value = float(a.sum()) / total
    if n < 2 or b.max() > _ALL * total:
        return Ratio(value, math.inf, -math.inf, math.inf)
    psi = (a - value * b) / (total - b)
    unit = psi / (_norm(psi) or 1.0)
    kappa = -2 * float(unit.dot(b)) / total
    if mean is not None and psi.any():
        kappa -= 2 * float(unit.dot(mean / math.sqrt(_norm(psi)))) ** 2
    return with_influences(value, psi, kappa)


def log_of_mean(log_w: Array) -> Ratio:
    """ln (1/n) Σ wᵢ; the caller sees to it that some weight is positive."""
    mean, error, low, high = ratio_of_means(scaled_weights(log_w), np.ones_like(log_w))
    offset = float(log_w.max())
    limits = (math.log(low) if low > 0 else -math.inf, math.log(high))
    return Ratio(offset + math.log(mean), error / mean, offset + limits[0], offset + limits[1])


def with_influences(value: float, psi: Array, kappa: float = 0.0) -> Ratio:
    """An estimate from n independent draws with its error: leaving out draw i changes it by −ψᵢ, ψ of shape (n,).

    Its curvature κ is as `ratio_of_means` has it.
    """
    size = _norm(psi)
    if size == 0:
        return Ratio(value, 0.0, value, value)
    psi = psi / size
    square = psi * psi
    error, low, high = _spread(np.array([square.sum(), square.dot(psi), square.dot(square)]), np.array(kappa), len(psi))
    return Ratio(value, size * float(error), value + size * float(low), value + size * float(high))


def shares(w: Array, inside: Array, outside: Array) -> Ratios:
    """Shares r = Σ_inside w / Σw of many sets of draws at once, each as `ratio_of_means(w · 1_inside, w)` has it.

    There ψᵢ = (1 − r) vᵢ inside and −r vᵢ outside, with vᵢ = wᵢ / (Σw − wᵢ): sums of powers of v, and of w v, are
    all it takes.

    Arguments:
        w: weights (n,), Σw > 0.
        inside: sums over each set of the columns of `powers(w)`, (5, …).
        outside: the same over all other draws.
    """
    total = w.sum()
    value: Array = inside[0] / (inside[0] + outside[0])
    if len(w) < 2 or w.max() > _ALL * total:
        return Ratios(value, *(np.full_like(value, limit) for limit in (math.inf, -math.inf, math.inf)))
    scale = (w / (total - w)).max()
    moments = [(1 - value) ** p * inside[p - 1] + (-value) ** p * outside[p - 1] for p in (2, 3, 4)]
    bend = ((1 - value) * inside[4] - value * outside[4]) / total
    kappa = -2 * bend / np.sqrt(np.where(moments[0] > 0, moments[0], 1.0))
    error, low, high = _spread(np.stack(moments), kappa, len(w))
    return Ratios(value, scale * error, value + scale * low, value + scale * high)


def powers(w: Array) -> Array:
    """What `shares` wants summed: w, then v², v³, v⁴ and w v with v = w / (Σw − w) over its largest, (5, n)."""
    rest = w.sum() - w
    v = np.divide(w, rest, out=np.zeros_like(w), where=rest > 0)
    v /= v.max() or 1.0
    square = v * v
    return np.stack([w, square, square * v, square * square, w * v])


def _norm(psi: Array) -> float:
    """√Σψ² without overflow."""
    largest = float(np.abs(psi).max())
    return largest * float(np.linalg.norm(psi / largest)) if largest else 0.0


def _spread(moments: Array, kappa: Array, n: int) -> tuple[Array, Array, Array]:
    """Standard error, and lower and upper end of the interval from the value, of Σψ², Σψ³, Σψ⁴ and κ, each (…)."""
    second, third, fourth = moments
    some = np.where(second > 0, second, 1.0)
    error = np.sqrt(second)
    quantile = student(_DEGREES / np.maximum(fourth / some / some - 1 / n, 1e-9))  # its square might be zero
    skewness = _SKEWED * third / some / np.sqrt(some) + 1.5 * kappa
    low, high = (-_unskewed(y, skewness) * error for y in (quantile, -quantile))
    return error, np.minimum(low, 0.0), np.maximum(high, 0.0)  # few draws may bend more than an expansion can follow


def _unskewed(y: Array, q: Array) -> Array:
    """The T with T + q T²/3 + q² T³/27 + q/6 = y: Hall's cubic, inverted."""
    small = np.abs(q) < 1e-6
    steep = np.where(small, 1.0, q)
    return np.where(small, y - q / 6, 3 / steep * (np.cbrt(1 + steep * (y - steep / 6)) - 1))


def student(degrees: Array) -> Array:
    """97.5 % quantile of Student's t for 2 degrees of freedom or more, within 3 %; a quarter less at one.

    References:
        Abramowitz & Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
    """
    z, v = _NORMAL, degrees
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
