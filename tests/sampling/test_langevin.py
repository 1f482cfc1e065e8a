"""Langevin dynamics: the exact averages of oscillators at any time step, and the same bits after a break."""

import math
import os
import signal

import numpy as np
import openmm
import openmm.unit as unit
import pytest
import torch

from boltzgen.checkpoint import load_checkpoint
from boltzgen.energies.energy import Energy
from boltzgen.energies.hybrid import HybridEnergy
from boltzgen.energies.openmm_energy import OpenMMEnergy
from boltzgen.errors import CheckpointError, EnergyError, InputError
from boltzgen.molecule import Molecule
from boltzgen.sampling import langevin
from boltzgen.sampling.langevin import simulate
from boltzgen.sampling.samples import Samples
from boltzgen.units import kT

STIFFNESS = torch.tensor([1.0, 4.0], dtype=torch.float64)


class Harmonic(Energy):
    """u = ½ Σ k x², with k = 1 and 4 for the two coordinates; +inf beyond a wall."""

    def __init__(self, wall=math.inf):
        super().__init__(2)
        self.wall = wall

    def _energy(self, x):
        u = 0.5 * (STIFFNESS.to(x) * x.square()).sum(-1)
        return torch.where(x[:, 0] < self.wall, u, torch.inf)


class Quartic(Energy):
    """u = x⁴/4 − cos, with ⟨x⁴⟩ = 1 + ⟨x sin x⟩ by the virial theorem, ⟨x ∂u/∂x⟩ = 1."""

    def __init__(self):
        super().__init__(1)

    def _energy(self, x):
        return (x**4 / 4 - x.cos()).sum(-1)


def harmonic(energy=None, **options):
    arguments = {"walkers": 1000, "steps": 400, "step_size": 0.7, "friction": 0.5, "seed": 1, "equilibration": 60}
    start = torch.zeros(2, dtype=torch.float64)
    masses = options.pop("masses", torch.tensor([1.0, 1.0]))
    return simulate(energy or Harmonic(), start, masses, **{"thin": 2} | arguments | options)


def over_walkers(values):
    """Mean of (n, walkers) with the error between independent walkers."""
    columns = values.double().mean(0)
    return columns.mean().item(), columns.std().item() / math.sqrt(len(columns))


def check_variances(run, assert_consistent):
    for k, stiffness in enumerate(STIFFNESS):
        assert_consistent(over_walkers(run.x[..., k]), 0.0)
        assert_consistent(over_walkers(run.x[..., k].square()), 1 / stiffness.item())


@pytest.mark.parametrize("options", [{}, {"friction": 5.0}, {"step_size": 0.1, "steps": 2000, "thin": 10}])
def test_oscillators_have_their_exact_variance_at_any_time_step(options, assert_consistent):
    run = harmonic(**options)
    check_variances(run, assert_consistent)
    assert_consistent(over_walkers(run.u), 1.0)


def test_masses_choose_the_speed_only(assert_consistent):
    run = harmonic(masses=torch.tensor([1.0, 6.0]))
    check_variances(run, assert_consistent)
    small = harmonic(step_size=0.05, masses=torch.tensor([1.0, 6.0]), steps=2000, thin=20)
    assert_consistent(over_walkers(small.kinetic), 1.0)


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_noise_of_a_wrong_temperature_is_caught(factor, monkeypatch, assert_consistent):
    """Power: three percent too little or too much noise."""
    build = langevin._Walk.__init__

    def spoilt(self, *arguments):
        build(self, *arguments)
        self.noise = self.noise * factor

    monkeypatch.setattr(langevin._Walk, "__init__", spoilt)
    with pytest.raises(AssertionError, match="sigmas"):
        check_variances(harmonic(), assert_consistent)


def test_the_virial_of_an_anharmonic_well(assert_consistent):
    start = torch.zeros(1, dtype=torch.float64)
    run = simulate(
        Quartic(), start, 1.0, walkers=1000, steps=1500, step_size=0.1, friction=2.0, seed=3, equilibration=200, thin=5
    )
    x = run.x[..., 0]
    assert_consistent(over_walkers(x**4 + x * x.sin()), 1.0)
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(over_walkers(x**4 + x * x.sin()), 1.03)


def test_the_same_seed_gives_the_same_bits_and_a_resumed_run_too():
    whole, again = harmonic(steps=20, walkers=20), harmonic(steps=20, walkers=20)
    assert torch.equal(whole.x, again.x)
    assert not torch.equal(whole.x, harmonic(steps=20, walkers=20, seed=2).x)
    first = harmonic(steps=10, walkers=20)
    second = harmonic(steps=10, walkers=20, equilibration=0, resume=first.state)
    assert torch.equal(torch.cat([first.x, second.x]), whole.x)
    assert torch.equal(torch.cat([first.kinetic, second.kinetic]), whole.kinetic)


def test_kept_energies_are_those_of_kept_frames():
    run = harmonic(steps=11, thin=3, walkers=5)
    assert run.x.shape == (3, 5, 2)
    torch.testing.assert_close(Harmonic().energy(run.x.flatten(0, 1)).view(3, 5), run.u)
    assert run.u.dtype == torch.float64
    assert torch.equal(run.state.x[0], harmonic(steps=11, thin=11, walkers=5).x[0, 0])


def springs(n=3, k=2000.0, platform="Reference"):
    """Particles of one spring each to a place of its own, whose coordinates have the variance kT / k."""
    system, force = openmm.System(), openmm.CustomExternalForce(f"0.5 * {k} * (x^2 + y^2 + z^2)")
    for i in range(n):
        system.addParticle(12.0)
        force.addParticle(i)
    system.addForce(force)
    system.addForce(openmm.CMMotionRemover())
    return OpenMMEnergy(system, 300.0, platform=platform), kT(300.0) / k


def moved_by_openmm(energy=None, **options):
    arguments = {"walkers": 60, "steps": 3000, "thin": 30, "step_size": 0.03, "friction": 5.0, "seed": 1}
    arguments |= {"equilibration": 300, "engine": "openmm"} | options
    return simulate(energy or springs()[0], np.zeros((3, 3)), arguments.pop("masses", 12 / kT(300.0)), **arguments)


@pytest.mark.parametrize(("platform", "steps"), [("Reference", 3000), ("CPU", 300)])
def test_openmm_samples_oscillators_exactly_whatever_their_masses(platform, steps, assert_consistent):
    energy, variance = springs(platform=platform)
    for masses in (12 / kT(300.0), torch.tensor([12.0, 40.0, 24.0]) / kT(300.0)):
        run = moved_by_openmm(energy, masses=masses, steps=steps)
        assert_consistent(over_walkers(run.x.square().mean((2, 3)) / variance), 1.0)
        assert_consistent(over_walkers(run.u), 4.5)
        torch.testing.assert_close(energy.energy(run.x.flatten(0, 1)).view(run.u.shape), run.u, rtol=1e-5, atol=1e-5)
    quick = moved_by_openmm(energy, step_size=0.005, steps=steps)
    assert_consistent(over_walkers(quick.kinetic), 4.5)  # the centre of mass moves as well
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(over_walkers(quick.kinetic), 3.0)


def test_openmm_moves_a_hybrid_by_all_of_its_forces():
    system, bonds = openmm.System(), openmm.HarmonicBondForce()
    for _ in range(3):
        system.addParticle(12.0)
    places = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.1, 0.1, 0.0]])
    for i in range(2):
        bonds.addBond(i, i + 1, 0.15, 5000.0)
    for force in (bonds, openmm.RMSDForce(places)):
        system.addForce(force)
    energy = HybridEnergy(system, 300.0)
    options = {"walkers": 3, "steps": 50, "thin": 10, "step_size": 1e-3, "friction": 5.0, "seed": 1}
    run = simulate(energy, places, 12 / kT(300.0), engine="openmm", **options)
    torch.testing.assert_close(energy.energy(run.x.flatten(0, 1)).view(run.u.shape), run.u, rtol=1e-8, atol=1e-8)
    assert run.u.min() > 0.1  # the springs pull


def test_openmm_and_torch_move_a_molecule_alike(assert_consistent):
    molecule = Molecule.load("butane")
    options = {"walkers": 12, "steps": 600, "thin": 20, "step_size": 1e-3, "friction": 20.0, "equilibration": 300}
    start, masses = molecule.minimized().positions, molecule.masses / kT(300.0)
    energies = []
    for backend in ("torch", "openmm"):
        energy = molecule.energy(300.0, backend=backend)
        energies.append(over_walkers(simulate(energy, start, masses, seed=1, engine=backend, **options).u))
    (one, error), (other, its) = energies
    assert_consistent((one - other, math.hypot(error, its)), 0.0)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_openmm_gives_the_same_bits_for_a_seed_and_goes_on_from_a_state(platform):
    energy = springs(platform=platform)[0]
    first, again = (moved_by_openmm(energy, steps=60, walkers=5) for _ in range(2))
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x[0, 0], first.x[0, 1])
    assert not torch.equal(first.x, moved_by_openmm(energy, steps=60, walkers=5, seed=2).x)
    before = energy.evaluations.gradient
    second = moved_by_openmm(energy, steps=1, thin=1, walkers=5, step_size=1e-6, equilibration=0, resume=first.state)
    torch.testing.assert_close(second.x[0], first.state.x, atol=1e-4, rtol=0)
    assert energy.evaluations.gradient == before + 5


@pytest.mark.parametrize("make", [harmonic, moved_by_openmm])
@pytest.mark.parametrize("moment", [10, 25, 35])
def test_an_interrupted_simulation_goes_on_from_its_checkpoint(tmp_path, make, moment):
    options = {"steps": 25, "equilibration": 25, "thin": 10, "walkers": 3}

    def interrupt(fraction, message):
        if round(fraction * 50) == moment:
            os.kill(os.getpid(), signal.SIGTERM)

    file = tmp_path / "walk.pt"
    with pytest.raises(SystemExit):
        make(**options, checkpoint=file, show=interrupt)
    assert load_checkpoint(file, kind="simulation")["done"] == moment
    told = []
    run = make(**options, checkpoint=file, show=lambda fraction, message: told.append(round(fraction * 50)))
    assert told == [at for at in (10, 20, 25, 35, 45, 50) if at > moment]
    assert run.u.shape == (2, 3)
    longer = make(**options | {"steps": 42}, checkpoint=file)  # a frame every ten steps all the same
    assert torch.equal(longer.x[:2], run.x)
    assert len(longer.x) == 4
    if make is harmonic:  # the random numbers of OpenMM cannot be kept
        whole = harmonic(**options | {"steps": 42})
        assert torch.equal(longer.x, whole.x)
        assert torch.equal(longer.kinetic, whole.kinetic)
    with pytest.raises(CheckpointError, match="must belong to this simulation"):
        make(**options | {"thin": 5}, checkpoint=file)


def test_openmm_s_mistakes_are_explained():
    with pytest.raises(InputError, match=r'"openmm" for an OpenMMEnergy; got .openmm. for Harmonic: pass'):
        harmonic(engine="openmm")
    with pytest.raises(InputError, match="got 'gromacs' for OpenMMEnergy"):
        moved_by_openmm(engine="gromacs")
    with pytest.raises(EnergyError, match=r"must have a finite energy; got from OpenMM: .*: take a smaller step_size"):
        moved_by_openmm(step_size=50.0)


@pytest.mark.parametrize("engine", ["torch", "openmm"])
def test_frames_are_an_ensemble_to_save_and_to_look_at(tmp_path, engine):
    molecule = Molecule.load("butane")
    start, masses = molecule.positions, molecule.masses / kT(300.0)
    options = {"walkers": 2, "steps": 10, "thin": 5, "step_size": 1e-4, "friction": 1.0, "seed": 1, "engine": engine}
    run = simulate(molecule.energy(300.0, backend=engine), start, masses, **options)
    samples = run.samples(molecule)
    samples.save(tmp_path / "frames.npz")
    samples = Samples.load(tmp_path / "frames.npz")
    frames = samples.to_mdtraj()
    assert (frames.n_frames, frames.n_atoms) == (4, molecule.n_atoms)
    np.testing.assert_allclose(frames.xyz, run.x.flatten(0, 1), atol=1e-6)
    assert (samples.independent, samples.temperature, samples.system) == (False, 300.0, "butane")
    assert torch.equal(samples.u, run.u.flatten())
    assert torch.equal(samples.log_w, torch.zeros(4, dtype=torch.float64))
    assert harmonic(steps=4, walkers=3).samples().x.shape == (6, 2)
    with pytest.raises(InputError, match="frames of alanine_dipeptide must have the shape"):
        run.samples(Molecule.load("alanine_dipeptide"))


def test_progress_is_told_and_global_random_numbers_are_left_alone():
    told = []
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    harmonic(steps=4, equilibration=0, walkers=2, show=lambda fraction, message="": told.append(fraction))
    assert torch.equal(torch.rand(1), expected)
    assert told == [0.5, 1.0]


@pytest.mark.parametrize("make", [harmonic, moved_by_openmm])
def test_progress_is_told_in_equilibration_too(make):
    told = []
    options = {"steps": 20, "equilibration": 25, "thin": 10, "walkers": 2}
    run = make(**options, show=lambda *progress: told.append(progress))
    assert [fraction for fraction, _ in told] == pytest.approx([10 / 45, 20 / 45, 25 / 45, 35 / 45, 1.0])
    assert told[1][1] == "20 of 25 steps of equilibration"
    assert told[-1][1] == "20 of 20 steps"
    if make is harmonic:  # the walkers of OpenMM's Reference platform share their noise by turns
        assert torch.equal(run.x[1], make(**options | {"thin": 20}).x[0])
    told.clear()
    make(steps=1, thin=1, equilibration=1000, walkers=1, show=lambda *progress: told.append(progress))
    assert len(told) == 101


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a positive"),
        ({"walkers": 0}, "walkers must be"),
        ({"thin": 0}, "thin must be"),
        ({"thin": 401}, "thin must be at most the number of steps, 400; got 401"),
        ({"masses": math.inf}, "masses must be positive"),
        ({"step_size": -1.0}, "step_size must be a positive number"),
        ({"friction": 0.0}, "friction must be a positive number"),
        ({"masses": 0.0}, "masses must be positive"),
        ({"masses": torch.ones(3)}, "one for each of 2 atoms; got"),
        ({"masses": 12 * unit.dalton}, "masses must be positive"),
        ({"masses": "carbon"}, "masses must be positive"),
        ({"resume": {}}, "resume must be a WalkerState; got a dict"),
        ({"equilibration": -1}, "equilibration must be a non-negative integer; got -1"),
        ({"seed": None}, "seed must be a non-negative integer"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(InputError, match=message):
        harmonic(**options)


def test_more_mistakes_are_explained():
    with pytest.raises(InputError, match=r"shape \(2,\); got \(1, 2\)"):
        simulate(Harmonic(), torch.zeros(1, 2), 1.0, walkers=1, steps=1, step_size=0.1, friction=1.0, seed=0)
    with pytest.raises(InputError, match="positions must be numbers; got None: pass one configuration"):
        simulate(Harmonic(), None, 1.0, walkers=1, steps=1, step_size=0.1, friction=1.0, seed=0)
    with pytest.raises(InputError, match="molecule must be a Molecule; got a str"):
        harmonic(walkers=3, steps=2).samples("butane")
    with pytest.raises(InputError, match="resume must hold 3 walkers"):
        harmonic(walkers=3, steps=2, resume=harmonic(walkers=2, steps=2).state)
    with pytest.raises(EnergyError, match="minimise positions first"):
        harmonic(Harmonic(wall=-1.0))
    with pytest.raises(EnergyError, match="take a smaller step_size"):
        harmonic(Harmonic(wall=0.5))


def test_positions_may_be_an_array_or_a_quantity():
    start = torch.tensor([0.1, 0.2], dtype=torch.float64)
    options = {"walkers": 3, "steps": np.int64(4), "step_size": 0.5, "friction": 0.5, "seed": 1}
    expected = simulate(Harmonic(), start, 1.0, **options).x
    assert torch.equal(simulate(Harmonic(), start.numpy(), 1.0, **options).x, expected)
    quantity = unit.Quantity(10 * start.numpy(), unit.angstrom)
    torch.testing.assert_close(simulate(Harmonic(), quantity, 1.0, **options).x, expected)
    with pytest.raises(InputError, match=r"steps must be a positive integer; got 10000\.0"):
        simulate(Harmonic(), start, 1.0, **options | {"steps": 1e4})


def test_positions_may_be_whole_numbers():
    options = {"walkers": 3, "steps": 4, "step_size": np.float32(0.5), "friction": 0.5, "seed": np.int64(1)}
    whole, expected = (simulate(Harmonic(), start, 1.0, **options).x for start in ([0, 1], torch.tensor([0.0, 1.0])))
    assert torch.equal(whole, expected)
