import math

import numpy as np
import pytest
import torch
from scipy import stats

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import free_energy_difference, histogram, probability, profile

OFF = math.log(1.05)
EDGES = np.array([-1.0, 0.0, 0.4, 1.2, 2.5])


def exact_probabilities(target, edges=EDGES):
    return np.diff(stats.norm.cdf(edges - target.mean))


def test_every_bin_is_its_probability(shifted):
    x, log_w = shifted(0.5).draw(3000, seed=0)
    found = histogram(log_w, x, bins=EDGES)
    assert found.shape == (4,)
    for k in range(4):
        one = probability(log_w, (x >= EDGES[k]) & (x < EDGES[k + 1]))
        assert found[k].value == pytest.approx(one.value, rel=1e-12)
        assert found[k].standard_error == pytest.approx(one.standard_error, rel=1e-9)
        assert found[k].interval == pytest.approx(one.interval, rel=1e-9)
        assert (found[k].ess, found[k].n, found[k].pareto_k) == (one.ess, one.n, one.pareto_k)


def test_the_profile_is_that_of_the_normal_law(shifted, assert_consistent):
    target = shifted(0.5)
    x, log_w = target.draw(200_000, seed=1)
    found, exact = profile(log_w, x, bins=EDGES), -np.log(exact_probabilities(target) / np.diff(EDGES))
    for k in range(4):
        assert_consistent(found[k], exact[k])
    assert found.reliable.all()


def test_a_profile_from_wrong_weights_is_caught(shifted, assert_consistent):
    target = shifted(0.8)
    x, log_w = target.draw(500_000, seed=1)
    found = profile(log_w + OFF * (x > 1), x, bins=EDGES)
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(found[3], -math.log(exact_probabilities(target)[3] / 1.3))


@pytest.mark.parametrize("estimator", [histogram, profile])
def test_intervals_cover_the_truth(shifted, coverage, estimator):
    target = shifted(0.5)
    exact = exact_probabilities(target)
    if estimator is profile:
        exact = -np.log(exact / np.diff(EDGES))
    found = coverage(target, lambda x, w: estimator(w, x, bins=EDGES), exact, n=2000, replicas=1000)
    assert ((found >= 0.93) & (found <= 0.97)).all()


def test_the_errors_are_those_of_the_bootstrap(shifted, bootstrapped):
    x, log_w = shifted(0.5).draw(5000, seed=3)
    estimate = profile(log_w, x, bins=EDGES)
    error, (low, high) = bootstrapped(lambda x, w: profile(w, x, bins=EDGES).value, len(x), x, log_w)
    assert estimate.standard_error == pytest.approx(error, rel=0.15)
    assert np.abs(estimate.interval[0] - low).max() < 0.5 * error.max()
    assert np.abs(estimate.interval[1] - high).max() < 0.5 * error.max()


def test_two_bins_differ_by_the_free_energy_difference(shifted):
    x, log_w = shifted(0.5).draw(3000, seed=0)
    found = profile(log_w, x, bins=[-1.0, 1.0, 3.0])
    difference = free_energy_difference(log_w, (x >= -1) & (x < 1), (x >= 1) & (x < 3))
    assert found.value[1] - found.value[0] == pytest.approx(difference.value)


@pytest.mark.parametrize("turns", [0, 1, -3])
@pytest.mark.parametrize("start", [-math.pi, 0.0, 0.3])
def test_a_periodic_variable_is_brought_into_the_bins(turns, start):
    random = np.random.default_rng(0)
    phi, log_w = random.uniform(-math.pi, math.pi, 1000), random.normal(size=1000)
    edges = start + np.linspace(0, 2 * math.pi, 13)
    home = start + np.mod(phi - start, 2 * math.pi)
    expected = histogram(log_w, home, bins=edges)
    found = histogram(log_w, phi + 2 * math.pi * turns, bins=edges, period=2 * math.pi)
    assert found.value == pytest.approx(expected.value, abs=1e-12)
    assert found.value.sum() == pytest.approx(1.0)


def test_bins_of_a_period_fill_it():
    phi = np.random.default_rng(0).uniform(0, 2 * math.pi, 1000)
    found = histogram(np.zeros(1000), phi, bins=6, period=2 * math.pi)
    assert found.edges[0] == pytest.approx(np.linspace(-math.pi, math.pi, 7))
    assert found.value.sum() == pytest.approx(1.0)
    assert found.centers[0][0] == pytest.approx(-5 * math.pi / 6)


def test_every_draw_is_in_a_bin_if_nothing_else_is_asked(shifted):
    x, log_w = shifted(0.5).draw(1000, seed=0)
    log_w[:100], x[:100] = -np.inf, 1e6  # failed draws do not stretch the range
    found = histogram(log_w, x, bins=7)
    assert found.value.sum() == pytest.approx(1.0)
    assert found.edges[0][[0, -1]].tolist() == [x[100:].min(), x[100:].max()]


def test_draws_outside_the_edges_count_in_the_whole():
    found = histogram(np.zeros(1000), (np.arange(1000) + 0.5) / 1000, bins=[0.0, 0.25, 0.5])
    assert found.value.tolist() == pytest.approx([0.25, 0.25])


def test_two_variables():
    random = np.random.default_rng(0)
    s, log_w = random.normal(size=(5000, 2)), 0.3 * random.normal(size=5000)
    edges = np.array([-1.0, 0.0, 1.0]), np.array([-2.0, 0.0, 0.5, 1.0])
    found = histogram(log_w, s, bins=edges)
    expected, _, _ = np.histogram2d(s[:, 0], s[:, 1], bins=edges, weights=np.exp(log_w) / np.exp(log_w).sum())
    assert found.value == pytest.approx(expected)
    corner = (s[:, 0] >= 0) & (s[:, 0] < 1) & (s[:, 1] >= 0.5) & (s[:, 1] < 1)
    assert found[1, 2].interval == pytest.approx(probability(log_w, corner).interval, rel=1e-9)
    volume = np.diff(edges[0])[:, None] * np.diff(edges[1])
    assert profile(log_w, s, bins=edges).value == pytest.approx(-np.log(expected / volume))


def test_two_variables_one_of_them_periodic():
    random = np.random.default_rng(0)
    s = np.stack([random.uniform(-math.pi, math.pi, 2000), random.normal(size=2000)], -1)
    turned = s + np.array([2 * math.pi, 0.0])
    found = histogram(np.zeros(2000), turned, bins=(6, 5), period=(2 * math.pi, None))
    assert found.shape == (6, 5)
    assert found.value.sum() == pytest.approx(1.0)
    assert found.value == pytest.approx(histogram(np.zeros(2000), s, bins=(6, 5), period=[2 * math.pi, None]).value)
    assert abs(histogram(np.zeros(2000), turned, bins=found.edges).value.sum() - 1) > 0.1  # the twin without a period


def test_an_empty_bin_and_a_full_one(recwarn):
    found = histogram(np.zeros(1000), np.arange(1000) / 1000, bins=[0.0, 1.0, 2.0])
    assert found.value.tolist() == [1.0, 0.0]
    assert found.standard_error.tolist() == [math.inf, math.inf]
    assert [limit.tolist() for limit in found.interval] == [[0.0, 0.0], [1.0, 1.0]]
    energy = profile(np.zeros(1000), np.arange(1000) / 1000, bins=[0.0, 1.0, 2.0])
    assert energy.value.tolist() == [0.0, math.inf]
    assert energy.interval[0].tolist() == [0.0, 0.0]
    assert energy.why[1] == "too few draws in the bin: 0, at least 25 are needed"
    assert not recwarn


def test_only_weights_bad_as_a_whole_warn():
    with pytest.warns(UnreliableEstimateWarning, match="too few draws: 20") as caught:
        found = profile(np.zeros(20), np.arange(20.0), bins=2)
    assert caught[0].filename == __file__
    assert not found.reliable.any()


def test_torch_and_numpy_agree(shifted):
    x, log_w = shifted(0.5).draw(1000, seed=7)
    assert profile(torch.tensor(log_w), torch.tensor(x), bins=5)[2] == profile(log_w, x, bins=5)[2]
    pair = np.stack([x, x**2], -1)
    assert profile(torch.tensor(log_w), torch.tensor(pair), bins=3)[0, 0] == profile(log_w, pair, bins=3)[0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "positive number of bins"),
        ({"bins": "auto"}, "or their edges; got 'auto'"),
        ({"bins": 7.5}, "or their edges; got 7.5"),
        ({"bins": [[0.0, 1.0], [0.0, 1.0, 2.0]]}, "bins must hold"),
        ({"period": ["2 pi"]}, "period must be a positive number or None; got '2 pi'"),
        ({"bins": [1.0]}, "two at least"),
        ({"bins": [1.0, 0.0]}, "ascending"),
        ({"period": 0.0}, "period must be a positive number"),
        ({"bins": [0.0, 7.0], "period": 2 * math.pi}, "within one period"),
        ({"period": (None, None)}, "one for each of 1"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(InputError, match=message):
        histogram(np.zeros(100), np.arange(100.0), **options)


def test_mistakes_in_two_dimensions_are_explained():
    with pytest.raises(InputError, match="two at most"):
        histogram(np.zeros(100), np.zeros((100, 3)))
    with pytest.raises(InputError, match="pair for two variables; got 3"):
        histogram(np.zeros(100), np.zeros((100, 2)), bins=(1, 2, 3))
    with pytest.raises(InputError, match="or their edges; got 'auto'"):
        histogram(np.zeros(100), np.zeros((100, 2)), bins="auto")
    with pytest.raises(InputError, match="not be the same at every draw"):
        histogram(np.zeros(100), np.zeros(100))
