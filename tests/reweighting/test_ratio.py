import math

import numpy as np
import pytest
from scipy import stats

from boltzgen.reweighting import ratio
from boltzgen.reweighting.moments import spread
from boltzgen.reweighting.ratio import _unskewed, log_of_mean, powers, ratio_of_means, shares, student


def test_ratio_and_its_delta_error():
    random = np.random.default_rng(0)
    a, b = random.gamma(2.0, size=5000), random.gamma(3.0, size=5000)
    ratio = ratio_of_means(a, b)
    covariance = np.cov(a, b) / len(a)
    gradient = np.array([1, -ratio.value]) / b.mean()
    assert ratio.value == pytest.approx(a.mean() / b.mean(), rel=1e-12)
    assert ratio.standard_error == pytest.approx(math.sqrt(gradient @ covariance @ gradient), rel=1e-3)


def test_interval_of_many_draws_is_the_normal_one():
    random = np.random.default_rng(0)
    value, error, low, high = ratio_of_means(random.normal(5, 1, 200_000), np.ones(200_000))
    assert (low, high) == pytest.approx((value - 1.96 * error, value + 1.96 * error), abs=0.01 * error)


def test_interval_leans_towards_the_heavy_side():
    """A lognormal mean is more often under- than overestimated."""
    w = np.exp(1.3 * np.random.default_rng(1).normal(size=1000))
    value, error, low, high = ratio_of_means(w, np.ones_like(w))
    assert high - value > 1.3 * (value - low) > 0
    assert value - low < 2.2 * error


def test_one_draw_with_all_the_weight_has_no_error():
    b = np.zeros(100)
    b[7] = 1.0
    assert ratio_of_means(3 * b, b) == (3.0, math.inf, -math.inf, math.inf)


def test_error_is_that_of_leaving_out_one_draw_at_a_time():
    random = np.random.default_rng(2)
    a, b = random.normal(size=50), random.gamma(0.3, size=50)
    left_out = np.array([np.delete(a, i).sum() / np.delete(b, i).sum() for i in range(50)])
    value, error, _, _ = ratio_of_means(a, b)
    assert error == pytest.approx(math.sqrt(((left_out - value) ** 2).sum()), rel=1e-9)


def test_ratio_without_spread_is_exact():
    b = np.random.default_rng(0).random(100)
    assert ratio_of_means(2 * b, b) == (2.0, 0.0, 2.0, 2.0)


def test_one_draw_has_no_error():
    assert ratio_of_means(np.ones(1), np.ones(1)) == (1.0, math.inf, -math.inf, math.inf)


@pytest.mark.parametrize("degrees", [2, 3, 5, 30, 1e9])
def test_quantile_of_student(degrees):
    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=0.031)


@pytest.mark.parametrize("q", [-0.9, -0.1, 0.0, 1e-7, 0.1, 0.9])
@pytest.mark.parametrize("y", [-4.3, -1.96, 0.5, 1.96, 4.3])
def test_inverse_of_the_cubic(y, q):
    t = _unskewed(y, q)
    assert t + q * t**2 / 3 + q**2 * t**3 / 27 + q / 6 == pytest.approx(y, abs=1e-6)


def test_shares_are_ratios_of_means():
    random = np.random.default_rng(0)
    w, label = random.gamma(0.5, size=300), random.integers(0, 4, size=300)
    sums = np.array([np.bincount(label, column, 4) for column in powers(w)])
    found = shares(w, sums, sums.sum(1, keepdims=True) - sums)
    for k in range(4):
        expected = ratio_of_means(w * (label == k), w)
        assert [column[k] for column in found] == pytest.approx(list(expected), rel=1e-9)


@pytest.mark.parametrize("tiny", [1e-40, 1e-90, 1e-120, 1e-300])
def test_shares_of_tiny_weights_are_numbers(tiny):
    w = np.array([1.0, 0.9, 0.8, tiny, tiny])
    columns = powers(w)
    inside = columns[:, 3:].sum(1, keepdims=True)
    found = shares(w, inside, columns[:, :3].sum(1, keepdims=True))
    assert all(np.isfinite(column).all() for column in found)
    assert found.value[0] == pytest.approx(2 * tiny / 2.7)


def test_one_draw_with_all_the_weight_leaves_no_error_of_shares():
    w = np.array([1.0, 0.0, 0.0])
    found = shares(w, powers(w)[:, :1], powers(w)[:, 1:].sum(1, keepdims=True))
    assert (found.value[0], found.standard_error[0], found.low[0], found.high[0]) == (
        1.0,
        math.inf,
        -math.inf,
        math.inf,
    )


def test_log_of_mean_is_the_log_of_the_ratio():
    log_w = 300 + np.random.default_rng(0).normal(size=500)
    w = np.exp(log_w - 300)
    ratio = ratio_of_means(w, np.ones(500))
    found = log_of_mean(log_w)
    assert found.value == pytest.approx(300 + math.log(ratio.value))
    assert found.standard_error == pytest.approx(ratio.standard_error / ratio.value)
    assert (found.low, found.high) == pytest.approx((300 + math.log(ratio.low), 300 + math.log(ratio.high)))


@pytest.mark.parametrize("about_the_mean", [False, True])
def test_the_curvature_is_the_second_derivative_along_the_influences(monkeypatch, about_the_mean):
    """Draws counted 1 + εψ times: the second derivative by ε is Σ ψᵢ ψⱼ Qᵢⱼ."""
    seen = []

    def watched(value, psi, kappa):
        seen.append((psi, kappa))
        return ratio.Ratio(value, 0.0, value, value)

    monkeypatch.setattr(ratio, "with_influences", watched)
    random = np.random.default_rng(1)
    w = random.exponential(size=4000) ** 2
    f = w + random.exponential(size=4000)

    def estimate(count):
        mean = (count * w) @ f / (count @ w)
        return (count * w) @ (f - mean) ** 2 / (count @ w) if about_the_mean else mean

    if about_the_mean:
        spread(w, f)
    else:
        ratio_of_means(w * f, w)
    psi, kappa = seen[-1]
    step = 0.1 / np.abs(psi).max()
    bend = (estimate(1 + step * psi) - 2 * estimate(np.ones(4000)) + estimate(1 - step * psi)) / step**2
    assert kappa == pytest.approx(bend / np.linalg.norm(psi) ** 3, rel=0.02)
    assert abs(kappa) > 0.04


def test_the_interval_holds_the_value_however_few_draws_carry_the_weight():
    random = np.random.default_rng(0)
    for _ in range(2000):
        n = random.integers(2, 40)
        w, f = np.exp(3 * random.normal(size=n)), random.normal(size=n)
        for found in (ratio_of_means(w * f, w), spread(w, f)):
            assert found.low <= found.value <= found.high
