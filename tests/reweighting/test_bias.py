"""What is left of the bias of ratios, beside their error bars, where few draws are effective."""

import math
import warnings

import numpy as np
import pytest

from boltzgen.errors import UnreliableEstimateWarning
from boltzgen.reweighting import (
    effective_sample_size,
    expectation,
    free_energy_difference,
    log_partition,
    probability,
    quantile,
    thermodynamics,
    variance,
)

REPLICAS, N, SHARE = 2000, 120, 0.3
BIAS = 0.2  # in standard errors; 2000 replicas tell it to 0.02


def estimates(log_w, x, m):
    u = 0.5 * x**2
    return {
        "mean": expectation(log_w, x),
        "second moment": expectation(log_w, x**2),
        "variance": variance(log_w, x),
        "median": quantile(log_w, x, 0.5),
        "probability": probability(log_w, x > m + 0.5),
        "difference": free_energy_difference(log_w, x < m, x > m),
        "log Z": log_partition(log_w),
        "heat capacity": thermodynamics(log_w, u, [1.0], drawn_at=1.0).heat_capacity[0],
    }


def test_bias_is_small_beside_the_error_where_25_to_50_draws_are_effective(shifted):
    target = shifted(SHARE)
    m = target.mean
    exact = {
        "mean": m,
        "second moment": m**2 + 1,
        "variance": 1.0,
        "median": m,
        "probability": 1 - target.below(m + 0.5),
        "difference": 0.0,
        "log Z": target.log_partition,
        "heat capacity": 0.5 + m**2,
    }
    values, sizes, plain = {name: [] for name in exact}, [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        for x, log_w in zip(*target.draw((REPLICAS, N), seed=5), strict=True):
            sizes.append(effective_sample_size(log_w))
            w = np.exp(log_w - log_w.max())
            w /= w.sum()
            plain.append(w @ x**2 - (w @ x) ** 2)
            for name, estimate in estimates(log_w, x, m).items():
                values[name].append(estimate.value)
    assert 25 < np.mean(sizes) < 50
    bias = {name: (np.mean(v) - exact[name]) / np.std(v) for name, v in values.items()}
    assert all(abs(b) < BIAS for b in bias.values()), bias
    # the twin: a spread about the estimated mean without what that mean takes away
    assert (np.mean(plain) - 1.0) / np.std(plain) < min(-BIAS, bias["variance"] - 0.02)


def test_the_mean_weight_is_unbiased_and_its_logarithm_is_not(shifted):
    """By ½ standard_error² at this size."""
    target = shifted(SHARE)
    _, log_w = target.draw((20_000, N), seed=6)
    z = np.exp(log_w - target.log_partition).mean(1)
    error = z.std() / math.sqrt(len(z))
    assert abs(z.mean() - 1) < 4 * error
    assert np.log(z).mean() == pytest.approx(-0.5 * z.var(), rel=0.15)
