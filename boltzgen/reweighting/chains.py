"""Averages over Markov chains, whose rows are correlated: of molecular dynamics, or of a flow's draws made a chain."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..arguments import counts, instances
from ..errors import InputError
from ..sampling import Samples
from .estimate import Estimate
from .observables import as_observable
from .ratio import student
from .reliability import FEWEST, warn
from .weights import Array, as_array, as_log_weights, normalized_weights, with_support

__all__ = ["Chain", "autocorrelation_time", "chain_average", "independence_metropolis"]


@dataclass(frozen=True, eq=False)
class Chain:
    """A Metropolis chain over weighted draws: it stands at draw `rows[i]` after proposal i.

    `samples.x[chain.rows]` follows the target with equal weights; `chain_average` allows for its correlation. Averages
    have a smaller error along `chain.series(f)`.

    Attributes:
        rows: (n,), integers.
        acceptance: share of the proposals accepted.
        chance: with which each proposal was accepted, min(1, w_new / w_old), (n,).
        start: the draw at which it stood before the first.
    """

    rows: npt.NDArray[np.int64]
    acceptance: float
    chance: Array
    start: int

    def series(self, f: Tensor | npt.ArrayLike) -> Array:
        """An observable along the chain, in expectation over the acceptance of each proposal, for `chain_average`:

            sᵢ = aᵢ f(proposal i) + (1 − aᵢ) f(where the chain stood before it),    a = `chance`.

        Its mean is that of f(rows), with the luck of acceptance taken out of it.

        Arguments:
            f: the observable at each draw, numbers or booleans, shape (n,); ignored where the weight is zero.

        Raises:
            InputError: if f is not (n,), or not finite where the weight is positive.

        References:
            Ceperley, Chester & Kalos, Phys. Rev. B 16, 3081 (1977). Frenkel, PNAS 101, 17571 (2004).
        """
        f = as_observable("f", np.where(self.chance > 0, 0.0, -math.inf), f)
        before = f[np.append(self.start, self.rows[:-1])]
        series: Array = before + self.chance * (f - before)
        return series

    def samples(self, draws: Samples) -> Samples:
        """Where the chain stands, in its order, as an ensemble of equal weights: that of the target.

        The rows repeat and are correlated, so that `independent` is False: averages along them are for
        `chain_average`. Each log_w is log Ẑ of the draws; `draws[chain.rows]` would keep the weights they had, and
        count them twice.

        Arguments:
            draws: those whose log-weights the chain was made of.

        Raises:
            InputError: if their number is another, or the chain stands where their weight is zero.
        """
        instances(draws=(draws, Samples))
        if len(draws) != len(self.rows) or not draws.u[self.rows].isfinite().all():
            raise InputError(
                f"draws must be those of the chain, {len(self.rows)} with weight wherever it stands; got {draws!r}: "
                "make the chain of their log_w"
            )
        log_z = draws.log_w.logsumexp(0) - math.log(len(draws))
        chosen = draws[self.rows]
        return replace(chosen, log_q=-chosen.u - log_z, independent=False)


def independence_metropolis(log_w: Tensor | npt.ArrayLike, *, seed: int) -> Chain:
    """Independence Metropolis: each draw of the flow in turn is proposed, and accepted with min(1, w_new / w_old).

    The chain starts at a draw chosen by weight, and needs no evaluation beyond those of the draws. Heavy weights show
    as long stays. It is a check on weighted averages, which from the same draws have the smaller error. It knows no log
    Z: that is `log_partition` of the same draws.

    Arguments:
        log_w: log-weights of independent draws, shape (n,); −inf is never accepted.
        seed: a non-negative integer.

    Raises:
        InputError: if log_w is not (n,), holds NaN or +inf, or has no finite entry.

    Example:
        >>> chain = independence_metropolis([0.0] * 5, seed=1)
        >>> chain.rows, chain.acceptance
        (array([0, 1, 2, 3, 4]), 1.0)

        Of draws of a flow, `independence_metropolis(samples.log_w, seed=1).samples(samples)` are equally weighted ones.

    References:
        Tierney, Ann. Stat. 22, 1701 (1994). Albergo, Kanwar & Shanahan, Phys. Rev. D 100, 034515 (2019), for flows.
    """
    log_w = with_support(as_log_weights(log_w))
    random = np.random.default_rng(*counts(seed=seed))
    current = start = int(random.choice(len(log_w), p=normalized_weights(log_w)))
    barrier = np.log(random.random(len(log_w))).tolist()
    values: list[float] = log_w.tolist()
    rows, accepted, here = [], 0, values[current]
    for i, (there, log_u) in enumerate(zip(values, barrier, strict=True)):
        if log_u < there - here:
            current, here = i, there
            accepted += 1
        rows.append(current)
    where = np.array(rows, dtype=np.int64)
    chance = np.exp(np.minimum(log_w - log_w[np.append(start, where[:-1])], 0.0))
    return Chain(where, accepted / len(log_w), chance, start)


def autocorrelation_time(series: Tensor | npt.ArrayLike) -> float:
    """Integrated autocorrelation time τ = 1 + 2 Σ_t ρ_t of a stationary series, in rows; n/τ is what it is worth.

    The sum ends where pairs of neighbouring correlations cease to be positive, and takes them as decreasing, which they
    are in a reversible chain.

    Arguments:
        series: an observable along one chain, shape (n,), in the order of the chain.

    Returns:
        τ, at least 1/log₁₀ n for series that alternate; n for a constant one, of which nothing is known.

    Raises:
        InputError: if the series is not (n,), n ≥ 4, and finite.

    References:
        Geyer, Stat. Sci. 7, 473 (1992), section 3.3. Vehtari et al., Bayesian Analysis 16, 667 (2021).
    """
    f = _as_series(series)
    n = len(f)
    centred = f - f.mean()
    spectrum = np.fft.rfft(centred, 2 * n)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:n] / n
    if covariance[0] <= 1e-30 * max(1.0, float(np.square(f).mean())):
        return float(n)
    rho = covariance[: n - n % 2] / covariance[0]
    pairs = rho.reshape(-1, 2).sum(1)
    ends = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: ends[0] if len(ends) else len(pairs)])
    return float(min(max(2 * pairs.sum() - 1, 1 / math.log10(n)), n))


def chain_average(series: Tensor | npt.ArrayLike) -> Estimate:
    """Mean of an observable along one stationary chain, with the error its correlation leaves.

    standard_error² = variance · τ / n, with the `autocorrelation_time` τ. Rows of the approach to equilibrium must have
    been left out; a mode the chain never visits leaves no trace.

    Arguments:
        series: the observable along the chain, shape (n,), in the order of the chain.

    Returns:
        The estimate, whose ess is n/τ; unbiased for a chain in equilibrium. pareto_k is −inf: there are no weights.

    Raises:
        InputError: as `autocorrelation_time`.

    Warns:
        UnreliableEstimateWarning: if the chain is worth fewer than 25 independent rows.

    Example:
        >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> print(chain_average(x))
        -0.011 ± 0.010
    """
    f = _as_series(series)
    n, tau = len(f), autocorrelation_time(f)
    ess = n / tau
    why = f"the {n} rows of the chain are worth only {ess:.3g}, at least {FEWEST} are needed" if ess < FEWEST else ""
    warn(why)
    mean, error = float(f.mean()), math.sqrt(float(f.var()) / ess)
    if ess <= 2:
        return Estimate(mean, math.inf, (-math.inf, math.inf), ess, n, -math.inf, False, why)
    reach = float(student(np.array(max(2.0, ess - 1)))) * error
    return Estimate(mean, error, (mean - reach, mean + reach), ess, n, -math.inf, not why, why)


def _as_series(series: Tensor | npt.ArrayLike) -> Array:
    values = as_array("series", series).astype(np.float64)
    if len(values) < 4 or not np.isfinite(values).all():
        raise InputError(
            f"series must hold at least 4 finite numbers; got {len(values)}, {(~np.isfinite(values)).sum()} not so: "
            "pass an observable of every row of one chain"
        )
    return values
