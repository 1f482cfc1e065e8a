"""The facade: what it chooses, what it saves, what it refuses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import boltzgen as bg
from boltzgen.molecule import find
from boltzgen.units import kT

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
pytestmark = pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")


@pytest.fixture(scope="module")
def molecule():
    return bg.Molecule.load("alanine_dipeptide")


def test_a_molecule_is_trained_sampled_saved_and_loaded(molecule, tmp_path):
    generator = bg.BoltzmannGenerator(molecule, temperature=300.0)
    history = generator.train(steps=20, run_dir=tmp_path / "run", progress=False)
    assert history.gradient > 0
    samples = generator.sample(500, seed=1)
    assert samples.positions().shape == (500, 22, 3)
    assert samples.torsion("phi").shape == (500,)
    again = bg.BoltzmannGenerator.load(tmp_path / "run").sample(500, seed=1)
    assert torch.equal(again.log_w, samples.log_w)
    assert torch.equal(again.x, samples.x)


def test_a_finished_run_is_not_trained_again_and_another_molecule_is_refused(molecule, tmp_path):
    first = bg.BoltzmannGenerator(molecule)
    first.train(steps=10, run_dir=tmp_path, progress=False)
    second = bg.BoltzmannGenerator(molecule)
    history = second.train(steps=10, run_dir=tmp_path, progress=False)
    assert len(history.losses) == len(first.history.losses)
    assert torch.equal(first.sample(100, seed=1).x, second.sample(100, seed=1).x)
    with pytest.raises(bg.CheckpointError, match="must belong to this training"):
        bg.BoltzmannGenerator(molecule, temperature=310.0).train(steps=10, run_dir=tmp_path, progress=False)


def test_the_untrained_flow_is_the_harmonic_approximation(molecule):
    samples = bg.BoltzmannGenerator(molecule).sample(1000, seed=1)
    assert samples.n_failed < 100


def test_a_toy_needs_its_energy_to_be_loaded(tmp_path):
    target = bg.toys.DoubleWell()
    generator = bg.BoltzmannGenerator(target)
    generator.train(steps=10, progress=False)
    generator.save(tmp_path / "g.pt")
    loaded = bg.BoltzmannGenerator.load(tmp_path / "g.pt", target=bg.toys.DoubleWell())
    assert torch.equal(loaded.sample(100, seed=1).x, generator.sample(100, seed=1).x)
    with pytest.raises(bg.CheckpointError, match="pass the energy"):
        bg.BoltzmannGenerator.load(tmp_path / "g.pt")
    with pytest.raises(bg.CheckpointError):
        bg.BoltzmannGenerator.load(tmp_path / "g.pt", target=bg.toys.DoubleWell("snf"))


def test_a_molecule_at_another_temperature_knows_it(molecule):
    generator = bg.BoltzmannGenerator(molecule, temperature=450.0)
    assert generator.sample(10, seed=0).temperature == 450.0


def test_frames_are_weighed_as_the_draws_they_are(molecule):
    generator = bg.BoltzmannGenerator(molecule)
    samples = generator.sample(300, seed=1)
    assert generator.drew(samples)
    some = samples[samples.log_w.isfinite()]
    again = generator.weigh(some.positions())
    assert not again.independent
    assert torch.allclose(again.log_w, some.log_w, rtol=1e-4, atol=0.01)  # float32 positions
    assert not bg.BoltzmannGenerator(molecule, temperature=310.0).drew(samples)
    with pytest.raises(bg.InputError, match="frames must lie in the chart"):
        generator.weigh(-some.positions())


def test_configurations_of_a_toy_are_weighed_and_what_is_none_is_refused():
    generator = bg.BoltzmannGenerator(bg.toys.DoubleWell())
    x = torch.tensor([[0.5, 1.0], [1e6, 0.0]], dtype=torch.float64)
    found = generator.weigh(x)
    expected = -generator.target.energy(x[:1]) - generator.flow.log_prob(x[:1].float())
    assert torch.allclose(found.log_w[:1], expected.detach().double(), atol=1e-5)
    assert found.log_w.isfinite()[0]
    for wrong in (torch.zeros(3), torch.zeros(2, 3), torch.zeros(0, 2)):
        with pytest.raises(bg.InputError, match=r"must be"):
            generator.weigh(wrong)


@pytest.mark.parametrize(
    ("target", "message"), [("alanine", "must be a Molecule or an Energy"), (None, "must be a Mol")]
)
def test_wrong_targets_are_refused(target, message):
    with pytest.raises(bg.InputError, match=message):
        bg.BoltzmannGenerator(target)


def test_a_flow_for_something_else_is_refused():
    with pytest.raises(bg.InputError, match="must draw configurations of shape"):
        bg.BoltzmannGenerator(bg.toys.DoubleWell(), flow=bg.coupling_flow(3))


def test_the_wrong_unit_and_temperature_are_refused(molecule):
    with pytest.raises(bg.InputError, match="temperature must be a positive number"):
        bg.BoltzmannGenerator(molecule, temperature=-300.0)


def test_training_starts_from_frames_if_there_are_any(molecule, tmp_path):
    start = bg.BoltzmannGenerator(molecule)
    frames = start.sample(200, seed=1).positions()
    with pytest.warns(UserWarning, match="the energy of the frames"):  # those of a hot, untrained flow
        start.train(data=frames, steps=10, run_dir=tmp_path, progress=False)
    assert {r.temperature for r in start.history.rounds} == {300.0}
    with pytest.raises(bg.CheckpointError), pytest.warns(UserWarning, match="the energy of the frames"):
        bg.BoltzmannGenerator(molecule).train(data=frames[:150], steps=10, run_dir=tmp_path, progress=False)
    toy = bg.BoltzmannGenerator(bg.toys.DoubleWell())
    history = toy.train(data=bg.toys.DoubleWell().sample(500, seed=1), steps=10, progress=False)
    assert history.energy + history.gradient == sum(r.rows for r in history.rounds)  # the data took none


def test_the_bundled_generator_is_good_and_found_by_name(tmp_path, monkeypatch):
    """A change of coordinates or flow that no longer fits its weights shows here."""
    monkeypatch.chdir(tmp_path)
    generator = bg.BoltzmannGenerator.load("alanine_dipeptide")
    samples = generator.sample(4000, seed=1)
    assert bg.effective_sample_size(samples.log_w) > 0.75 * len(samples)
    energy = bg.expectation(samples.log_w, samples.potential * kT(300.0))
    reference = bg.Molecule.load("alanine_dipeptide").reference["mean_potential_energy"]
    assert abs(energy.value - reference["value"]) < 4 * (energy.standard_error + reference["standard_error"])


def test_the_bundled_generator_agrees_with_replica_exchange():
    """Energy, populations, wells and the profile along φ, wherever an estimate says that it can be believed."""
    molecule = bg.Molecule.load("alanine_dipeptide")
    samples = bg.BoltzmannGenerator.load("alanine_dipeptide").sample(50_000, seed=2)
    phi, psi = samples.torsion("phi"), samples.torsion("psi")
    right_handed = (phi < 0) & ((psi + math.pi / 6).abs() < math.pi / 2)
    found = {
        "mean_potential_energy": bg.expectation(samples.log_w, samples.potential * kT(300.0)),
        "free_energy_difference_phi": bg.free_energy_difference(samples.log_w, phi < 0, phi > 0),
        "population_alpha_R": bg.probability(samples.log_w, right_handed),
        "population_beta": bg.probability(samples.log_w, (phi < 0) & ~right_handed),
        "population_alpha_L": bg.probability(samples.log_w, phi > 0),
    }
    assert found.keys() == molecule.reference.keys()
    for name, estimate in found.items():
        reference = molecule.reference[name]
        deviation = abs(estimate.value - reference["value"])
        assert deviation < 4 * math.hypot(estimate.standard_error, reference["standard_error"]), name
    record = json.loads((RESULTS / "alanine_dipeptide_reference_seed5.json").read_text())
    edges = torch.linspace(-math.pi, math.pi, 25)
    agree = []
    for low, high, reference in zip(edges[:-1], edges[1:], record["profile_phi"], strict=True):
        p = bg.probability(samples.log_w, (low <= phi) & (phi < high))
        error = math.hypot(p.standard_error / p.value, reference["standard_error"])
        agree.append((p.reliable, abs(-math.log(p.value) - reference["value"]) < 4 * error))
    assert agree.count((True, True)) >= 8
    assert (True, False) not in agree
    assert (False, False) in agree  # bins of a draw or two, of which the error bars know nothing


def test_a_name_without_a_trained_generator_is_refused():
    with pytest.raises(bg.InputError, match="double_well must come with a trained generator; got a system without one"):
        bg.BoltzmannGenerator.load("double_well")
    with pytest.raises(bg.InputError, match="did you mean 'alanine_dipeptide'"):
        bg.BoltzmannGenerator.load("alanine_dipeptid")


def test_the_mirror_image_does_not_take_up_a_run(molecule, tmp_path):
    bg.BoltzmannGenerator(molecule, temperature=300.0).train(steps=10, run_dir=tmp_path, progress=False)
    mirrored = bg.Molecule.from_openmm(molecule.system, molecule.topology, molecule.positions * [1, 1, -1])
    with pytest.raises(bg.CheckpointError, match="must belong to this training"):
        bg.BoltzmannGenerator(mirrored, temperature=300.0).train(steps=10, run_dir=tmp_path, progress=False)


def test_a_file_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(bg.InputError, match=r"must be a file that can be read; got .*none\.pt \(No such file"):
        bg.BoltzmannGenerator.load(tmp_path / "none.pt")


def test_a_toy_found_by_name_is_saved_by_name(tmp_path):
    for temperature in (None, 2.0):
        generator = bg.BoltzmannGenerator(find("double_well"), temperature=temperature)
        generator.save(tmp_path / "g.pt")
        loaded = bg.BoltzmannGenerator.load(tmp_path / "g.pt")
        assert loaded.temperature == (temperature or 1.0)
        assert torch.equal(loaded.sample(100, seed=1).log_w, generator.sample(100, seed=1).log_w)
    with pytest.raises(bg.CheckpointError, match="leave out target"):
        bg.BoltzmannGenerator.load(tmp_path / "g.pt", target=bg.toys.DoubleWell())


def test_the_energy_of_positions_is_no_target(molecule):
    with pytest.raises(bg.InputError, match=r"got one of \(22, 3\): for the positions of a molecule pass the Molecule"):
        bg.BoltzmannGenerator(molecule.energy(300.0))


def test_numbers_of_numpy_can_be_saved_and_loaded(tmp_path):
    well = find("double_well")
    generator = bg.BoltzmannGenerator(well, temperature=np.float64(2.0), seed=np.int64(3))
    generator.train(minutes=np.float32(1e-3), run_dir=tmp_path, progress=False)
    again = bg.BoltzmannGenerator.load(tmp_path)
    assert torch.equal(again.sample(10, seed=1).x, generator.sample(np.int64(10), seed=np.int64(1)).x)
    assert again.fingerprint == bg.BoltzmannGenerator(well, temperature=2.0, seed=3).fingerprint


def test_a_flow_by_name_is_refused():
    with pytest.raises(bg.InputError, match="flow must be a Flow; got a str"):
        bg.BoltzmannGenerator(bg.toys.DoubleWell(), flow="spline")


def test_torsions_that_are_held_stay_so_in_a_file(tmp_path):
    held = bg.BoltzmannGenerator(bg.Molecule.load("alanine_dipeptide"), hold="omega_1")
    assert held.coordinates.fingerprint == bg.InternalCoordinates(held.molecule, hold=["omega_1"]).fingerprint
    held.save(tmp_path / "held.pt")
    found = bg.BoltzmannGenerator.load(tmp_path / "held.pt")
    assert found.fingerprint == held.fingerprint != bg.BoltzmannGenerator(held.molecule).fingerprint
    assert not (found.sample(200, seed=1).torsion("omega_1").abs() < 1.5).any()
    with pytest.raises(bg.InputError, match="hold must name torsions of a molecule"):
        bg.BoltzmannGenerator(bg.toys.DoubleWell(), hold=["phi"])


def test_a_generator_of_a_range_is_one_at_each_of_its_temperatures(tmp_path):
    generator = bg.BoltzmannGenerator(find("double_well"), up_to=4.0)
    history = generator.train(steps=150, run_dir=tmp_path / "run", progress=False)
    assert history.rounds[0].temperature == 4.0
    hot = generator.at(4.0)
    samples = hot.sample(5000, seed=1)
    assert samples.temperature == 4.0
    assert bg.effective_sample_size(samples.log_w) > 2500
    x, log_w = hot.target.inner._nodes()
    exact = float(torch.logsumexp(log_w - hot.target._energy(x), 0))
    found = bg.log_partition(samples.log_w)
    assert abs(found.value - exact) < 4 * found.standard_error
    assert hot.drew(samples)
    assert not generator.drew(samples)
    assert torch.equal(hot.weigh(samples.x).log_w.isfinite(), samples.log_w.isfinite())
    again = bg.BoltzmannGenerator.load(tmp_path / "run")
    assert again.up_to == 4.0
    assert torch.equal(again.at(4.0).sample(100, seed=1).log_w, samples.log_w[:100])
    assert torch.equal(again.sample(100, seed=1).log_w, generator.sample(100, seed=1).log_w)
    for there in (hot, generator.at(8.0)):
        assert len(there.sample(10, seed=1)) == 10
        with pytest.raises(bg.InputError, match="trained must be the generator of the whole range; got that at"):
            there.train(steps=1, progress=False)
        with pytest.raises(bg.InputError, match="saved must be the generator of the whole range"):
            there.save(tmp_path / "there.pt")


def test_a_molecule_has_a_range_too():
    generator = bg.BoltzmannGenerator(bg.Molecule.load("butane"), temperature=300.0, up_to=600.0)
    assert generator.flow.temperature == 600.0
    samples = generator.at(450.0).sample(500, seed=1)
    assert samples.temperature == 450.0
    assert bg.effective_sample_size(samples.log_w) > 10  # the harmonic approximation already


def test_ranges_that_are_none_are_refused(tmp_path):
    target = bg.toys.DoubleWell()
    with pytest.raises(bg.InputError, match="up_to must not be below the temperature"):
        bg.BoltzmannGenerator(target, up_to=0.5)
    with pytest.raises(bg.InputError, match="flow of a range must be one for every temperature"):
        bg.BoltzmannGenerator(target, up_to=2.0, flow=bg.coupling_flow(2))
    with pytest.raises(bg.InputError, match="must be one for every temperature; got one without"):
        bg.BoltzmannGenerator(target).at(2.0)


def test_the_way_down_in_temperature_can_be_chosen(molecule):
    history = bg.BoltzmannGenerator(bg.toys.DoubleWell()).train(method="continuous", steps=20, progress=False)
    assert history.energy == 0  # forces alone, where the default asks for energies of a buffer
    with pytest.raises(bg.errors.InputError, match="method must be one of auto, parted, reweighting"):
        bg.BoltzmannGenerator(molecule).train(method="transports", steps=20, progress=False)
