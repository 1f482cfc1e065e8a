"""Free-energy differences between two targets, from draws of one of them, of both, or of flows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from .estimate import Estimate
from .ratio import Ratio, log_of_mean, ratio_of_means, with_influences
from .reliability import FEWEST, doubts, judged, warn
from .weights import (
    Array,
    as_array,
    as_log_weights,
    effective_sample_size,
    normalized_weights,
    scaled_weights,
    with_support,
)

__all__ = ["bennett_acceptance_ratio", "exponential_average", "free_energy_change", "mbar_arrays"]

_CONVERGED = 1e-14  # relative change of ΔF
_ROUNDS = 200


def exponential_average(work: Tensor | npt.ArrayLike) -> Estimate:
    """Free-energy difference F_b − F_a = −ln ⟨exp(−W)⟩_a in kT from draws of one state: Zwanzig's equation.

    exp(−ΔF) is unbiased; ΔF is consistent, and too high on average. It fails where the draws of a do not reach b, which
    the weights may not show: with draws of both, `bennett_acceptance_ratio` is the better choice.

    Arguments:
        work: W = u_b(x) − u_a(x) in kT at independent, equally weighted draws of a, shape (n,); +inf where b excludes
            them. With a flow as state a, W is −log_w and ΔF is −log Z.

    Returns:
        The estimate in kT; +inf, and not reliable, if every work is +inf.

    Raises:
        InputError: if work is not (n,), or holds NaN or −inf.

    Warns:
        UnreliableEstimateWarning: if the estimate must not be believed.

    Example:
        >>> exponential_average([0.5] * 1000).value
        0.5

    References:
        Zwanzig, J. Chem. Phys. 22, 1420 (1954). Jarzynski, Phys. Rev. Lett. 78, 2690 (1997).
    """
    log_w = -_as_work("work", work)
    if np.isneginf(log_w).all():
        return judged(log_w, Ratio(math.inf, math.inf, -math.inf, math.inf), doubts(log_w))
    value, error, low, high = log_of_mean(log_w)
    return judged(log_w, Ratio(-value, error, -high, -low), doubts(log_w))


def free_energy_change(
    log_w_a: Tensor | npt.ArrayLike, log_w_b: Tensor | npt.ArrayLike, *, paired: bool = True
) -> Estimate:
    """Free-energy difference F_b − F_a = −ln (Z_b / Z_a) in kT between two targets, from draws of flows.

    Paired, both weigh the same draws of one flow (`samples` and `reweight(samples, b)`), whose errors largely cancel.
    Otherwise they are of independent draws, of one flow for each target (targeted perturbation), and their errors add.

    Arguments:
        log_w_a: log-weights for target a, shape (n,); −inf is a draw of weight zero, kept in n.
        log_w_b: log-weights for target b, shape (n,), or (m,) if not paired.
        paired: whether entry i of both is of the same draw.

    Returns:
        The estimate in kT; consistent. Judged by both sets of weights; n, ess and pareto_k are of the worse one.

    Raises:
        InputError: if log-weights hold NaN or +inf, no finite one, or as many as do not pair.

    Warns:
        UnreliableEstimateWarning: if the estimate must not be believed.

    Example:
        >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> print(free_energy_change(0.1 * x, 0.2 * x))  # exactly -(0.2² - 0.1²)/2 = -0.015
        -0.0132 ± 0.0010

    References:
        Jarzynski, Phys. Rev. E 65, 046122 (2002). Wirnsberger et al., J. Chem. Phys. 153, 144112 (2020).
    """
    a, b = (with_support(as_log_weights(log_w)) for log_w in (log_w_a, log_w_b))
    worse = min(a, b, key=effective_sample_size)
    reasons = [reason for log_w, name in ((a, " for a"), (b, " for b")) for reason in doubts(log_w, name)]
    if paired and len(a) != len(b):
        raise InputError(
            f"log_w_a and log_w_b must be of the same draws; got {len(a)} and {len(b)}: pass paired=False for two flows"
        )
    if paired:
        return judged(worse, _log_ratio(a, b), reasons)
    one, two = log_of_mean(a), log_of_mean(b)
    value = one.value - two.value
    if math.isinf(one.standard_error) or math.isinf(two.standard_error):
        return judged(worse, Ratio(value, math.inf, -math.inf, math.inf), reasons)
    influences = np.concatenate([_log_influences(a), -_log_influences(b)])
    return judged(worse, with_influences(value, influences), reasons)


def bennett_acceptance_ratio(work_forward: Tensor | npt.ArrayLike, work_reverse: Tensor | npt.ArrayLike) -> Estimate:
    """Free-energy difference F_b − F_a in kT from draws of both states: the ΔF that solves

        Σ_a f(W_ab − ΔF + M) = Σ_b f(W_ba + ΔF − M),   f(x) = 1/(1 + eˣ),   M = ln (n_a / n_b).

    It is the most precise estimate such draws allow, and needs overlap only, not that one state contains the other.
    With a flow as state a (W_ab = −log_w of its draws) and molecular dynamics of the target as b (W_ba the log-weights
    of its frames), ΔF is −log Z.

    Arguments:
        work_forward: W_ab = u_b(x) − u_a(x) in kT at independent, equally weighted draws of a, shape (n_a,); +inf
            where b excludes them.
        work_reverse: W_ba = u_a(x) − u_b(x) at draws of b, shape (n_b,).

    Returns:
        The estimate in kT; consistent. Its ess is 4 Σ f (1 − f) over all draws, what the two sets share, n at most;
        pareto_k is −inf, as the weights of this estimate have no tail.

    Raises:
        InputError: if there are no draws, a work is NaN or −inf, or the two sets share less than one draw: there is
            no estimate then, only a number.

    Warns:
        UnreliableEstimateWarning: if the two sets share fewer than 25 draws.

    Example:
        >>> x = torch.randn(2, 10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> print(bennett_acceptance_ratio(x[0] + 0.5 + 3.0, x[1] + 0.5 - 3.0))  # N(0, 1) and N(1, 1): 3
        2.9977 ± 0.0072

    References:
        Bennett, J. Comput. Phys. 22, 245 (1976). Shirts, Bair, Hooker & Pande, Phys. Rev. Lett. 91, 140601 (2003).
    """
    forward, reverse = _as_work("work_forward", work_forward), _as_work("work_reverse", work_reverse)
    value, shared = _bennett(forward, reverse)
    if shared < 1:
        raise InputError(
            f"the two states must overlap; got {len(forward)} and {len(reverse)} draws that share {shared:.2g}: put "
            "states between them, or train a flow from one to the other"
        )
    f_a, f_b = _occupations(forward, reverse, value)
    slope = float((f_a * (1 - f_a)).sum() + (f_b * (1 - f_b)).sum())
    # leaving out a draw also changes M
    psi = np.concatenate([f_a.mean() - f_a, f_b - f_b.mean()]) / slope
    n = len(psi)
    why = ""
    if shared < FEWEST:
        why = f"the {len(forward)} and {len(reverse)} draws share only {shared:.3g}, at least {FEWEST} are needed"
    warn(why)
    _, error, low, high = with_influences(value, psi)
    return Estimate(value, error, (low, high), shared, n, -math.inf, not why, why)


def mbar_arrays(blocks: Sequence[Tensor | npt.ArrayLike]) -> tuple[Array, npt.NDArray[np.int64]]:
    """Reduced potentials u_kn and numbers of draws N_k, what `pymbar.MBAR(u_kn, N_k)` takes.

    A flow is a state of its own, with u = −log q, normalised: next to it F of the target is −log Z.

    Arguments:
        blocks: one for each of the K states, of shape (K, n_j): row k holds u_k in kT at the n_j draws of state j;
            +inf where state k excludes them. n_j may be 0.

    Returns:
        u_kn (K, N), float64, and N_k (K,).

    Raises:
        InputError: if shapes disagree, there are no draws at all, a number is NaN or −inf, a draw has no finite energy
            in its own state, or the sampled states fall into groups that share less than one draw.

    Example:
        >>> flow_draws, frames = torch.zeros(2, 100), torch.ones(2, 50)  # rows: −log q, u
        >>> u_kn, N_k = mbar_arrays([flow_draws, frames])
        >>> u_kn.shape, N_k
        ((2, 150), array([100,  50]))

    References:
        Shirts & Chodera, J. Chem. Phys. 129, 124105 (2008).
    """
    columns = [as_array("a block", block, 2).astype(np.float64) for block in blocks]
    k = len(columns)
    if not k or any(len(column) != k for column in columns) or not sum(column.shape[1] for column in columns):
        raise InputError(
            f"blocks must hold K arrays (K, n_j), with some draws; got shapes {[c.shape for c in columns]}: give every "
            "state's energy of every state's draws"
        )
    for j, column in enumerate(columns):
        if np.isnan(column).any() or np.isneginf(column).any() or not np.isfinite(column[j]).all():
            raise InputError(
                f"reduced potentials must be finite or +inf, finite in a draw's own state; got others in block {j}: "
                "draw again what could not be evaluated in its own state"
            )
    _check_connected(columns)
    counts = np.array([column.shape[1] for column in columns], dtype=np.int64)
    return np.concatenate(columns, axis=1), counts


def _log_ratio(a: Array, b: Array) -> Ratio:
    """−ln (Σ w_b / Σ w_a) over the same draws."""
    ratio, error, low, high = ratio_of_means(scaled_weights(b), scaled_weights(a))
    offset = float(a.max() - b.max())
    upper = -math.log(low) if low > 0 else math.inf
    return Ratio(offset - math.log(ratio), error / ratio, offset - math.log(high), offset + upper)


def _check_connected(columns: list[Array]) -> None:
    """Refuses sampled states that fall apart into groups without overlap."""
    sampled = [j for j, column in enumerate(columns) if column.shape[1]]
    reached, waiting = {sampled[0]}, [sampled[0]]
    while waiting:
        j = waiting.pop()
        for i in sampled:
            if i in reached:
                continue
            works = columns[j][i] - columns[j][j], columns[i][j] - columns[i][i]
            if _bennett(*works)[1] >= 1:
                reached.add(i)
                waiting.append(i)
    apart = sorted(set(sampled) - reached)
    if apart:
        raise InputError(
            f"the states must overlap, if need be through others; got {apart} apart from {sorted(reached)}: put states "
            "between them"
        )


def _bennett(forward: Array, reverse: Array) -> tuple[float, float]:
    """ΔF, and 4 Σ f (1 − f), the number of draws the two sets share; ΔF means nothing where that is 0."""
    m = math.log(len(forward) / len(reverse))
    known = np.concatenate([forward[forward < np.inf], -reverse[reverse < np.inf]]) + m
    if not len(known):
        return 0.0, 0.0
    margin = math.log(len(forward) + len(reverse)) + 2
    low, high = float(known.min()) - margin, float(known.max()) + margin
    value, shared = (low + high) / 2, 0.0
    for _ in range(_ROUNDS):
        f_a, f_b = _occupations(forward, reverse, value)
        excess = float(f_a.sum() - f_b.sum())
        slope = float((f_a * (1 - f_a)).sum() + (f_b * (1 - f_b)).sum())
        shared = 4 * slope
        low, high = (low, value) if excess > 0 else (value, high)
        step = value - excess / slope if slope > 0 else math.inf
        following = step if low < step < high else (low + high) / 2
        if abs(following - value) <= _CONVERGED * max(1.0, abs(value)):
            break
        value = following
    return value, shared


def _occupations(forward: Array, reverse: Array, value: float) -> tuple[Array, Array]:
    """f at the draws of a and of b."""
    m = math.log(len(forward) / len(reverse))
    return _fermi(forward - value + m), _fermi(reverse + value - m)


def _fermi(x: Array) -> Array:
    """1/(1 + eˣ) without overflow."""
    e: Array = np.exp(-np.abs(x))
    return np.where(x > 0, e, 1.0) / (1.0 + e)


def _log_influences(log_w: Array) -> Array:
    """Of each draw on ln Σw/n."""
    n = len(log_w)
    influences: Array = (normalized_weights(log_w) * n - 1) / (n - 1)
    return influences


def _as_work(name: str, work: Tensor | npt.ArrayLike) -> Array:
    values = as_array(name, work).astype(np.float64)
    if not len(values) or np.isnan(values).any() or np.isneginf(values).any():
        raise InputError(
            f"{name} must hold numbers, or +inf where the other state excludes a draw; got {len(values)} with "
            f"{np.isnan(values).sum()} NaN and {np.isneginf(values).sum()} -inf: give a draw that cannot be evaluated "
            "in the other state +inf"
        )
    return values
