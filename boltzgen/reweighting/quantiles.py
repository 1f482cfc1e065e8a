"""Quantiles of an observable under the target."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..arguments import numbers
from ..errors import InputError
from .estimate import Estimate
from .observables import as_observable
from .ratio import Ratio, powers, shares
from .reliability import doubts, judged
from .weights import Array, as_log_weights, scaled_weights, with_support

__all__ = ["quantile"]

_WIDTH = 2 * 1.959963984540054  # of a normal 95 % interval, in standard errors


def quantile(log_w: Tensor | npt.ArrayLike, f: Tensor | npt.ArrayLike, p: float) -> Estimate:
    """Quantile of an observable under the target: the smallest value t with P(f ≤ t) ≥ p.

    The interval holds every t for which p lies in the interval of the estimated probability P(f ≤ t): it needs no
    density, and leans as the density does. The standard error is its width over 3.92, that of a normal law.

    Arguments:
        log_w: log-weights, shape (n,); −inf is a draw of weight zero, kept in n.
        f: the observable at each draw, shape (n,); ignored where the weight is zero.
        p: probability between 0 and 1; 0.5 for the median.

    Returns:
        The estimate in the unit of f, which is the value at one of the draws; consistent. Judged by the weights as a
        whole, below and above it; a limit of the interval beyond all draws is ±inf.

    Raises:
        InputError: as `expectation`; unless 0 < p < 1.

    Warns:
        UnreliableEstimateWarning: also if the draws below, or above, are too few to tell.

    Example:
        >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> print(quantile(x - 0.5, x, 0.5))  # N(0, 1) reweighted to N(1, 1): exactly 1
        1.011 ± 0.020

    References:
        Woodruff, J. Am. Stat. Assoc. 47, 635 (1952). Francisco & Fuller, Ann. Stat. 19, 454 (1991).
    """
    (p,) = numbers(p=p)
    if not 0 < p < 1:
        raise InputError(f"p must lie between 0 and 1; got {p!r}: pass e.g. 0.5 for the median")
    log_w = with_support(as_log_weights(log_w))
    f = as_observable("f", log_w, f)
    w = scaled_weights(log_w)
    t, below, above = _sums(w, f)
    index = int(np.searchsorted(below[0] / (below[0, -1]), p))
    found = float(t[min(index, len(t) - 1)])
    low, high = _limits(t, *shares(w, below, above)[2:], p)
    ratio = Ratio(found, (high - low) / _WIDTH, low, high)
    parts = ((f <= found, " at or below the quantile"), (f >= found, " at or above the quantile"))
    reasons = doubts(log_w) or [reason for part, place in parts for reason in doubts(log_w[part], place)]
    return judged(log_w, ratio, reasons)


def _sums(w: Array, f: Array) -> tuple[Array, Array, Array]:
    """The distinct values t of f with weight, and the sums of powers of the weights at or below and above each."""
    carried = w > 0
    columns = powers(w)[:, carried]
    t, label = np.unique(f[carried], return_inverse=True)
    at = np.array([np.bincount(label, column, len(t)) for column in columns], dtype=np.float64)
    above = np.zeros_like(at)
    above[:, :-1] = np.cumsum(at[:, :0:-1], axis=1)[:, ::-1]  # from the far end: no difference of large numbers
    return t, np.cumsum(at, axis=1, dtype=np.float64), above


def _limits(t: Array, low: Array, high: Array, p: float) -> tuple[float, float]:
    """First t whose probability may be as large as p, and first whose probability is surely no less."""
    low[-1] = 0.0  # that no draw lies above the largest says nothing sure
    may, surely = np.maximum.accumulate(high) >= p, np.maximum.accumulate(low) >= p
    first = -math.inf if may[0] else float(t[may.argmax()])
    return first, float(t[surely.argmax()]) if surely.any() else math.inf
