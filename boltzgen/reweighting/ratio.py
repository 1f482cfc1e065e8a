"""The ratio of two means over the same draws, with its error: the one estimator behind all the others."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .weights import Array

__all__ = ["Ratio", "ratio_of_means"]

_NORMAL = 1.959963984540054  # 97.5 % quantile


class Ratio(NamedTuple):
    """Ratio of two means, its standard error, and the limits of its 95 % confidence interval."""

    value: float
    standard_error: float
    low: float
    high: float


def ratio_of_means(a: Array, b: Array) -> Ratio:
    """Ratio r̂ = ā / b̄ of the means of a and b ≥ 0, both of shape (n,), from n independent pairs.

    The standard error is that of the delta method, √Σ(aᵢ − r̂ bᵢ)² / (n b̄). The interval holds every r that the
    draws do not contradict, |T(r)| ≤ t for T(r) = (ā − r b̄) / se(ā − r b̄) (Fieller), with two corrections that heavy
    and skewed weights call for: T is transformed by Hall's monotone cubic, which removes its skewness, and t is
    Student's quantile, whose degrees of freedom say how well the variance itself is known. It is not symmetric about
    r̂ and has an infinite limit where b̄ cannot be told from zero.

    The caller sees to it that b̄ > 0.

    References:
        Fieller, J. R. Stat. Soc. B 16, 175 (1954). Hall, J. R. Stat. Soc. B 54, 221 (1992).
    """
    n = len(a)
    mean_a, mean_b = float(a.mean()), float(b.mean())
    value = mean_a / mean_b
    if n < 2:
        return Ratio(value, math.inf, -math.inf, math.inf)
    residual = a - value * b
    scale = float(np.abs(residual).max())
    if scale == 0:
        return Ratio(value, 0.0, value, value)
    residual /= scale
    square = residual * residual
    second, third, fourth = (float(m.mean()) for m in (square, square * residual, square * square))
    standard_error = scale * math.sqrt(second / (n - 1)) / mean_b
    quantile = _student(2 * n / max(fourth / second**2 - 1, 1e-6))
    skewness = third / second**1.5 / math.sqrt(n)

    da, db = a - mean_a, b - mean_b
    variance_a, variance_b, covariance = (float(x.dot(y)) / n / (n - 1) for x, y in ((da, da), (db, db), (da, db)))

    def limit(t: float) -> float:
        """The r with T(r) = t."""
        leading = mean_b**2 - t * t * variance_b
        if leading <= 0:
            return math.copysign(math.inf, -t)
        middle = mean_a * mean_b - t * t * covariance
        last = mean_a**2 - t * t * variance_a
        return (middle - math.copysign(math.sqrt(max(middle**2 - leading * last, 0.0)), t)) / leading

    return Ratio(value, standard_error, limit(_unskewed(quantile, skewness)), limit(_unskewed(-quantile, skewness)))


def _unskewed(y: float, q: float) -> float:
    """The T with T + q T²/3 + q² T³/27 + q/6 = y: Hall's cubic, inverted."""
    return y - q / 6 if abs(q) < 1e-6 else 3 / q * (math.cbrt(1 + q * (y - q / 6)) - 1)


def _student(degrees: float) -> float:
    """97.5 % quantile of Student's t for degrees > 2, within 3 % (Abramowitz & Stegun 26.7.5)."""
    z, v = _NORMAL, degrees
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
