"""Reasons not to believe an estimate, as far as its weights can tell."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from ..errors import UnreliableEstimateWarning
from .estimate import Estimate
from .pareto import decisive_k, pareto_k, reliability_threshold
from .ratio import Ratio
from .weights import Array, effective_sample_size

__all__ = ["FEWEST", "doubts", "judged", "lost", "warn"]

FEWEST = 25  # draws, and effective draws


def doubts(log_w: Array, place: str = "") -> list[str]:
    """Reasons in words against error bars made from these weights; none if they may be believed.

    Arguments:
        log_w: checked log-weights, shape (n,); n may be 0.
        place: words put behind "draws", e.g. " in state a".
    """
    n = len(log_w)
    if n < FEWEST:
        return [f"too few draws{place}: {n}, at least {FEWEST} are needed"]
    ess, k, threshold = effective_sample_size(log_w), decisive_k(log_w), reliability_threshold(n)
    if ess == 0:
        return [f"all {n} draws{place} have weight zero"]
    reasons = []
    if ess < FEWEST:
        share = np.exp(log_w.max() - np.logaddexp.reduce(log_w))
        reasons.append(
            f"the {n} draws{place} are worth only {ess:.3g}, at least {FEWEST} are needed, "
            f"and one of them carries {share:.0%} of the weight"
        )
    if k > threshold:
        reasons.append(
            f"Pareto k {k:.2f} of the {n} draws{place} exceeds {threshold:.2f}: their weights are too heavy-tailed"
        )
    return reasons


def lost(share: float, place: str) -> list[str]:
    """The reason against a share that vanishes beside the others; none if it does not. `place` as for `doubts`."""
    return [] if share > 0 else [f"the weights of the draws{place} are too small beside the others to count"]


def judged(log_w: Array, ratio: Ratio, reasons: Sequence[str]) -> Estimate:
    """The estimate with its diagnosis, warned about in the name of the public function's caller if it is bad."""
    value, standard_error, low, high = ratio
    why = "; ".join(reasons)
    warn(why, stacklevel=4)
    return Estimate(
        value, standard_error, (low, high), effective_sample_size(log_w), len(log_w), pareto_k(log_w), not why, why
    )


def warn(why: str, *, stacklevel: int = 3) -> None:
    """Warns, in the name of the public function's caller, of an estimate that is not to be believed."""
    if why:
        warnings.warn(f"an estimate must not be believed: {why}", UnreliableEstimateWarning, stacklevel=stacklevel)
