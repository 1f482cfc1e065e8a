import math

import numpy as np
import pytest

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import Estimate, conformers, probability

DEGREE = math.pi / 180
STAGGERED = [-120 * DEGREE, 0.0, 120 * DEGREE]
N = 40_000


def energy(phi):
    """Three wells of different depth."""
    return 1.5 * np.cos(3 * phi) + np.cos(phi) + 0.3 * np.sin(phi)


def draws(n=N, k=2, seed=0):
    """Uniform on the torus, with the weights of independent torsions."""
    angles = np.random.default_rng(seed).uniform(-math.pi, math.pi, (n, k))
    return -energy(angles).sum(1), angles


def exact():
    """Populations of gauche⁻, gauche⁺ and trans of one torsion, by a fine sum."""
    phi = (np.arange(1_200_000) + 0.5) / 1_200_000 * 2 * math.pi - 120 * DEGREE
    return (p := np.exp(-energy(phi)).reshape(3, -1).sum(1)) / p.sum()


def test_populations_of_independent_torsions(assert_consistent):
    found, truth = conformers(*draws()), exact()
    assert len(found) == 9
    for i, (a, b) in enumerate(found.cell):
        assert_consistent(found.population[i], truth[a] * truth[b])
    assert found.population.value.sum() == pytest.approx(1)
    assert (np.diff(found.population.value) <= 0).all()
    assert found.population.reliable.all()


def test_populations_from_wrong_weights_are_caught(assert_consistent):
    log_w, angles = draws()
    found, truth = conformers(log_w + 0.3 * (angles[:, 0] > 0), angles), exact()
    with pytest.raises(AssertionError, match="sigmas"):
        for i, (a, b) in enumerate(found.cell):
            assert_consistent(found.population[i], truth[a] * truth[b])


def test_each_is_its_probability():
    log_w, angles = draws(4000)
    found = conformers(log_w, angles)
    for i in range(len(found)):
        one, other = found.population[i], probability(log_w, found.label == i)
        assert isinstance(one, Estimate)
        assert one.value == pytest.approx(other.value, rel=1e-12)
        assert one.standard_error == pytest.approx(other.standard_error, rel=1e-9)
        assert one.interval == pytest.approx(other.interval, rel=1e-9)


def test_a_conformer_goes_round_the_back_of_the_circle():
    angles = np.array([179.0, -179.0, 178.0, 61.0, 59.0])[:, None] * DEGREE
    found = conformers(np.zeros(100), np.repeat(angles, 20, axis=0))
    assert found.cell.tolist() == [[2], [1]]
    assert found.population.value == pytest.approx([0.6, 0.4])
    assert np.abs(found.center.ravel() / DEGREE) == pytest.approx([179.33, 60.0], abs=0.01)


@pytest.mark.parametrize("turns", [-1, 2])
def test_whole_turns_do_not_matter(turns):
    log_w, angles = draws(2000)
    here, there = conformers(log_w, angles), conformers(log_w, angles + 2 * math.pi * turns)
    assert (here.label == there.label).all()
    assert here.center == pytest.approx(there.center)


def test_boundaries_of_ones_own():
    log_w, angles = draws(4000)
    found = conformers(log_w, angles, boundaries=[[0.0, 3.0], STAGGERED])
    assert found.cell.max(0).tolist() == [1, 2]
    assert len(conformers(log_w, angles, boundaries=[0.0])) == 1


def test_rare_conformers_are_not_believed_and_draws_without_weight_are_in_none():
    angles = np.concatenate([np.full((500, 1), 1.0), np.full((10, 1), -1.0), np.full((90, 1), math.nan)])
    log_w = np.concatenate([np.zeros(510), np.full(90, -np.inf)])
    found = conformers(log_w, angles)
    assert found.population.reliable.tolist() == [True, False]
    assert "too few draws in the conformer: 10" in found.population[1].why
    assert np.bincount(found.label + 1).tolist() == [90, 500, 10]
    assert found.population.n == 600


def test_the_only_conformer_has_no_error_bar():
    one = conformers(np.zeros(1000), np.ones((1000, 1))).population[0]
    assert (one.value, one.standard_error, one.interval) == (1.0, math.inf, (0.0, 1.0))


def test_heavy_weights_warn():
    with pytest.warns(UnreliableEstimateWarning, match="Pareto k"):
        found = conformers(np.random.default_rng(0).exponential(size=N), draws()[1])
    assert not found.population.reliable.any()


@pytest.mark.parametrize(
    ("torsions", "boundaries", "message"),
    [
        (np.zeros(100), STAGGERED, r"shape \(n, d\)"),
        (np.zeros((100, 0)), STAGGERED, "torsions must be one at least"),
        (np.zeros((100, 1)), [], "must ascend within one turn"),
        (np.zeros((100, 1)), [1.0, 0.0], "must ascend within one turn"),
        (np.zeros((100, 1)), [0.0, 7.0], "must ascend within one turn"),
        (np.zeros((100, 2)), [[0.0, 1.0]], "one for each of 2 torsions; got 1"),
        (np.full((100, 1), math.nan), STAGGERED, "must be finite"),
    ],
)
def test_mistakes_are_explained(torsions, boundaries, message):
    with pytest.raises(InputError, match=message):
        conformers(np.zeros(100), torsions, boundaries=boundaries)


def test_a_conformer_whose_weights_vanish_is_as_unknown_as_an_empty_state():
    angles = np.repeat([1.0, -1.0], 500)[:, None]
    log_w = np.repeat([0.0, -800.0], 500)
    rare = conformers(log_w, angles).population[1]
    assert (rare.value, rare.standard_error, rare.interval) == (0.0, math.inf, (0.0, 1.0))
    assert "too small beside the others" in rare.why
    with pytest.warns(UnreliableEstimateWarning, match="in the state are too small beside the others"):
        other = probability(log_w, angles[:, 0] < 0)
    assert (rare.value, rare.standard_error, rare.interval) == (other.value, other.standard_error, other.interval)


@pytest.mark.parametrize("boundaries", [None, 1.0, "abc", [None, 1.0]])
def test_boundaries_must_be_numbers(boundaries):
    with pytest.raises(InputError, match="boundaries must"):
        conformers(*draws(100), boundaries=boundaries)
