"""How heavy the tail of the weights is: the shape k̂ of a generalised Pareto law fitted to the largest of them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from .weights import Array, as_log_weights, scaled_weights

__all__ = ["pareto_k", "reliability_threshold"]

_SHORTEST_TAIL = 5  # draws; reached at n = 25
_FLAT = 1e-10  # relative spread of weights that differ by rounding only
_NOTHING = 1e-100  # share of the largest weight that is zero to the fit


def pareto_k(log_w: Tensor | npt.ArrayLike) -> float:
    """Shape k̂ of the generalised Pareto law fitted to the min(0.2 n, 3√n) largest weights.

    Moments of order 1/k̂ and above do not exist: k̂ < 1/2 means a finite variance, k̂ ≥ 0.7 that error bars
    mean nothing at any practical n. It judges the weights that were drawn: a lost mode leaves no trace in it.

    Arguments:
        log_w: log-weights, shape (n,), −inf allowed.

    Returns:
        k̂; −inf if the largest weights are all equal (no tail); +inf if no tail can be fitted, because there are
        fewer than 25 draws or fewer than five weights stand above the rest.

    Raises:
        InputError: if log_w is empty, not one-dimensional, or holds NaN or +inf.

    Example:
        >>> pareto_k([0.0] * 100)
        -inf

    References:
        Vehtari, Simpson, Gelman, Yao & Gabry, Pareto smoothed importance sampling, JMLR 25 (2024).
        Zhang & Stephens, Technometrics 51, 316 (2009).
    """
    log_w = as_log_weights(log_w)
    n = len(log_w)
    tail = int(min(n / 5, 3 * math.sqrt(n)))
    if tail < _SHORTEST_TAIL or np.isneginf(log_w).all():
        return math.inf
    w = np.sort(scaled_weights(np.partition(log_w, n - tail - 1)[n - tail - 1 :]))
    excess = w[1:] - w[0]
    if excess[-1] <= _FLAT * w[-1]:
        return -math.inf
    if excess[_quartile(tail)] <= _NOTHING:  # ties at the foot of the tail
        excess = excess[excess > _NOTHING]
    return _fitted_shape(excess) if len(excess) >= _SHORTEST_TAIL else math.inf


def reliability_threshold(n: int) -> float:
    """Largest k̂ at which n draws still give believable error bars, min(1 − 1/log₁₀ n, 0.7).

    Arguments:
        n: number of draws.

    Returns:
        The threshold; −inf for a single draw.

    Raises:
        InputError: if n < 1.

    Example:
        >>> round(reliability_threshold(1000), 3)
        0.667

    References:
        Vehtari et al. (2024), equation 13.
    """
    if n < 1:
        raise InputError(f"n must be at least 1; got {n}: pass the number of draws")
    return min(1 - 1 / math.log10(n), 0.7) if n > 1 else -math.inf


def _quartile(n: int) -> int:
    return int(n / 4 + 0.5) - 1


def _fitted_shape(excess: Array) -> float:
    """Posterior-mean shape for sorted excesses, drawn towards 1/2 with the weight of ten draws."""
    n = len(excess)
    m = 30 + int(math.sqrt(n))
    b = 1 / excess[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * excess[_quartile(n)])
    k = np.log1p(-b[:, None] * excess).mean(1)
    log_likelihood = n * (np.log(-b / k) - k - 1)
    posterior = np.exp(log_likelihood - log_likelihood.max())
    posterior /= posterior.sum()
    posterior[posterior < 10 * np.finfo(np.float64).eps] = 0  # as the reference implementations do
    mean = b.dot(posterior) / posterior.sum()
    shape = np.log1p(-mean * excess).mean()
    return float((n * shape + 5) / (n + 10))
