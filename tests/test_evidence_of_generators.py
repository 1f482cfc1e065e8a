"""What benchmarks say of trained flows beside frames of the target, against cases with known answers."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import boltzgen as bg
from boltzgen.training import History, parted
from boltzgen.training.history import Round
from boltzgen.training.learner import Learner

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_divergence_and_variation_of_maps_are_those_of_known_densities(load):
    evidence = load("evidence")
    whole = np.full((evidence.BINS, evidence.BINS), 1 / (2 * math.pi) ** 2)
    half = np.where(np.arange(evidence.BINS)[:, None] % 2, 2 * whole, 0.0)
    assert evidence.divergence(whole, whole) == pytest.approx(0, abs=1e-12)
    assert evidence.divergence(half, whole) == pytest.approx(math.log(2), abs=1e-6)
    assert evidence.variation(half, whole) == pytest.approx(0.5)
    assert evidence.divergence(whole, half) > 5, "what the draws never reach counts"


def test_a_map_is_a_density_and_counts_weights(load, random):
    evidence = load("evidence")
    rows, area = random.uniform(-math.pi, math.pi, (5000, 2)), (2 * math.pi / evidence.BINS) ** 2
    w = (rows[:, 0] > 0).astype(float)
    weighed, chosen = evidence.density(rows, w), evidence.density(rows[rows[:, 0] > 0], None)
    assert weighed.sum() * area == pytest.approx(1)
    np.testing.assert_allclose(weighed, chosen)


def test_draws_of_the_target_are_as_far_as_the_noise_and_others_farther(load, random):
    evidence = load("evidence")
    known, others, same = random.vonmises(0.5, 4, (3, 20_000, 2))
    far = [evidence.divergence(evidence.density(known, None), evidence.density(x, None)) for x in (others, same)]
    assert far[1] == pytest.approx(far[0], rel=0.1)
    assert evidence.divergence(evidence.density(known, None), evidence.density(same + 0.4, None)) > 1.5 * far[0]


@pytest.mark.parametrize("shift", [0.3, -0.2])
def test_wasserstein_distances_of_shifted_points_are_the_shift(load, random, shift):
    evidence = load("evidence")
    a = random.normal(math.pi, 0.01, (60, 2))  # across the seam
    wrapped = np.mod(a + math.pi, 2 * math.pi) - math.pi
    moved = np.mod(a + shift + math.pi, 2 * math.pi) - math.pi
    order = random.permutation(len(a))
    assert evidence.wasserstein_on_a_torus(wrapped, moved[order]) == pytest.approx(math.sqrt(2) * abs(shift), rel=1e-6)
    assert evidence.wasserstein_on_a_line(a[:, 0], a[order, 0] + shift) == pytest.approx(abs(shift))


def test_errors_between_walkers_know_that_frames_are_correlated(load, random):
    evidence = load("evidence")
    of_walkers = random.normal(size=(16, 1)) + 0.01 * random.normal(size=(16, 500))
    found = evidence.by_walker(of_walkers.ravel(), np.arange(16).repeat(500))
    assert found["value"] == pytest.approx(of_walkers.mean())
    assert found["standard_error"] == pytest.approx(of_walkers.mean(1).std(ddof=1) / 4, rel=1e-6)
    assert found["standard_error"] > 5 * of_walkers.std() / math.sqrt(of_walkers.size)


def test_frames_of_a_bias_count_by_their_weights(load, random):
    frames_of = load("reference_frames").Frames
    x = random.normal(1.0, 1.0, (400, 8)).astype(np.float32)  # the target's are normal about 0
    frames = frames_of(x[:, :, None, None], x.astype(float), 0.5 - x.astype(float), {})
    y, u, _ = frames.equal_weights()
    assert torch.equal(y[:, 0, 0].double(), u)
    assert len(y) < 0.6 * x.size, "as many as the weights are worth"
    assert abs(float(y.mean())) < 4 * float(y.std()) / math.sqrt(len(y)) + 0.05
    assert abs(x.mean()) > 0.8, "the frames alone say something else"
    some, _, of_some = frames.equal_weights(slice(6, None))
    assert set(of_some) == {0, 1}
    assert np.isin(some.numpy(), x[:, 6:]).all()


def test_the_growth_of_a_training_ends_with_all_its_evaluations(load):
    rounds = [Round(300.0, 0.5 + 0.001 * k, 300.0, 100, float(k)) for k in range(400)]
    history = History(rounds=rounds, energy=7000, gradient=40_000)
    found = load("evidence").growth(history)
    assert len(found) <= load("evidence").POINTS
    assert found[0] == [300.0, 0.5, 7100, 0.0]
    assert found[-1] == [300.0, 0.899, 47_000, 399.0]


@pytest.fixture
def beside(load):
    """What `beside` says of a generator and frames that follow the target, those of the bundled one reweighted."""
    evidence, frames_of = load("evidence"), load("reference_frames").Frames
    bundled = bg.BoltzmannGenerator.load("alanine_dipeptide")
    fair = bundled.sample(8000, seed=5).resample(6400, seed=5)
    x, u = fair.positions().numpy().reshape(200, 32, 22, 3), fair.potential.numpy().reshape(200, 32)
    frames = frames_of(x, u, np.zeros_like(u), {"system": "alanine_dipeptide"})
    return lambda generator: evidence.beside(generator, generator.sample(3000, seed=1), frames, matched=300)


def test_a_good_flow_is_near_the_frames_and_an_untrained_one_is_not(beside):
    found = beside(bg.BoltzmannGenerator.load("alanine_dipeptide"))
    gap, change = found["eubo_gap"], found["free_energy_error"]["phi"]
    assert -4 * gap["standard_error"] < gap["value"] < 0.1
    assert abs(change["value"]) < 4 * change["standard_error"]
    assert found["outside_the_chart"] == 0
    maps = found["maps"]
    assert maps["divergence_reweighted"] == pytest.approx(maps["divergence_noise"], rel=0.2)
    assert found["torus_w2"]["reweighted"] < 2 * found["torus_w2"]["noise"]
    assert found["energy_w2"]["reweighted"] < 3 * found["energy_w2"]["noise"]
    assert "not trustworthy" not in found["verdict"]

    other = beside(bg.BoltzmannGenerator(bg.Molecule.load("alanine_dipeptide")))
    assert other["eubo_gap"]["value"] > 5
    assert other["maps"]["variation_raw"] > 1.2 * other["maps"]["variation_noise"]
    assert "not trustworthy" in other["verdict"]


def test_a_running_average_from_outside_is_that_of_the_training(load):
    flow, noise = bg.coupling_flow(2, layers=2, hidden=(8,)), torch.Generator().manual_seed(0)
    average, learner = load("averages").RunningAverage(flow, 0.9), Learner(flow)
    for k in range(30):
        loss = bg.forward_kl(flow, torch.randn(32, 2, generator=noise))
        learner.step(loss, 1e-2, decay=min(0.9, (k + 1) / (k + 10)))
        average.update()
    live = average.now()
    assert all(torch.equal(a, b) for a, b in zip(average.values, learner.average, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(average.values, live, strict=True))
    with average.within(average.values):
        assert all(torch.equal(a, b) for a, b in zip(average.now(), learner.average, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(average.now(), live, strict=True))


def test_every_variant_can_be_made_and_replaces_what_is_there(load):
    ablations = load("ablations")
    charts = {}
    for fold in (True, False):
        chart = bg.InternalCoordinates(bg.Molecule.load("alanine_dipeptide"), fold=fold)
        charts[fold] = (chart, *chart.harmonic_scales(1200.0))
    assert charts[True][0].rotors
    assert not charts[False][0].rotors
    for name, variant in ablations.VARIANTS.items():
        flow = variant.flow(*charts[variant.coordinates.get("fold", True)], 0)
        x, log_q = flow.sample(4, seed=1)
        torch.testing.assert_close(flow.log_prob(x), log_q, atol=1e-2, rtol=1e-3, msg=name)
        before = {key: getattr(ablations.owner(key), key) for key in variant.replaced}
        with ablations.with_names(variant.replaced):
            assert all(getattr(ablations.owner(key), key) is value for key, value in variant.replaced.items())
        assert all(getattr(ablations.owner(key), key) is value for key, value in before.items())
        assert (parted.has_parts(flow)) == (name not in ("annealing-reweighting", "no-hierarchy"))


def test_shares_at_equal_evaluations_lie_between_the_marks(load):
    curve = [{"evaluations": n, "ess_fraction": n / 100, "ess_fraction_clipped": n / 50} for n in (10, 20, 40)]
    at = load("training_tables").at_evaluations
    assert at(curve, 30) == pytest.approx([0.3, 0.6])
    assert at(curve, 50) == pytest.approx([0.4, 0.8])


def test_every_residue_counts_and_a_molecule_without_any_has_no_map(load, random):
    evidence, frames_of = load("evidence"), load("reference_frames").Frames
    for name, angles in (("alanine_tetrapeptide", {"phi_2", "phi_3", "phi_4"}), ("butane", {"phi"})):
        generator = bg.BoltzmannGenerator(bg.Molecule.load(name))
        x = generator.sample(160, seed=2).positions().numpy().reshape(20, 8, -1, 3)  # torsions of both signs
        frames = frames_of(x.astype(np.float32), np.zeros((20, 8)), np.zeros((20, 8)), {"system": name})
        found = evidence.beside(generator, generator.sample(200, seed=1), frames, matched=50)
        assert set(found["free_energy_error"]) == angles
        assert ("maps" in found) == ("torus_w2" in found) == (len(angles) > 1)
        assert found["energy_w2"]["n"] == 50
