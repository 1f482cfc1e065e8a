"""How heavy the tail of the weights is: the shape k̂ of a generalised Pareto law fitted to the largest of them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from .weights import Array, as_log_weights, effective_sample_size, scaled_weights

__all__ = ["NEARLY_EQUAL", "decisive_k", "pareto_k", "reliability_threshold", "smoothed_log_weights"]

_SHORTEST_TAIL = 5  # draws; reached at n = 25
_FLAT = 1e-5  # relative spread of weights that differ by the rounding of a float32 log q only
NEARLY_EQUAL = 0.9  # effective share from which a few draws may stand apart from a narrow bulk
_CARRIED = 0.95  # of what the tail adds to the variance, by the draws that stand apart
_FEWEST_APART = 25  # of them, to be fitted alone; with fewer k̂ stays as it is
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
    n, tail = len(log_w), _tail_length(len(log_w))
    if tail < _SHORTEST_TAIL or np.isneginf(log_w).all():
        return math.inf
    w = np.sort(scaled_weights(np.partition(log_w, n - tail - 1)[n - tail - 1 :]))
    excess = w[1:] - w[0]
    if excess[-1] <= _FLAT * w[-1]:
        return -math.inf
    if excess[_quartile(tail)] <= _NOTHING:  # ties at the foot of the tail
        excess = excess[excess > _NOTHING]
    return _with_prior(_fitted(excess)[0], len(excess)) if len(excess) >= _SHORTEST_TAIL else math.inf


def decisive_k(log_w: Tensor | npt.ArrayLike) -> float:
    """Pareto k̂ of the draws that matter: what is to be held against `reliability_threshold`.

    Where weights are nearly equal and a few per cent stand above the rest, however little, the tail that `pareto_k`
    fits begins in the narrow bulk. It mixes two scales, which no Pareto law has, and its k̂ is above 1 though the few
    may end at twice the mean. There the fit is made again to the largest draws alone, those that hold 95 % of

        Σ (wᵢ − w₀)²  over the tail, w₀ its lower end,

    which are all that an error bar can have wrong. They must be 25 at least: where fewer carry so much, as in a tail
    that is heavy indeed, k̂ is that of `pareto_k`; it is so too where the effective sample size is below 90 %.

    Arguments:
        log_w: log-weights, shape (n,), −inf allowed.

    Raises:
        InputError: as `pareto_k`.
    """
    log_w = as_log_weights(log_w)
    n, k = len(log_w), pareto_k(log_w)
    if not math.isfinite(k) or k <= reliability_threshold(n) or effective_sample_size(log_w) < NEARLY_EQUAL * n:
        return k
    tail = _tail_length(n)
    w = np.sort(scaled_weights(np.partition(log_w, n - tail - 1)[n - tail - 1 :]))
    carried = ((w[1:] - w[0]) ** 2)[::-1].cumsum()
    apart = int(np.searchsorted(carried, _CARRIED * carried[-1])) + 1
    excess = w[-apart:] - w[-apart - 1]
    if apart < _FEWEST_APART or excess[_quartile(apart)] <= _NOTHING:
        return k
    return _with_prior(_fitted(excess)[0], apart)


def smoothed_log_weights(log_w: Tensor | npt.ArrayLike) -> Array:
    """Pareto smoothed log-weights: the tail's are replaced by quantiles of the law fitted to it, in the same order.

    Less variance for some bias: the largest weight is never exceeded, so that rare heavy draws count less than they
    should. No estimate of this library uses them unless you hand them over; log Ẑ from them is not unbiased, and
    Pareto k must be taken from the weights as they were.

    Arguments:
        log_w: log-weights, shape (n,), −inf allowed.

    Returns:
        Log-weights (n,), float64, on the scale of those given; the same again where `pareto_k` finds no tail to fit.

    Raises:
        InputError: as `pareto_k`.

    Example:
        >>> smoothed_log_weights([0.0] * 30).max()
        np.float64(0.0)

    References:
        Vehtari, Simpson, Gelman, Yao & Gabry, Pareto smoothed importance sampling, JMLR 25 (2024).
    """
    log_w = as_log_weights(log_w)
    n, tail = len(log_w), _tail_length(len(log_w))
    if not math.isfinite(pareto_k(log_w)):
        return log_w
    order = np.argsort(log_w, kind="stable")[n - tail - 1 :]
    largest = log_w[order[-1]]
    w = np.exp(log_w[order] - largest)
    excess = w[1:] - w[0]
    order = order[1:][excess > _NOTHING]
    excess = excess[excess > _NOTHING]
    shape, scale = _fitted(excess)
    shape = _with_prior(shape, len(excess))
    log_outside = np.log1p(-(np.arange(len(excess)) + 0.5) / len(excess))
    quantiles = -scale * log_outside if shape == 0 else scale * np.expm1(-shape * log_outside) / shape
    smoothed = log_w.copy()
    smoothed[order] = largest + np.minimum(np.log(w[0] + quantiles), 0.0)
    return smoothed


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


def _tail_length(n: int) -> int:
    return int(min(n / 5, 3 * math.sqrt(n)))


def _quartile(n: int) -> int:
    return int(n / 4 + 0.5) - 1


def _fitted(excess: Array) -> tuple[float, float]:
    """Posterior-mean shape and scale for sorted excesses."""
    n = len(excess)
    m = 30 + int(math.sqrt(n))
    b = 1 / excess[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * excess[_quartile(n)])
    k = np.log1p(-b[:, None] * excess).mean(1)
    log_likelihood = n * (np.log(-b / k) - k - 1)
    posterior = np.exp(log_likelihood - log_likelihood.max())
    posterior /= posterior.sum()
    posterior[posterior < 10 * np.finfo(np.float64).eps] = 0  # as the reference implementations do
    mean = b.dot(posterior) / posterior.sum()
    shape = float(np.log1p(-mean * excess).mean())
    return shape, -shape / float(mean)


def _with_prior(shape: float, n: int) -> float:
    """The shape drawn towards 1/2 with the weight of ten draws."""
    return (n * shape + 5) / (n + 10)
