import math

import numpy as np
import pytest
from arviz_stats.base import array_stats

from boltzgen.errors import InputError
from boltzgen.reweighting import effective_sample_size, pareto_k, reliability_threshold, smoothed_log_weights
from boltzgen.reweighting.pareto import decisive_k

SAME_FIT = 1e-8  # absolute, to an independent implementation
BIAS = 0.02  # of the fit at 300 tail draws, its prior's pull left out

RANDOM = {
    "normal": lambda g, n: g.normal(size=n),
    "wide normal": lambda g, n: 4 * g.normal(size=n),
    "pareto 0.5": lambda g, n: 0.5 * g.exponential(size=n),
    "pareto 1": lambda g, n: g.exponential(size=n),
    "pareto 3": lambda g, n: 3 * g.exponential(size=n),
    "bounded": lambda g, n: np.log(g.random(n)),
    "with failed frames": lambda g, n: np.where(g.random(n) < 0.3, -np.inf, g.normal(size=n)),
    "far away": lambda g, n: 1e4 + g.normal(size=n),
}


@pytest.mark.parametrize("n", [25, 26, 99, 225, 226, 1000, 20_000])
@pytest.mark.parametrize("law", RANDOM)
def test_equals_arviz(n, law):
    log_w = RANDOM[law](np.random.default_rng(n), n)
    assert pareto_k(log_w) == pytest.approx(float(array_stats.psislw(-log_w)[1]), abs=SAME_FIT)


def mean_shape(k, replicas=100, n=10_000):
    random = np.random.default_rng(0)
    fits = np.array([pareto_k(k * random.exponential(size=n)) for _ in range(replicas)])
    tail = 3 * math.sqrt(n)
    fits = (fits * (tail + 10) - 5) / tail  # without the prior
    return fits.mean(), fits.std(ddof=1) / math.sqrt(replicas)


@pytest.mark.parametrize("k", [0.1, 0.5, 0.7, 1.0, 2.0])
def test_finds_the_index_of_exact_pareto_tails_on_average(k):
    value, error = mean_shape(k)
    assert abs(value - k) < 4 * error + BIAS


def test_finds_a_wrong_index():
    value, error = mean_shape(0.7 * 1.1)
    assert abs(value - 0.7) > 4 * error + BIAS


def test_equal_weights_have_no_tail():
    assert pareto_k(np.full(1000, 3.7)) == -math.inf


def test_weights_that_differ_by_rounding_have_no_tail():
    log_w = np.full(1000, 1000.0)
    log_w[::7] = np.nextafter(1000.0, 2000.0)
    assert pareto_k(log_w) == -math.inf


def test_draws_outside_the_target_are_no_tail():
    """Weights 0 and 1: a flow that covers more than the target."""
    assert pareto_k(np.where(np.arange(1000) % 3 == 0, 0.0, -np.inf)) == -math.inf


@pytest.mark.parametrize(
    "log_w",
    [
        np.zeros(24),
        np.random.default_rng(0).normal(size=24),
        np.full(1000, -np.inf),
        np.append(np.zeros(999), 8.0),
        np.append(np.full(999, -np.inf), 0.0),
        np.append(np.full(996, -np.inf), [0.0, 1.0, 2.0, 3.0]),
        np.append(np.zeros(999), 2000.0),
    ],
    ids=["24 equal", "24 draws", "no weight", "one giant", "one weight", "four weights", "one beyond float"],
)
def test_a_tail_that_cannot_be_fitted_is_not_bounded(log_w):
    assert pareto_k(log_w) == math.inf


def test_ties_below_the_tail_are_left_out():
    random = np.random.default_rng(0)
    log_w = np.append(np.zeros(970), random.exponential(size=30))
    assert 0.5 < pareto_k(log_w) < 1.5


def test_never_nan():
    random = np.random.default_rng(0)
    for _ in range(300):
        log_w = np.round(random.normal(size=random.integers(1, 400)) * 10 ** random.uniform(-14, 4), 1)
        assert not math.isnan(pareto_k(log_w))


@pytest.mark.parametrize("log_w", [[0.0, math.nan], [math.inf], [], [[0.0]]])
def test_what_is_no_set_of_weights_is_refused(log_w):
    with pytest.raises(InputError):
        pareto_k(log_w)


def test_threshold():
    assert reliability_threshold(100) == 0.5
    assert reliability_threshold(10**6) == 0.7
    assert reliability_threshold(1) == -math.inf
    with pytest.raises(InputError):
        reliability_threshold(0)


@pytest.mark.parametrize("n", [25, 99, 225, 1000, 20_000])
@pytest.mark.parametrize("law", RANDOM)
def test_smoothed_weights_equal_those_of_arviz(n, law):
    log_w = RANDOM[law](np.random.default_rng(n), n)
    smoothed = smoothed_log_weights(log_w)
    shared = smoothed - np.logaddexp.reduce(smoothed)
    assert shared == pytest.approx(array_stats.psislw(-log_w)[0], abs=SAME_FIT)


def test_smoothing_touches_the_tail_only_and_keeps_its_order():
    log_w = np.random.default_rng(0).exponential(size=1000)
    smoothed = smoothed_log_weights(log_w)
    assert smoothed.max() <= log_w.max()
    assert (smoothed != log_w).sum() == 94  # 3 √1000
    assert (np.argsort(smoothed, kind="stable")[:-10] == np.argsort(log_w, kind="stable")[:-10]).all()
    assert log_w.max() - smoothed.max() < 5
    tail = np.argsort(log_w)[-94:]
    assert (np.diff(smoothed[tail]) >= 0).all()


def test_smoothing_lowers_the_error_of_heavy_weights_and_biases_them():
    random = np.random.default_rng(1)
    log_w = 0.8 * random.exponential(size=(500, 1000))  # Z = 1 / (1 − 0.8)
    plain, smoothed = (
        np.exp([np.logaddexp.reduce(row) for row in rows]) / 1000
        for rows in (log_w, [smoothed_log_weights(row) for row in log_w])
    )
    assert np.abs(np.log(smoothed / 5)).mean() < np.abs(np.log(plain / 5)).mean()
    assert smoothed.mean() < 5


@pytest.mark.parametrize("log_w", [np.full(1000, 3.7), np.zeros(10), np.full(100, -np.inf)])
def test_weights_without_a_tail_stay_as_they_are(log_w):
    assert (smoothed_log_weights(log_w) == log_w).all()


def test_rounding_of_a_float32_density_is_no_tail():
    """A flow that is perfect to single precision must not be told that its weights have a tail no one can fit."""
    log_q = np.random.default_rng(0).normal(size=4000) - 12.0
    log_w = -(log_q - log_q.astype(np.float32))
    assert 0 < np.ptp(log_w) < 1e-5
    assert pareto_k(log_w) == -math.inf
    assert pareto_k(1e4 * log_w) > -math.inf


def apart(share, law, bulk=0.01):
    """Log-weights of a narrow bulk above which a share of the draws stands."""

    def draw(random, n):
        return np.where(random.random(n) < share, law(random, n), bulk * random.normal(size=n))

    return draw


HARMLESS = {
    "bounded by twice the mean": apart(0.02, lambda g, n: math.log(2) * g.random(n)),
    "normal": apart(0.02, lambda g, n: 0.3 * np.abs(g.normal(size=n))),
    "fourth moment": apart(0.03, lambda g, n: 0.2 * g.exponential(size=n)),
}
HEAVY = {
    "no mean, 1 in 100 draws": apart(0.01, lambda g, n: g.exponential(size=n)),
    "no mean, 1 in 200 draws": apart(0.005, lambda g, n: 1.5 * g.exponential(size=n)),
    "no mean, 0.1 % of the weight": lambda g, n: np.log(0.999 + 0.001 * np.exp(1.3 * g.exponential(size=n))),
    "no mean, 0.3 % of the weight": lambda g, n: np.log(0.997 + 0.003 * np.exp(g.exponential(size=n))),
}


def red(law, n, replicas=50):
    """Shares of draws that are nearly equal and called red by k̂, before and after a second look."""
    random, limit = np.random.default_rng(0), reliability_threshold(n)
    rows = [law(random, n) for _ in range(replicas)]
    flat = np.array([effective_sample_size(row) > 0.9 * n for row in rows])
    before, after = (np.array([k(row) > limit for row in rows]) for k in (pareto_k, decisive_k))
    return (flat & before).mean(), (flat & after).mean(), (before & ~after).mean()


@pytest.mark.parametrize("name", HARMLESS)
def test_a_few_draws_a_little_above_a_narrow_bulk_are_no_heavy_tail(name):
    before, after, _ = red(HARMLESS[name], 4096)
    assert before > 0.9
    assert after < 0.1


@pytest.mark.parametrize("n", [1000, 4096, 20_000])
@pytest.mark.parametrize("name", HEAVY)
def test_a_tail_without_a_mean_stays_one_however_little_it_weighs(name, n):
    assert red(HEAVY[name], n)[2] <= 0.06


@pytest.mark.parametrize("n", [25, 99, 1000, 20_000])
@pytest.mark.parametrize("law", RANDOM)
def test_uneven_weights_get_no_second_look(law, n):
    log_w = RANDOM[law](np.random.default_rng(n), n)
    assert decisive_k(log_w) == pareto_k(log_w)


@pytest.mark.parametrize("log_w", [np.full(1000, 3.7), np.zeros(24), np.append(np.zeros(999), 2.0)])
def test_where_no_tail_can_be_fitted_there_is_no_second_look_either(log_w):
    assert decisive_k(log_w) == pareto_k(log_w)


def test_nearly_equal_weights_of_few_values():
    """Ties among those that stand apart: whatever comes out is a number, and not below a fit of the same draws."""
    random = np.random.default_rng(0)
    for step in (0.05, 0.5):
        log_w = np.where(
            random.random(4096) < 0.03, step * random.integers(1, 4, 4096), 1e-3 * random.normal(size=4096)
        )
        assert not math.isnan(decisive_k(log_w))
