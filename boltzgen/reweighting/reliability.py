"""Reasons not to believe an estimate, as far as its weights can tell."""

from __future__ import annotations

import numpy as np

from .pareto import pareto_k, reliability_threshold
from .weights import Array, effective_sample_size

__all__ = ["doubts"]

_FEWEST = 25  # draws, and effective draws


def doubts(log_w: Array, place: str = "") -> list[str]:
    """Reasons in words against error bars made from these weights; none if they may be believed.

    Arguments:
        log_w: checked log-weights, shape (n,); n may be 0.
        place: words put behind "draws", e.g. " in state a".
    """
    n = len(log_w)
    if n < _FEWEST:
        return [f"too few draws{place}: {n}, at least {_FEWEST} are needed"]
    ess, k, threshold = effective_sample_size(log_w), pareto_k(log_w), reliability_threshold(n)
    if ess == 0:
        return [f"all {n} draws{place} have weight zero"]
    reasons = []
    if ess < _FEWEST:
        share = np.exp(log_w.max() - np.logaddexp.reduce(log_w))
        reasons.append(
            f"the {n} draws{place} are worth only {ess:.3g}, at least {_FEWEST} are needed, "
            f"and one of them carries {share:.0%} of the weight"
        )
    if k > threshold:
        reasons.append(
            f"Pareto k {k:.2f} of the {n} draws{place} exceeds {threshold:.2f}: their weights are too heavy-tailed"
        )
    return reasons
