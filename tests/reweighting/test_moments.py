import math

import numpy as np
import pytest
import torch

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import expectation, expectations, variance

OFF = math.log(1.05)  # weights off by 5 %, in the power twins


@pytest.mark.parametrize("ess", [0.8, 0.3])
def test_variance_is_right(shifted, assert_consistent, ess):
    x, log_w = shifted(ess).draw(200_000, seed=1)
    assert_consistent(variance(log_w, x), 1.0)
    assert_consistent(variance(log_w, 3 - 2 * x), 4.0)


def test_variance_from_wrong_weights_is_caught(shifted, assert_consistent):
    x, log_w = shifted(0.8).draw(2_000_000, seed=1)
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(variance(log_w + OFF * (x > 1), x), 1.0)


def test_variance_of_few_equal_draws_is_unbiased():
    x = np.random.default_rng(0).normal(size=(4000, 30))
    values = np.array([variance(np.zeros(30), row).value for row in x])
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - 1) < 4 * error
    assert abs(x.var(1).mean() - 1) > 4 * error  # the twin without the correction


def test_variance_interval_covers_the_truth(shifted, coverage):
    assert 0.93 <= coverage(shifted(0.5), lambda x, w: variance(w, x), 1.0, n=2000, replicas=1000) <= 0.97


def test_variance_error_is_that_of_the_bootstrap(shifted, bootstrapped):
    x, log_w = shifted(0.8).draw(20_000, seed=3)
    estimate = variance(log_w, x)
    error, (low, high) = bootstrapped(lambda x, w: variance(w, x).value, len(x), x, log_w)
    assert estimate.standard_error == pytest.approx(error, rel=0.15)
    assert estimate.interval == pytest.approx((low, high), abs=0.4 * error)


def test_variance_of_a_constant_is_zero():
    assert variance(np.zeros(100), np.full(100, 3.7)).value == pytest.approx(0.0, abs=1e-25)


def test_one_draw_with_all_the_weight_has_no_variance_error():
    with pytest.warns(UnreliableEstimateWarning, match="one of them carries 100%"):
        estimate = variance(np.array([0.0] + [-100.0] * 99), np.arange(100.0))
    assert math.isfinite(estimate.value)
    assert estimate.standard_error == math.inf


def test_each_component_of_a_vector_is_its_own_expectation(shifted):
    x, log_w = shifted(0.5).draw(1000, seed=4)
    f = np.stack([x, x**2, np.sin(x)], -1)
    found = expectations(log_w, f)
    assert found.shape == (3,)
    for k in range(3):
        assert found[k] == expectation(log_w, f[:, k])
    assert expectations(torch.tensor(log_w), torch.tensor(f))[1] == found[1]


def test_components_of_failed_draws_are_ignored():
    log_w = np.where(np.arange(100) < 50, 0.0, -np.inf)
    f = np.where(np.arange(100) < 50, 2.0, np.nan)[:, None]
    assert expectations(log_w, f).value.tolist() == [2.0]


def test_a_vector_with_bad_weights_is_told_once():
    with pytest.warns(UnreliableEstimateWarning) as caught:
        found = expectations(np.zeros(10), np.zeros((10, 3)))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not found.reliable.any()


@pytest.mark.parametrize(
    ("f", "message"),
    [(np.zeros(100), r"shape \(n, d\)"), (np.zeros((99, 2)), "100; got 99"), (np.full((100, 2), np.nan), "100 NaN")],
)
def test_mistakes_are_explained(f, message):
    with pytest.raises(InputError, match=message):
        expectations(np.zeros(100), f)
