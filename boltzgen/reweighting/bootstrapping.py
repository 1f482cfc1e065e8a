"""Error bars without formulas: an estimate made again and again from draws drawn from the draws."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..arguments import counts, positive_counts
from ..errors import InputError, UnreliableEstimateWarning
from .estimate import Estimate
from .weights import as_log_weights

__all__ = ["bootstrap"]


def bootstrap(
    estimator: Callable[..., Estimate],
    log_w: Tensor | npt.ArrayLike,
    *rows: Tensor | npt.ArrayLike,
    seed: int,
    replicas: int = 1000,
) -> Estimate:
    """An estimate with the standard error and the percentile interval of the bootstrap, in place of its own.

    Each replica draws n of the n draws with replacement, weights and rows together, and estimates again. A second
    opinion that knows no formula, for any function of weighted draws, e.g. a ratio of two of them. Its interval needs
    many effective draws: with skewed weights it is too short on the side where rare large ones are missing, to which
    the estimators' own intervals lean.

    Arguments:
        estimator: from (log_w, *rows) to an `Estimate`, such as `free_energy_difference`.
        log_w: log-weights of independent draws, shape (n,).
        rows: what else the estimator takes, each with a row per draw.
        seed: a non-negative integer.
        replicas: how many times to estimate.

    Returns:
        The estimate from all draws, with its diagnosis, whose standard error and 95 % interval are the bootstrap's.

    Raises:
        InputError: if something has not one row per draw, or the estimator gives something else.

    Example:
        >>> x = torch.randn(500, generator=torch.Generator().manual_seed(0))
        >>> print(bootstrap(expectation, x - 0.5, x, seed=1), "not", expectation(x - 0.5, x))
        1.41 ± 0.22 not 1.41 ± 0.25

    References:
        Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    columns = [as_log_weights(log_w), *(_as_rows(column) for column in rows)]
    (seed,), (replicas,) = counts(seed=seed), positive_counts(replicas=replicas)
    n = len(columns[0])
    if any(len(column) != n for column in columns):
        raise InputError(
            f"rows must be one per log-weight, {n}; got {[len(c) for c in columns[1:]]}: pass matching draws"
        )
    found = estimator(*columns)
    if not isinstance(found, Estimate):
        raise InputError(f"the estimator must give an Estimate; got {type(found).__name__}: choose one of its entries")
    random, values = np.random.default_rng(seed), np.empty(replicas)
    with warnings.catch_warnings(action="ignore", category=UnreliableEstimateWarning):
        for k in range(replicas):
            chosen = random.integers(n, size=n)
            values[k] = estimator(*(column[chosen] for column in columns)).value
    low, high = np.quantile(values, [0.025, 0.975], method="higher")
    return replace(found, standard_error=float(values.std(ddof=1)), interval=(float(low), float(high)))


def _as_rows(values: Any) -> npt.NDArray[Any]:
    return np.asarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values)
