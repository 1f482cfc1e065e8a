"""What configurations of the target from another source say of a flow: the forward side of its weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from .estimate import Estimate
from .ratio import Ratio, ratio_of_means
from .reliability import FEWEST, judged
from .weights import Array, as_array

__all__ = ["evidence_upper_bound", "forward_effective_fraction"]


def evidence_upper_bound(reference_log_w: Tensor | npt.ArrayLike) -> Estimate:
    """EUBO = E_p[−u − log q], the mean log-weight of configurations that follow the target; log Z ≤ EUBO.

    EUBO − log Z is the Kullback-Leibler divergence KL(p ‖ q): unlike anything the draws say, it is large where the flow
    lost a mode.

    Arguments:
        reference_log_w: −u(x) − log q(x) at independent draws x of the target, shape (m,); +inf where the flow gives
            none.

    Returns:
        The estimate, unbiased; +inf, and not reliable, if the flow gives no density somewhere.

    Raises:
        InputError: if there are none, or one is NaN or −inf.

    Warns:
        UnreliableEstimateWarning: also if there are fewer than 25 configurations.

    Example:
        >>> evidence_upper_bound([0.5] * 100).value
        0.5

    References:
        Midgley et al. (2023); Blessing et al., Beyond ELBOs (2024).
    """
    values = as_reference(reference_log_w)
    m = len(values)
    reasons = [f"too few reference configurations: {m}, at least {FEWEST} are needed"] if m < FEWEST else []
    infinite = int(np.isposinf(values).sum())
    if infinite:
        reasons.append(f"the flow gives no density to {infinite} of {m} reference configurations")
        return judged(np.zeros(m), Ratio(np.inf, np.inf, -np.inf, np.inf), reasons)
    return judged(np.zeros(m), ratio_of_means(values, np.ones(m)), reasons)


def forward_effective_fraction(reference_log_w: Tensor | npt.ArrayLike) -> float:
    """Effective share of a flow's draws as configurations of the target see it, m² / (Σ w Σ 1/w), between 0 and 1.

    The same Z² / E_q[w²] that `effective_sample_size(log_w) / n` estimates from draws; next to it, a small one tells of
    a lost mode.

    Arguments:
        reference_log_w: as `evidence_upper_bound` takes them.

    Raises:
        InputError: as `evidence_upper_bound`.

    Example:
        >>> forward_effective_fraction([1.0, 1.0, 1.0])
        1.0
        >>> forward_effective_fraction([0.0, float("inf")])
        0.0
    """
    values = as_reference(reference_log_w)
    if np.isposinf(values).any():
        return 0.0
    log_share = 2 * np.log(len(values)) - np.logaddexp.reduce(values) - np.logaddexp.reduce(-values)
    return min(1.0, float(np.exp(log_share)))


def as_reference(reference_log_w: Tensor | npt.ArrayLike) -> Array:
    """Log-weights (m,) of reference configurations as float64, refused if empty, NaN or −inf."""
    values = as_array("reference_log_w", reference_log_w).astype(np.float64)
    if not len(values) or np.isnan(values).any() or np.isneginf(values).any():
        raise InputError(
            f"reference_log_w must hold log-weights (m,) of configurations of finite energy; got shape {values.shape}, "
            f"{np.isnan(values).sum()} NaN and {np.isneginf(values).sum()} -inf: leave out what the target excludes"
        )
    return values
