"""Log-weights as float64 arrays, and the number of equal draws they are worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError

__all__ = [
    "clipped_effective_sample_size",
    "effective_sample_size",
    "largest_weight",
    "normalized_weights",
    "weight_entropy",
]

Array = npt.NDArray[np.float64]


def effective_sample_size(log_w: Tensor | npt.ArrayLike) -> float:
    """Kish's effective sample size (Σw)² / Σw²: a count between 0 and n; divide by n for the fraction.

    It sees only what was drawn: a flow that has lost one of two equal wells still scores n.

    Arguments:
        log_w: log-weights −u − log_q, shape (n,), in any float dtype; −inf is a draw of weight zero, and counts in n.

    Returns:
        The count; 0 when every weight is zero.

    Raises:
        InputError: if log_w is empty, not one-dimensional, or holds NaN or +inf.

    Example:
        >>> effective_sample_size([0.0, 0.0, 0.0, float("-inf")])
        3.0

    References:
        Kish, Survey Sampling (1965).
    """
    w = scaled_weights(as_log_weights(log_w))
    return float(w.sum() ** 2 / w.dot(w)) if w.any() else 0.0


def clipped_effective_sample_size(log_w: Tensor | npt.ArrayLike, share: float = 1e-4) -> float:
    """Effective sample size after the largest weights are cut to the smallest among them.

    For comparison with published tables only, whose protocol this is: clipped weights aim at another
    distribution, and nothing else in this library uses them.

    Arguments:
        log_w: log-weights, shape (n,).
        share: fraction of the draws that is cut; one draw at least.

    Raises:
        InputError: as `effective_sample_size`, and unless 0 < share ≤ 1.

    References:
        Midgley et al., Flow annealed importance sampling bootstrap (2023), appendix.
    """
    if not 0 < share <= 1:
        raise InputError(f"share must lie in (0, 1]; got {share!r}: pass e.g. 1e-4")
    log_w = as_log_weights(log_w)
    rank = len(log_w) - max(1, int(share * len(log_w)))
    return effective_sample_size(np.minimum(log_w, np.partition(log_w, rank)[rank]))


def normalized_weights(log_w: Tensor | npt.ArrayLike) -> Array:
    """Weights wᵢ / Σw that sum to one, as a float64 array of shape (n,).

    Raises:
        InputError: as `effective_sample_size`, and if every weight is zero.

    Example:
        >>> normalized_weights([0.0, 0.0, float("-inf")])
        array([0.5, 0.5, 0. ])
    """
    log_w = with_support(as_log_weights(log_w))
    w = scaled_weights(log_w)
    w /= w.sum()
    return w


def largest_weight(log_w: Tensor | npt.ArrayLike) -> float:
    """Share max w / Σw of the heaviest draw in every estimate; 1/n at best.

    Raises:
        InputError: as `normalized_weights`.

    Example:
        >>> largest_weight([0.0, 0.0, 0.0, 0.0])
        0.25
    """
    return float(normalized_weights(log_w).max())


def weight_entropy(log_w: Tensor | npt.ArrayLike) -> float:
    """Entropy −Σ Wᵢ ln Wᵢ of the normalised weights W, in nats: ln n at best, 0 where one draw has it all.

    exp of it, the perplexity, is an effective sample size that minds heavy weights less than Kish's.

    Raises:
        InputError: as `normalized_weights`.

    Example:
        >>> round(weight_entropy([0.0, 0.0, 0.0, 0.0]), 4)  # ln 4
        1.3863

    References:
        Cappé, Douc, Guillin, Marin & Robert, Statistics and Computing 18, 447 (2008).
    """
    w = normalized_weights(log_w)
    w = w[w > 0]
    return max(0.0, -float(w.dot(np.log(w))))


def as_log_weights(log_w: Tensor | npt.ArrayLike) -> Array:
    """The log-weights as a float64 array, refused unless (n,), n ≥ 1, without NaN or +inf."""
    values = as_array("log_w", log_w).astype(np.float64)
    if not len(values):
        raise InputError("log_w must hold at least one log-weight; got none: draw samples first")
    if np.isnan(values).any() or np.isposinf(values).any():
        raise InputError(
            f"log_w must be finite or -inf; got {np.isnan(values).sum()} NaN and {np.isposinf(values).sum()} +inf "
            f"among {len(values)}: give a draw that cannot be evaluated u = +inf, hence log_w = -inf"
        )
    return values


def as_array(name: str, values: Tensor | npt.ArrayLike, ndim: int = 1) -> npt.NDArray[Any]:
    """Numbers with one row per draw as a numpy array of `ndim` axes."""
    if hasattr(values, "log_w"):
        raise InputError(
            f"{name} must be an array or tensor; got {type(values).__name__}: pass samples.log_w, or what is asked of "
            "each draw"
        )
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    try:
        values = np.asarray(values)
    except ValueError:  # rows of different lengths
        values = np.array(None)
    if values.ndim != ndim or values.dtype.kind not in "bifu":
        wanted, remedy = ("(n,)", "one-dimensional") if ndim == 1 else ("(n, d)", "two-dimensional")
        raise InputError(
            f"{name} must hold {'one number' if ndim == 1 else 'd numbers'} per draw, shape {wanted}; got shape "
            f"{values.shape} of {values.dtype}: pass a {remedy} array or tensor"
        )
    return values


def with_support(log_w: Array) -> Array:
    """The log-weights again, refused if every weight is zero."""
    if np.isneginf(log_w).all():
        raise InputError(
            f"log_w must hold at least one finite value; all {len(log_w)} are -inf: "
            "no draw could be evaluated, so check the target's energy and the flow"
        )
    return log_w


def scaled_weights(log_w: Array) -> Array:
    """exp(log_w − max log_w): weights whose largest is one; all zero where none is positive."""
    largest = log_w.max(initial=-np.inf)
    return np.exp(log_w - largest) if largest > -np.inf else np.zeros_like(log_w)
