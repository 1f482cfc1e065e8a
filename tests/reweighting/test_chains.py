import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reporting import judge
from boltzgen.reweighting import (
    autocorrelation_time,
    chain_average,
    expectation,
    independence_metropolis,
    log_partition,
)
from boltzgen.sampling import Samples

OFF = math.log(1.05)


def autoregression(phi, n, seed=0):
    """x_t = φ x_{t−1} + noise, stationary with variance one: τ = (1 + φ)/(1 − φ)."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=n) * math.sqrt(1 - phi**2)
    x, value = np.empty(n), random.normal()
    for t in range(n):
        value = phi * value + noise[t]
        x[t] = value
    return x


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.5, 0.9])
def test_the_time_of_an_autoregression_is_known(phi):
    times = [autocorrelation_time(autoregression(phi, 20_000, seed)) for seed in range(8)]
    assert np.mean(times) == pytest.approx((1 + phi) / (1 - phi), rel=0.1)


def test_intervals_of_a_chain_cover_the_truth():
    hits = [abs(e.value) <= e.interval[1] - e.value for e in (
        chain_average(autoregression(0.8, 3000, seed)) for seed in range(500)
    )]  # fmt: skip
    assert 0.92 <= np.mean(hits) <= 0.98  # 3 σ of 500 replicas


def test_errors_that_ignore_the_correlation_do_not():
    """The twin: √(variance/n) is three times too small."""
    series = [autoregression(0.8, 3000, seed) for seed in range(300)]
    hits = [abs(x.mean()) <= 1.96 * x.std() / math.sqrt(len(x)) for x in series]
    assert np.mean(hits) < 0.7


def test_a_chain_over_the_draws_follows_the_target(shifted, assert_consistent):
    target = shifted(0.3)
    x, log_w = target.draw(100_000, seed=1)
    chain = independence_metropolis(log_w, seed=2)
    assert_consistent(chain_average(x[chain.rows]), target.mean)
    assert_consistent(chain_average((x[chain.rows] - target.mean) ** 2), 1.0)
    # its proposals are accepted with E min(w, w')/Z = P(|N(0, 1)| > m/√2) for lognormal weights
    assert chain.acceptance == pytest.approx(math.erfc(target.mean / 2), abs=0.01)


def test_a_chain_over_wrong_weights_is_caught(shifted, assert_consistent):
    target = shifted(0.8)
    x, log_w = target.draw(300_000, seed=1)
    chain = independence_metropolis(log_w + OFF * (x > 1), seed=2)
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(chain_average(x[chain.rows]), target.mean)


def test_weights_do_better_than_the_chain(shifted):
    x, log_w = shifted(0.5).draw(50_000, seed=3)
    chain = chain_average(x[independence_metropolis(log_w, seed=1).rows])
    assert chain.standard_error > expectation(log_w, x).standard_error


def test_the_luck_of_acceptance_can_be_taken_out(shifted, assert_consistent):
    """Of an observable, and of a state, each with an error between that of the chain and that of the weights."""
    target = shifted(0.8)
    x, log_w = target.draw(50_000, seed=3)
    chain = independence_metropolis(log_w, seed=1)
    for f, exact in ((x, target.mean), (x < 0.2, target.below(0.2))):
        plain, better = chain_average(f[chain.rows]), chain_average(chain.series(f))
        assert_consistent(better, exact)
        assert expectation(log_w, f).standard_error < better.standard_error < plain.standard_error / 1.07
    chances = chain.chance
    assert chances.mean() == pytest.approx(chain.acceptance, abs=0.01)


def test_a_series_forgets_no_stay(shifted, assert_consistent):
    """The twin: where the proposals are, whether accepted or not."""
    target = shifted(0.8)
    x, log_w = target.draw(50_000, seed=3)
    chain = replace(independence_metropolis(log_w, seed=1), chance=np.ones(50_000))
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(chain_average(chain.series(x)), target.mean)


def test_a_series_ignores_what_has_no_weight():
    log_w = np.where(np.arange(100) % 3 == 0, -np.inf, 0.0)
    chain = independence_metropolis(log_w, seed=1)
    assert (chain.series(np.where(np.isfinite(log_w), 2.0, np.nan)) == 2.0).all()
    with pytest.raises(InputError, match="f must"):
        chain.series(np.zeros(99))


def test_a_heavy_draw_is_a_long_stay_and_told():
    x = np.random.default_rng(0).normal(size=1000)
    log_w = np.where(np.arange(1000) == 100, 12.0, 0.0)
    chain = independence_metropolis(log_w, seed=0)
    assert (chain.rows[100:] == 100).mean() > 0.9
    with pytest.warns(UnreliableEstimateWarning, match="rows of the chain are worth only") as caught:
        chain_average(x[chain.rows])
    assert caught[0].filename == __file__


def test_draws_of_weight_zero_are_never_visited():
    log_w = np.where(np.arange(1000) % 3 == 0, -np.inf, 0.0)
    chain = independence_metropolis(log_w, seed=1)
    assert np.isfinite(log_w[chain.rows]).all()
    assert chain.acceptance == pytest.approx(2 / 3, abs=0.01)
    assert len(chain.rows) == 1000


def test_a_chain_depends_on_its_seed_only(shifted):
    _, log_w = shifted(0.3).draw(1000, seed=1)
    one = independence_metropolis(log_w, seed=1)
    assert (one.rows == independence_metropolis(torch.tensor(log_w), seed=1).rows).all()
    assert (one.rows != independence_metropolis(log_w, seed=2).rows).any()


def test_a_constant_series_is_worth_one_row():
    assert autocorrelation_time(np.full(100, 3.7)) == 100
    with pytest.warns(UnreliableEstimateWarning, match="worth only 1,"):
        estimate = chain_average(np.full(100, 3.7))
    assert (estimate.value, estimate.standard_error) == (pytest.approx(3.7), math.inf)


@pytest.mark.parametrize("series", [[1.0, 2.0, 3.0], [1.0, 2.0, math.nan, 4.0], [[1.0] * 4]])
def test_mistakes_are_explained(series):
    with pytest.raises(InputError, match="series must hold"):
        chain_average(series)


@pytest.mark.parametrize("seed", [-1, 1.0, True])
def test_a_seed_must_be_a_whole_number(seed):
    with pytest.raises(InputError, match="seed must be a non-negative integer"):
        independence_metropolis(np.zeros(10), seed=seed)


def ensemble(shifted, n=50_000):
    target = shifted(0.3)
    x, log_w = target.draw(n, seed=1)
    return target, Samples(torch.tensor(x)[:, None], torch.zeros(n), -torch.tensor(log_w))


def test_the_chain_as_samples_has_the_law_of_the_target_with_equal_weights(shifted, assert_consistent):
    target, draws = ensemble(shifted)
    chain = independence_metropolis(draws.log_w, seed=2)
    along = chain.samples(draws)
    assert along.x.equal(draws.x[chain.rows])
    assert along.u.equal(draws.u[chain.rows])
    assert along.log_w.numpy() == pytest.approx(log_partition(draws.log_w).value, abs=1e-12)
    assert_consistent(chain_average(along.x[:, 0]), target.mean)
    # weighed again: N(2m, 1)
    assert float(expectation(draws[chain.rows].log_w, along.x[:, 0])) == pytest.approx(2 * target.mean, abs=0.1)


def test_repeated_rows_are_judged_by_their_dependence(shifted):
    _, draws = ensemble(shifted, 5000)
    chain = independence_metropolis(draws.log_w, seed=2)
    for repeated in (chain.samples(draws), draws[chain.rows], draws[[0, 1, -5000]]):
        assert not repeated.independent
        (light,) = (check.status for check in judge(repeated).checks if check.name == "independence")
        assert light == "red"
    assert draws[::2].independent
    assert draws[[3, 1, -1]].independent
    assert draws[draws.u < 0].independent


def test_a_chain_belongs_to_its_draws(shifted):
    _, draws = ensemble(shifted, 1000)
    chain = independence_metropolis(draws.log_w, seed=2)
    with pytest.raises(InputError, match="draws must be those of the chain, 1000 with weight"):
        chain.samples(draws[:-1])
    failed = draws.u.clone()
    failed[chain.rows[-1]] = math.inf
    with pytest.raises(InputError, match="draws must be those of the chain"):
        chain.samples(replace(draws, u=failed))
    with pytest.raises(InputError, match="draws must be"):
        chain.samples(draws.log_w)
