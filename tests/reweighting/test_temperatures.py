import math

import numpy as np
import pytest
import torch

import boltzgen as bg
from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import at_temperature, expectation, log_partition, pareto_k, thermodynamics, variance

D = 4
WIDTH = 1.2  # of the proposal
LADDER = [0.8, 1.0, 1.3]
OFF = math.log(1.05)


def harmonic(n, seed):
    """Draws of N(0, WIDTH²) for u = ½ |x|² at T₀ = 1: log-weights and potential."""
    x = WIDTH * np.random.default_rng(seed).normal(size=(n, D))
    square = (x**2).sum(1)
    log_q = -0.5 * square / WIDTH**2 - 0.5 * D * math.log(2 * math.pi * WIDTH**2)
    return -0.5 * square - log_q, 0.5 * square


def exact(t):
    """F, ⟨U⟩, C and S of D harmonic oscillators, kT₀ = 1."""
    log_z = 0.5 * D * math.log(2 * math.pi * t)
    return -t * log_z, 0.5 * D * t, 0.5 * D, 0.5 * D + log_z


def columns(curves):
    return curves.free_energy, curves.mean_energy, curves.heat_capacity, curves.entropy


def test_oscillators_at_any_temperature(assert_consistent):
    curves = thermodynamics(*harmonic(200_000, seed=1), LADDER, drawn_at=1.0)
    assert curves.reliable.all()
    for i, t in enumerate(LADDER):
        for column, truth in zip(columns(curves), exact(t), strict=True):
            assert_consistent(column[i], truth)


def test_curves_from_wrong_weights_are_caught(assert_consistent):
    log_w, potential = harmonic(1_000_000, seed=1)
    curves = thermodynamics(log_w + OFF * (potential > 2), potential, LADDER, drawn_at=1.0)
    for i, t in enumerate(LADDER):
        for column, truth in zip(columns(curves), exact(t), strict=True):
            with pytest.raises(AssertionError, match="sigmas"):
                assert_consistent(column[i], truth)


def test_intervals_cover_the_truth():
    truth = np.array([exact(t) for t in LADDER]).T
    hits = []
    for seed in range(500):
        curves = thermodynamics(*harmonic(3000, seed), LADDER, drawn_at=1.0)
        low, high = (np.array([column.interval[side] for column in columns(curves)]) for side in (0, 1))
        hits.append((low <= truth) & (truth <= high))
    shares = np.mean(hits, axis=0)
    assert ((shares >= 0.92) & (shares <= 0.98)).all(), shares  # 3 σ of 500 replicas


def test_at_the_temperature_drawn_for_the_estimators_agree():
    log_w, potential = harmonic(5000, seed=2)
    curves = thermodynamics(log_w, potential, [300.0], drawn_at=300.0)
    assert curves.mean_energy[0] == expectation(log_w, potential)
    assert curves.heat_capacity[0] == variance(log_w, potential)
    assert curves.free_energy[0].value == -log_partition(log_w).value
    assert curves.ess[0] == curves.free_energy.ess
    assert curves.pareto_k[0] == pareto_k(log_w)


@pytest.mark.parametrize("t", [0.9, 1.2])
def test_energy_free_energy_and_entropy_belong_together(t):
    """U = F + T S and C = dU/dT, to the last bit that the draws have."""
    log_w, potential = harmonic(5000, seed=3)
    h = 1e-4
    curves = thermodynamics(log_w, potential, [t - h, t, t + h], drawn_at=1.0)
    f, u, c, s = (column.value for column in columns(curves))
    assert u[1] == pytest.approx(f[1] + t * s[1], rel=1e-12)
    slope = (u[2] - u[0]) / (2 * h)
    assert c[1] == pytest.approx(slope, abs=0.01 * slope)  # the correction of the variance is of that size
    assert -(f[2] - f[0]) / (2 * h) == pytest.approx(s[1], rel=1e-6)


def test_beyond_the_reach_of_the_draws_nothing_is_believed():
    log_w, potential = harmonic(2000, seed=4)
    with pytest.warns(UnreliableEstimateWarning, match=r"out of reach at 0\.02 K: .*") as caught:
        curves = thermodynamics(log_w, potential, [1.0, 0.02], drawn_at=1.0)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert curves.reliable.tolist() == [True, False]
    assert curves.ess[1] < 25
    assert not curves.entropy[1].reliable


def test_heavy_tails_when_heating_are_told():
    """At T₀ the draws suffice; at 4 T₀ the weights have an infinite variance."""
    log_w, potential = harmonic(5000, seed=5)
    with pytest.warns(UnreliableEstimateWarning, match="Pareto k"):
        curves = thermodynamics(log_w, potential, [1.0, 4.0], drawn_at=1.0)
    assert curves.reliable.tolist() == [True, False]
    assert curves.pareto_k[1] > 0.7


def test_failed_draws_stay_failed_at_every_temperature():
    log_w, potential = np.array([0.0, -np.inf, -1.0]), np.array([1.0, np.inf, 2.0])
    assert at_temperature(log_w, potential, 1.0, 2.0).tolist() == [0.5, -np.inf, 0.0]
    assert at_temperature(log_w, potential, 1.0, 0.5).tolist() == [-1.0, -np.inf, -3.0]


def test_torch_and_numpy_agree():
    log_w, potential = harmonic(1000, seed=6)
    tensors = torch.tensor(log_w), torch.tensor(potential)
    assert (
        thermodynamics(*tensors, [1.1], drawn_at=1.0).entropy[0]
        == (thermodynamics(log_w, potential, [1.1], drawn_at=1.0).entropy[0])
    )


@pytest.mark.parametrize(
    ("temperatures", "message"),
    [([], "at least one"), ([0.0], "positive number of kelvin"), (310.0, "got 310.0: put it in"), ("hot", "got 'h'")],
)
def test_mistakes_are_explained(temperatures, message):
    with pytest.raises(InputError, match=message):
        thermodynamics(np.zeros(100), np.zeros(100), temperatures, drawn_at=300.0)


def test_temperatures_may_come_one_after_the_other():
    log_w, potential = harmonic(1000, seed=6)
    curves = thermodynamics(log_w, potential, (t for t in np.array([1.0, 1.1])), drawn_at=1.0)
    assert curves.temperatures.tolist() == [1.0, 1.1]


def test_one_ensemble_of_alanine_dipeptide_from_300_to_500_kelvin():
    """At 400 K it agrees with draws made for that temperature, of the flow with a hotter base; beyond, it refuses."""
    generator, ladder = bg.BoltzmannGenerator.load("alanine_dipeptide"), [300.0, 350.0, 400.0, 450.0, 500.0]
    samples = generator.sample(10 * 1024, seed=11)
    with pytest.warns(UnreliableEstimateWarning, match="out of reach at 450 K: Pareto k .* / 500 K: "):
        curves = thermodynamics(samples.log_w, samples.potential, ladder, drawn_at=300.0)
    assert curves.reliable.tolist() == [True, True, True, False, False]
    hotter = bg.Flow(generator.flow.base.tempered(400 / 300), generator.flow.bijection)
    hot = bg.draw(hotter, generator.target.at(400.0), 4 * 1024, seed=12)
    free_energy = log_partition(hot.log_w) * (-400 / 300)
    mean_energy = expectation(hot.log_w, hot.potential) * (400 / 300)
    assert free_energy.standard_error < 0.03
    for found, wanted in ((curves.free_energy[2], free_energy), (curves.mean_energy[2], mean_energy)):
        assert found.standard_error < 1.0
        assert abs(found.value - wanted.value) < 4 * math.hypot(found.standard_error, wanted.standard_error)
