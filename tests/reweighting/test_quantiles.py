import math
import time

import numpy as np
import pytest
import torch
from scipy import stats

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import quantile

OFF = math.log(1.05)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("ess", [0.8, 0.3])
def test_quantiles_are_right(shifted, assert_consistent, ess, p):
    target = shifted(ess)
    x, log_w = target.draw(200_000, seed=1)
    assert_consistent(quantile(log_w, x, p), target.mean + stats.norm.ppf(p))


def test_a_quantile_from_wrong_weights_is_caught(shifted, assert_consistent):
    target = shifted(0.8)
    x, log_w = target.draw(1_000_000, seed=1)
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(quantile(log_w + OFF * (x > 1), x, 0.5), target.mean)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_intervals_cover_the_truth(shifted, coverage, p):
    target = shifted(0.5)
    exact = target.mean + stats.norm.ppf(p)
    assert 0.93 <= coverage(target, lambda x, w: quantile(w, x, p), exact, n=2000, replicas=1000) <= 0.97


def test_the_interval_is_that_of_the_bootstrap(shifted, bootstrapped):
    x, log_w = shifted(0.5).draw(5000, seed=3)
    estimate = quantile(log_w, x, 0.5)
    error, (low, high) = bootstrapped(lambda x, w: quantile(w, x, 0.5).value, len(x), x, log_w)
    assert estimate.standard_error == pytest.approx(error, rel=0.15)
    assert estimate.interval == pytest.approx((low, high), abs=0.4 * error)


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.77])
def test_equal_weights_give_the_order_statistic(p):
    x = np.random.default_rng(0).normal(size=3000)
    assert quantile(np.zeros(3000), x, p).value == np.quantile(x, p, method="inverted_cdf")


def test_ties_and_failed_draws():
    f = np.repeat([1.0, 2.0, np.nan, 3.0], 100)
    log_w = np.where(np.isnan(f), -np.inf, 0.0)
    assert [quantile(log_w, f, p).value for p in (0.3, 0.5, 0.7)] == [1.0, 2.0, 3.0]


def test_it_turns_with_the_sign(shifted):
    x, log_w = shifted(0.5).draw(2001, seed=4)
    there, back = quantile(log_w, x, 0.4), quantile(log_w, -x, 0.6)
    width = there.interval[1] - there.interval[0]
    assert there.value == pytest.approx(-back.value, abs=0.05 * width)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=0.05 * width)


def test_a_quantile_in_an_empty_tail_is_told(shifted):
    x, log_w = shifted(0.8).draw(1000, seed=0)
    with pytest.warns(UnreliableEstimateWarning, match="too few draws at or above the quantile"):
        estimate = quantile(log_w, x, 0.9999)
    assert estimate.interval[1] == math.inf


def test_torch_and_numpy_agree(shifted):
    x, log_w = shifted(0.5).draw(1000, seed=7)
    assert quantile(torch.tensor(log_w), torch.tensor(x), 0.5) == quantile(log_w, x, 0.5)


@pytest.mark.parametrize("p", [0, 1, -0.1, 1.5, math.nan])
def test_a_probability_is_needed(p):
    with pytest.raises(InputError, match="p must lie between 0 and 1"):
        quantile(np.zeros(100), np.zeros(100), p)


def test_a_million_draws_take_about_a_second(shifted):
    x, log_w = shifted(0.5).draw(1_000_000, seed=9)
    start = time.process_time()
    quantile(log_w, x, 0.5)
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize("p", ["0.5", None, [0.5]])
def test_a_probability_is_a_number(p):
    with pytest.raises(InputError, match="p must be a number; got"):
        quantile(np.zeros(100), np.zeros(100), p)
