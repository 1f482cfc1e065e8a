"""Means of vectors, and the variance of an observable."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .estimate import Estimate
from .estimate_array import EstimateArray
from .observables import as_observable
from .pareto import pareto_k
from .ratio import Ratio, ratio_of_means
from .reliability import doubts, judged, warn
from .weights import Array, as_log_weights, effective_sample_size, scaled_weights, with_support

__all__ = ["expectations", "variance"]


def expectations(log_w: Tensor | npt.ArrayLike, f: Tensor | npt.ArrayLike) -> EstimateArray:
    """Expectations ⟨f_k⟩ of d observables under the target; each is what `expectation` says of that column.

    Arguments:
        log_w: log-weights −u − log_q of independent draws, shape (n,); −inf is a draw of weight zero, kept in n.
        f: the observables at each draw, shape (n, d), ignored where the weight is zero.

    Returns:
        The estimates, shape (d,), in the unit of f: consistent, not unbiased.

    Raises:
        InputError: as `expectation`; unless f is (n, d).

    Warns:
        UnreliableEstimateWarning: if the estimates must not be believed.
    """
    log_w = with_support(as_log_weights(log_w))
    columns = as_observable("f", log_w, f, ndim=2).T
    w, why = scaled_weights(log_w), "; ".join(doubts(log_w))
    warn(why)
    ratios = np.array([ratio_of_means(w * column, w) for column in columns]).reshape(-1, 4)
    value, error, low, high = ratios.T
    return EstimateArray(
        value, error, (low, high), effective_sample_size(log_w), len(log_w), pareto_k(log_w), np.full(len(value), why)
    )


def variance(log_w: Tensor | npt.ArrayLike, f: Tensor | npt.ArrayLike) -> Estimate:
    """Variance ⟨(f − ⟨f⟩)²⟩ of an observable under the target.

    Spread about the estimated mean is too small by that mean's own variance, which is added. What bias remains is of
    higher order for equal weights, and for others O(1/n) and far below the standard error.
    `reliable` judges the weights alone: f must have a finite fourth moment.

    Arguments:
        log_w: log-weights, shape (n,); −inf is a draw of weight zero, kept in n.
        f: the observable at each draw, shape (n,); ignored where the weight is zero.

    Returns:
        The estimate in the unit of f²; consistent.

    Raises:
        InputError: as `expectation`.

    Warns:
        UnreliableEstimateWarning: if the estimate must not be believed.

    Example:
        >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> print(variance(x - 0.5, x))  # N(0, 1) reweighted to N(1, 1): exactly 1
        1.097 ± 0.054
    """
    log_w = with_support(as_log_weights(log_w))
    f = as_observable("f", log_w, f)
    return judged(log_w, spread(scaled_weights(log_w), f), doubts(log_w))


def spread(w: Array, f: Array) -> Ratio:
    """The variance of f under weights w, Σw > 0, both (n,)."""
    mean = ratio_of_means(w * f, w)
    deviation, rest = w * (f - mean.value), w.sum() - w
    influences = np.divide(deviation, rest, out=np.zeros_like(w), where=rest > 0)
    value, error, low, high = ratio_of_means(deviation * (f - mean.value), w, influences)
    lost = mean.standard_error**2 if np.isfinite(mean.standard_error) else 0.0
    return Ratio(value + lost, error, max(low, 0.0) + lost, high + lost)
