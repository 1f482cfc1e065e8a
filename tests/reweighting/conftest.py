"""Weighted draws whose every answer is known, and the bootstrap as a second opinion on error bars."""

import math
import warnings

import numpy as np
import pytest

from boltzgen.errors import UnreliableEstimateWarning


class Shifted:
    """Target exp(−½(x − m)²) with proposal N(0, 1): lognormal weights, ESS/n = exp(−m²), everything known."""

    def __init__(self, ess):
        self.mean = math.sqrt(-math.log(ess))
        self.log_partition = 0.5 * math.log(2 * math.pi)

    def draw(self, shape, seed):
        x = np.random.default_rng(seed).normal(size=shape)
        return x, self.mean * x - 0.5 * self.mean**2 + self.log_partition

    def below(self, t):
        """P(x < t)."""
        return 0.5 * math.erfc((self.mean - t) / math.sqrt(2))


def bootstrap(estimator, n, *rows, replicas=400, seed=0):
    """Standard error and 95 % percentile interval of estimator(*rows) over resampled draws."""
    random = np.random.default_rng(seed)
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        for _ in range(replicas):
            chosen = random.integers(n, size=n)
            values.append(estimator(*(row[chosen] for row in rows)))
    return np.std(values, axis=0, ddof=1), np.percentile(values, [2.5, 97.5], axis=0)


@pytest.fixture
def shifted():
    return Shifted


@pytest.fixture
def bootstrapped():
    return bootstrap


@pytest.fixture
def coverage():
    """Share of 95 % intervals that hold the truth; `estimate(x, log_w)` gives an estimate, or an array of them."""

    def run(target, estimate, exact, *, n, replicas, off=0.0, seed=2):
        hits = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreliableEstimateWarning)
            for x, log_w in zip(*target.draw((replicas, n), seed=seed), strict=True):
                low, high = estimate(x, log_w + off * (x > 1)).interval
                hits.append((low <= exact) & (exact <= high))
        return np.mean(hits, axis=0)

    return run
