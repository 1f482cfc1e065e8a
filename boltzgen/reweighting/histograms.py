"""Probabilities and free energies over the bins of one or two variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from .estimate_array import BinnedEstimate
from .observables import as_observable
from .pareto import pareto_k
from .ratio import powers, shares
from .reliability import doubts, warn
from .weights import Array, as_array, as_log_weights, effective_sample_size, scaled_weights, with_support

__all__ = ["histogram", "profile"]

Bins = int | Sequence[int] | Sequence[npt.ArrayLike] | Array
_Labels = npt.NDArray[np.int64]


def histogram(
    log_w: Tensor | npt.ArrayLike,
    s: Tensor | npt.ArrayLike,
    *,
    bins: Bins = 50,
    period: float | Sequence[float | None] | None = None,
) -> BinnedEstimate:
    """Probability of each bin of one variable, or of two, under the target: that of `probability`, for every bin.

    Arguments:
        log_w: log-weights, shape (n,); −inf is a draw of weight zero, kept in n.
        s: the variable at each draw, shape (n,), or two of them, (n, 2); ignored where the weight is zero.
        bins: the number of bins, between the smallest and largest s that carries weight, or over one period centred
            at 0; or their edges, ascending. For two variables, one for both or a pair. Draws outside the edges count
            as what lies in no bin, so that the probabilities need not add up to one.
        period: of a periodic variable, e.g. 2π for a torsion, else None; for two variables, one for both or a pair.
            The bins lie within one period, and s is brought there.

    Returns:
        The estimates over the bins, shape (bins,) or (bins, bins); consistent. A bin of fewer than 25 draws, or with a
        heavy tail, is not reliable; an empty one has the value 0 and the interval from 0 to 1.

    Raises:
        InputError: as `expectation`; if bins or period do not make sense.

    Warns:
        UnreliableEstimateWarning: if no bin may be believed, because of the weights as a whole.

    Example:
        >>> s = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
        >>> print(histogram(torch.zeros(10_000), s, bins=[0.0, 0.25, 1.0])[0])
        0.2446 ± 0.0043
    """
    log_w = with_support(as_log_weights(log_w))
    edges, label = _binned(log_w, s, bins, period)
    why = "; ".join(doubts(log_w))
    warn(why)
    return _histogram(log_w, edges, label, why)


def profile(
    log_w: Tensor | npt.ArrayLike,
    s: Tensor | npt.ArrayLike,
    *,
    bins: Bins = 50,
    period: float | Sequence[float | None] | None = None,
) -> BinnedEstimate:
    """Free-energy profile F(s) = −ln p(s) in kT along one variable, or over two; p is averaged over each bin.

    p is the normalised density of s, so that F is absolute: errors and intervals are those of −ln p, and a picture
    from zero is `profile.value - profile.value.min()`. Between two regions, `free_energy_difference` has the error of
    the difference.

    Arguments:
        log_w, s, bins, period: as `histogram` takes them.

    Returns:
        The estimates in kT over the bins; consistent. An empty bin has the value +inf, and is not reliable.

    Raises:
        InputError: as `histogram`.

    Warns:
        UnreliableEstimateWarning: as `histogram`.

    Example:
        >>> s = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
        >>> print(profile(torch.zeros(10_000), s, bins=[0.0, 0.25, 1.0])[0])  # a uniform density: 0
        0.022 ± 0.018
    """
    log_w = with_support(as_log_weights(log_w))
    edges, label = _binned(log_w, s, bins, period)
    why = "; ".join(doubts(log_w))
    warn(why)
    found = _histogram(log_w, edges, label, why)
    log_volume = np.log(np.diff(edges[0]))
    if len(edges) == 2:
        log_volume = log_volume[:, None] + np.log(np.diff(edges[1]))
    with np.errstate(divide="ignore"):
        value, low, high = (log_volume - np.log(p) for p in (found.value, found.interval[1], found.interval[0]))
    drawn = found.value > 0
    error = np.divide(found.standard_error, found.value, out=np.full(found.shape, math.inf), where=drawn)
    return replace(found, value=value, standard_error=error, interval=(low, high))


def _histogram(log_w: Array, edges: tuple[Array, ...], label: _Labels, why: str) -> BinnedEstimate:
    """Probabilities of the bins; label (n,) is the flat number of each draw's bin, or one past the last for none."""
    shape = tuple(len(e) - 1 for e in edges)
    m = math.prod(shape)
    w = scaled_weights(log_w)
    sums = np.array([np.bincount(label, column, m + 1) for column in powers(w)], dtype=np.float64)
    inside = sums[:, :m]
    value, error, low, high = shares(w, inside, np.maximum(sums.sum(1, keepdims=True) - inside, 0.0))
    trivial = (value <= 0) | (value >= 1)
    low = np.where(trivial, 0.0, low.clip(0.0))
    high = np.where(trivial, 1.0, high.clip(None, 1.0))
    error = np.where(trivial, math.inf, error)
    reasons = np.full(m, why) if why else np.array(_doubts_by_bin(log_w, label, m))
    value, error, low, high = (column.reshape(shape) for column in (value, error, low, high))
    ess, k = effective_sample_size(log_w), pareto_k(log_w)
    return BinnedEstimate(value, error, (low, high), ess, len(log_w), k, reasons.reshape(shape), edges)


def _doubts_by_bin(log_w: Array, label: _Labels, m: int) -> list[str]:
    rows = np.split(np.argsort(label, kind="stable"), np.bincount(label, minlength=m + 1).cumsum()[:-1])
    return ["; ".join(doubts(log_w[chosen], " in the bin")) for chosen in rows[:m]]


def _binned(
    log_w: Array, s: Tensor | npt.ArrayLike, bins: Bins, period: float | Sequence[float | None] | None
) -> tuple[tuple[Array, ...], _Labels]:
    """The edges of each variable, and the number of the bin each draw falls in."""
    ndim = 2 if np.ndim(s) == 2 else 1
    rows = as_observable("s", log_w, s, ndim=ndim).reshape(len(log_w), -1)
    if rows.shape[1] not in (1, 2):
        raise InputError(f"s must be one variable or two, (n,) or (n, 2); got {rows.shape[1]}: choose two at most")
    carried = log_w > -np.inf
    edges, label, outside = [], np.zeros(len(rows), np.int64), ~carried
    for column, wanted, length in zip(rows.T, _for_each(bins, rows.shape[1]), _periods(period, rows), strict=True):
        if length is not None and not (isinstance(length, Real) and math.isfinite(length) and length > 0):
            raise InputError(f"period must be a positive number or None; got {length!r}: pass e.g. 2 * math.pi")
        e = _edges(wanted, column[carried], length)
        place = column if length is None else _brought_home(column, e, length)
        index = np.searchsorted(e, place, side="right") - 1
        index[place == e[-1]] = len(e) - 2  # the last bin is closed, as in numpy
        outside |= (index < 0) | (index > len(e) - 2)
        label = label * (len(e) - 1) + index
        edges.append(e)
    label[outside] = math.prod(len(e) - 1 for e in edges)
    return tuple(edges), label


def _edges(bins: Any, s: Array, period: float | None) -> Array:
    if isinstance(bins, str) or not hasattr(bins, "__len__"):
        if isinstance(bins, bool) or not isinstance(bins, Integral) or bins < 1:
            raise InputError(f"bins must be a positive number of bins, or their edges; got {bins!r}: pass e.g. 50")
        low, high = (s.min(), s.max()) if period is None else (-period / 2, period / 2)
        if low == high:
            raise InputError(f"s must not be the same at every draw; got {low} throughout: pass the edges as bins")
        return np.linspace(low, high, int(bins) + 1)
    edges = as_array("bins", bins).astype(np.float64)
    if len(edges) < 2 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise InputError("bins must be ascending, finite edges, two at least; got others: sort them, each once")
    if period is not None and edges[-1] - edges[0] > period * (1 + 1e-9):
        raise InputError(
            f"the edges in bins must lie within one period, {period:g}; got {edges[0]:g} to {edges[-1]:g}: drop some"
        )
    return edges


def _brought_home(s: Array, edges: Array, period: float) -> Array:
    """s plus whole periods, from the first edge on; never past the last by rounding if the bins fill a period."""
    place: Array = edges[0] + np.mod(s - edges[0], period)
    return np.minimum(place, edges[-1]) if edges[-1] - edges[0] > period * (1 - 1e-9) else place


def _for_each(bins: Any, d: int) -> list[Any]:
    """What is wanted for each of the d variables."""
    if d == 1 or isinstance(bins, str) or not hasattr(bins, "__len__"):
        return [bins] * d
    if len(bins) != 2:
        raise InputError(f"bins must be a number or a pair for two variables; got {len(bins)}: pass (x_bins, y_bins)")
    return list(bins)


def _periods(period: Any, rows: Array) -> list[float | None]:
    d = rows.shape[1]
    values = list(period) if isinstance(period, Sequence) else [period] * d
    if len(values) != d:
        raise InputError(f"period must be one number, or one for each of {d} variables; got {len(values)}: add None")
    return values
