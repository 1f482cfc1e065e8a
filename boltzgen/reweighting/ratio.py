"""The ratio of two means over the same draws, with its error: the one estimator behind all the others."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .weights import Array

__all__ = ["Ratio", "ratio_of_means"]

_NORMAL = 1.959963984540054  # 97.5 % quantile
_ALL = 1 - 1e-9  # share of the weight that leaves nothing to compare with


class Ratio(NamedTuple):
    """Ratio of two means, its standard error, and the limits of its 95 % confidence interval."""

    value: float
    standard_error: float
    low: float
    high: float


def ratio_of_means(a: Array, b: Array) -> Ratio:
    """Ratio r = Σa / Σb for n independent pairs, b ≥ 0, both of shape (n,).

    The standard error is that of the delta method, √Σψ², with ψᵢ = (aᵢ − r bᵢ) / (Σb − bᵢ): leaving out draw i
    changes r by −ψᵢ, which is more than a linear expansion says of a draw that carries much of the weight.

    The interval is r − t se with two corrections for heavy and skewed weights: Student's quantile, with the degrees
    of freedom to which √Σψ² itself is known, and Hall's monotone cubic, which takes the skewness of ψ from r / se.
    It leans to the side on which the rare large weights are missing.

    The caller sees to it that Σb > 0.

    References:
        Efron & Stein, Ann. Stat. 9, 586 (1981). Hall, J. R. Stat. Soc. B 54, 221 (1992).
    """
    n, total = len(a), float(b.sum())
    value = float(a.sum()) / total
    if n < 2 or b.max() > _ALL * total:
        return Ratio(value, math.inf, -math.inf, math.inf)
    psi = (a - value * b) / (total - b)
    largest = float(np.abs(psi).max())
    if largest == 0:
        return Ratio(value, 0.0, value, value)
    psi /= largest
    square = psi * psi
    second, third, fourth = float(square.sum()), float(square.dot(psi)), float(square.dot(square))
    standard_error = largest * math.sqrt(second)
    quantile = _student(2 / max(fourth / second**2 - 1 / n, 1e-9))
    skewness = third / second**1.5
    return Ratio(
        value,
        standard_error,
        value - _unskewed(quantile, skewness) * standard_error,
        value - _unskewed(-quantile, skewness) * standard_error,
    )


def _unskewed(y: float, q: float) -> float:
    """The T with T + q T²/3 + q² T³/27 + q/6 = y: Hall's cubic, inverted."""
    return y - q / 6 if abs(q) < 1e-6 else 3 / q * (math.cbrt(1 + q * (y - q / 6)) - 1)


def _student(degrees: float) -> float:
    """97.5 % quantile of Student's t for 2 degrees of freedom or more, within 3 % (Abramowitz & Stegun 26.7.5)."""
    z, v = _NORMAL, degrees
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
