"""Observables, log Z and free-energy differences of the target from weighted draws of the flow."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from .estimate import Estimate
from .observables import as_observable, as_state
from .ratio import Ratio, log_of_mean, ratio_of_means
from .reliability import doubts, judged, lost
from .weights import as_log_weights, scaled_weights, with_support

__all__ = ["expectation", "free_energy_difference", "log_partition", "probability"]


def expectation(log_w: Tensor | npt.ArrayLike, f: Tensor | npt.ArrayLike) -> Estimate:
    """Expectation ⟨f⟩ = Σ wᵢ fᵢ / Σ wᵢ of an observable under the target.

    The ratio is biased by O(1/n), less than the standard error by a factor of about √ess; the interval allows for it.
    `reliable` judges the weights alone: f itself must have a finite variance.

    Arguments:
        log_w: log-weights −u − log_q of independent draws, shape (n,); −inf is a draw of weight zero, kept in n.
        f: the observable at each draw, shape (n,), in any unit; ignored where the weight is zero.

    Returns:
        The estimate in the unit of f: consistent, not unbiased; the mean of wᵢ fᵢ alone would be unbiased for Z ⟨f⟩.

    Raises:
        InputError: if log_w is not (n,), holds NaN or +inf, or has no finite entry; if f is not (n,), or not finite
            where the weight is positive.

    Warns:
        UnreliableEstimateWarning: if the estimate must not be believed.

    Example:
        >>> import torch
        >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> print(expectation(x - 0.5, x))  # N(0, 1) reweighted to N(1, 1): exactly 1
        1.031 ± 0.027

    References:
        Owen, Monte Carlo theory, methods and examples (2013), chapter 9.
    """
    log_w = with_support(as_log_weights(log_w))
    f = as_observable("f", log_w, f)
    w = scaled_weights(log_w)
    return judged(log_w, ratio_of_means(w * f, w), doubts(log_w))


def probability(log_w: Tensor | npt.ArrayLike, in_state: Tensor | npt.ArrayLike) -> Estimate:
    """Probability P = Σ wᵢ 1(i in the state) / Σ wᵢ of a state under the target, consistent as `expectation` is.

    Arguments:
        log_w: log-weights, shape (n,).
        in_state: which draws lie in the state, booleans of shape (n,).

    Raises:
        InputError: as `expectation`; unless in_state is boolean.

    Warns:
        UnreliableEstimateWarning: also if the draws inside, or outside, are too few to tell.
    """
    log_w = with_support(as_log_weights(log_w))
    inside = as_state("in_state", log_w, in_state)
    w = scaled_weights(log_w)
    reasons = doubts(log_w) or doubts(log_w[inside], " in the state") + doubts(log_w[~inside], " outside the state")
    value, standard_error, low, high = ratio_of_means(w * inside, w)
    reasons = reasons or lost(value, " in the state") or lost(1 - value, " outside the state")
    if not 0 < value < 1:
        standard_error, low, high = math.inf, 0.0, 1.0
    return judged(log_w, Ratio(value, standard_error, max(low, 0.0), min(high, 1.0)), reasons)


def log_partition(log_w: Tensor | npt.ArrayLike) -> Estimate:
    """Logarithm of the target's normalising constant, log Z = log (1/n) Σ wᵢ.

    For a normalised flow and u in kT it is −F/kT of what the flow's support holds: a lost mode is missing from it.
    The mean of the weights is an unbiased estimate of Z, whatever the flow; its logarithm is consistent, and too low
    by ½ standard_error² on average.

    Arguments:
        log_w: log-weights −u − log_q, shape (n,); −inf is a draw of weight zero, kept in n.

    Returns:
        The estimate; −inf, and not reliable, if every weight is zero.

    Raises:
        InputError: if log_w is not (n,), or holds NaN or +inf.

    Warns:
        UnreliableEstimateWarning: if the estimate must not be believed.

    Example:
        >>> log_partition([0.5] * 1000).value
        0.5
    """
    log_w = as_log_weights(log_w)
    reasons = doubts(log_w)
    if np.isneginf(log_w).all():
        return judged(log_w, Ratio(-math.inf, math.inf, -math.inf, math.inf), reasons)
    return judged(log_w, log_of_mean(log_w), reasons)


def free_energy_difference(
    log_w: Tensor | npt.ArrayLike, in_a: Tensor | npt.ArrayLike, in_b: Tensor | npt.ArrayLike
) -> Estimate:
    """Free-energy difference F_b − F_a = −ln (P_b / P_a) between two states of the target, in kT.

    Arguments:
        log_w: log-weights, shape (n,).
        in_a: which draws lie in state a, booleans of shape (n,).
        in_b: which draws lie in state b; no draw may lie in both.

    Returns:
        The estimate in kT, whose error allows for the correlation of the two populations. It is judged by the
        weights as a whole and in each state; ±inf, and not reliable, if one of the states has no weight.

    Raises:
        InputError: if log_w is not (n,), or holds NaN or +inf; unless the masks are boolean, (n,) and disjoint; if
            neither state has any weight.

    Warns:
        UnreliableEstimateWarning: if the estimate must not be believed.

    Example:
        >>> import torch
        >>> x = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
        >>> print(free_energy_difference(torch.zeros(10_000), x < 0.25, x > 0.25))  # exactly -ln 3 = -1.099
        -1.128 ± 0.023
    """
    log_w = as_log_weights(log_w)
    a, b = as_state("in_a", log_w, in_a), as_state("in_b", log_w, in_b)
    if (a & b).any():
        raise InputError(
            f"in_a and in_b must not overlap; got {(a & b).sum()} of {len(a)} draws in both: make the states disjoint"
        )
    w = scaled_weights(with_support(np.where(a | b, log_w, -np.inf)))
    # from the smaller population, so that neither share is lost to rounding and a ⇄ b only changes the sign
    sign, minor = (1, b) if w[b].sum() < w[a].sum() else (-1, a)
    share = ratio_of_means(w * minor, w)
    reasons = doubts(log_w) or doubts(log_w[a], " in state a") + doubts(log_w[b], " in state b")
    reasons = reasons or lost(share.value, " in state b" if minor is b else " in state a")
    return judged(log_w, _negative_logit(share, sign), reasons)


def _negative_logit(share: Ratio, sign: int) -> Ratio:
    """−ln (p / (1 − p)) · sign with its error."""
    p = share.value
    if p == 0:
        return Ratio(sign * math.inf, math.inf, -math.inf, math.inf)

    def transformed(q: float) -> float:
        return sign * (math.inf if q <= 0 else -math.inf if q >= 1 else math.log1p(-q) - math.log(q))

    low, high = sorted((transformed(share.low), transformed(share.high)))
    return Ratio(transformed(p), share.standard_error / (p * (1 - p)), low, high)
