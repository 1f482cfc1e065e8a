import math
import os
import signal

import numpy as np
import pytest
import torch

from boltzgen.checkpoint import load_checkpoint
from boltzgen.energies.energy import Energy
from boltzgen.errors import CheckpointError, EnergyError, InputError
from boltzgen.molecule import Molecule
from boltzgen.sampling import dynamics
from boltzgen.sampling.dynamics import replica_exchange
from boltzgen.sampling.samples import Samples
from boltzgen.units import kT

DIMENSIONS, LADDER = 4, [1.0, 2.0, 4.0]


class Harmonic(Energy):
    """u = ½ Σ k x² with stiffnesses 1 … 9: ⟨u⟩ = d T / 2, variance d T² / 2."""

    def _energy(self, x):
        return 0.5 * (torch.linspace(1, 9, x.shape[1], dtype=x.dtype) * x.square()).sum(-1)


class DoubleWell(Energy):
    """u = x⁴ − 6x² + x + ½y², whose right well holds exp(−3.38) of the left one's weight; +inf beyond a wall."""

    def __init__(self, wall=math.inf):
        super().__init__(2)
        self.wall = wall

    def _energy(self, x):
        u = x[:, 0] ** 4 - 6 * x[:, 0] ** 2 + x[:, 0] + 0.5 * x[:, 1] ** 2
        return torch.where(x[:, 0] < self.wall, u, math.inf)

    def right(self, temperature):
        """Probability of x > 0, by quadrature."""
        x = np.linspace(-4, min(4, self.wall), 200_001)
        p = np.exp(-(x**4 - 6 * x**2 + x) / temperature)
        return p[x > 0].sum() / p.sum()


def harmonic(**options):
    arguments = {"walkers": 500, "rounds": 60, "steps": 3, "step_size": 0.3, "seed": 1, "equilibration": 15}
    return replica_exchange(Harmonic(DIMENSIONS), torch.zeros(DIMENSIONS), 1.0, LADDER, **arguments | options)


def double_well(wall=math.inf, **options):
    arguments = {"walkers": 500, "rounds": 100, "steps": 4, "step_size": 0.2, "seed": 2, "equilibration": 100}
    start = torch.tensor([-1.7, 0.0], dtype=torch.float64)
    return replica_exchange(DoubleWell(wall), start, 1.0, [1.0, 1.7, 3.0, 5.0], **arguments | options)


def large_steps():
    """Oscillators in steps so long that many trajectories are refused."""
    options = {"step_size": 0.55, "equilibration": 0}
    return harmonic(rounds=100, resume=harmonic(rounds=30, **options).state, **options)


def over_walkers(values):
    """Mean of (rounds, walkers) with the error between independent walkers."""
    columns = values.double().mean(0)
    return columns.mean().item(), columns.std().item() / math.sqrt(len(columns))


def check_harmonic(run, assert_consistent):
    for k, temperature in enumerate(LADDER):
        mean = DIMENSIONS * temperature / 2
        assert_consistent(over_walkers(run.u[:, k]), mean)
        assert_consistent(over_walkers((run.u[:, k] - mean).square()), mean * temperature)


def check_double_well(run, assert_consistent, wall=math.inf):
    assert_consistent(over_walkers(run.x[..., 0] > 0), DoubleWell(wall).right(1.0))


def test_oscillators_at_every_temperature(assert_consistent):
    run = harmonic()
    check_harmonic(run, assert_consistent)
    assert run.u.shape == (60, 3, 500)
    assert run.u.dtype == torch.float64


def test_populations_of_a_double_well(assert_consistent):
    run = double_well()
    check_double_well(run, assert_consistent)
    assert run.round_trips.sum() > 1000


def test_step_size_and_masses_choose_the_speed_only(assert_consistent):
    masses = torch.tensor([0.2, 1.0, 5.0, 20.0])
    run = replica_exchange(
        Harmonic(DIMENSIONS), torch.zeros(DIMENSIONS), masses, LADDER,
        walkers=500, rounds=80, steps=4, step_size=0.2, seed=4, equilibration=60,
    )  # fmt: skip
    check_harmonic(run, assert_consistent)
    run = large_steps()
    assert run.acceptance.max() < 0.85
    check_harmonic(run, assert_consistent)


@pytest.mark.parametrize("broken", ["trajectory", "exchange"])
def test_a_missing_metropolis_test_is_caught(broken, monkeypatch, assert_consistent):
    """Power: everything accepted, in the trajectories (with a large step) or in the exchanges."""
    accept = dynamics._Ladder.accept

    def accept_all(self, log_ratio):
        trajectory = log_ratio.shape == self.shape
        return (
            torch.ones_like(log_ratio, dtype=torch.bool)
            if trajectory == (broken == "trajectory")
            else accept(self, log_ratio)
        )

    monkeypatch.setattr(dynamics._Ladder, "accept", accept_all)
    with pytest.raises(AssertionError, match="sigmas"):
        check_harmonic(large_steps(), assert_consistent)


def test_double_well_needs_the_exchange(assert_consistent):
    """Power: without hot replicas the right well is not found in its share."""
    run = replica_exchange(
        DoubleWell(), torch.tensor([-1.7, 0.0]), 1.0, [1.0],
        walkers=500, rounds=50, steps=4, step_size=0.2, seed=2, equilibration=50,
    )  # fmt: skip
    assert run.swaps.shape == (0,)
    with pytest.raises(AssertionError, match="sigmas"):
        check_double_well(run, assert_consistent)


def test_a_region_of_infinite_energy_is_never_entered(assert_consistent):
    run = double_well(wall=2.0)
    assert run.x[..., 0].max() < 2.0
    assert torch.isfinite(run.u).all()
    check_double_well(run, assert_consistent, wall=2.0)
    with pytest.raises(AssertionError, match="sigmas"):
        check_double_well(run, assert_consistent, wall=1.4)


def test_rates_and_step_sizes():
    run = harmonic(rounds=60, equilibration=100)
    assert run.acceptance.tolist() == pytest.approx([0.8] * 3, abs=0.1)
    # exchange of d = 4 dimensions at twice the temperature, by quadrature over both energies
    random = np.random.default_rng(0)
    cold, hot = random.gamma(2.0, size=200_000), 2 * random.gamma(2.0, size=200_000)
    expected = np.minimum(1, np.exp(0.5 * (cold - hot))).mean()
    assert run.swaps.tolist() == pytest.approx([expected] * 2, abs=0.02)
    assert run.temperatures.tolist() == LADDER


@pytest.mark.parametrize("moment", [3, 15, 16, 24])
def test_an_interrupted_run_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path, moment):
    whole = harmonic(rounds=20, thin=3)

    def interrupt(fraction, message):
        if round(fraction * 35) == moment:
            os.kill(os.getpid(), signal.SIGINT)

    file = tmp_path / "ladder.pt"
    with pytest.raises(KeyboardInterrupt):
        harmonic(rounds=20, thin=3, checkpoint=file, show=interrupt)
    assert load_checkpoint(file, kind="simulation")["done"] == moment
    told = []
    run = harmonic(rounds=20, thin=3, checkpoint=file, show=lambda *progress: told.append(progress))
    assert len(told) == 35 - moment + 1  # the first tells what was taken up
    for name in ("u", "x", "acceptance", "swaps", "round_trips"):
        assert torch.equal(getattr(run, name), getattr(whole, name)), name
    longer = harmonic(rounds=50, thin=3, checkpoint=file)  # and to more rounds
    assert torch.equal(longer.u, harmonic(rounds=50, thin=3).u)
    assert len(longer.x) == 16
    fewer = harmonic(rounds=10, thin=3, checkpoint=file, show=lambda *progress: told.append(progress))
    assert torch.equal(fewer.u, longer.u)  # what is there is given back
    assert told[-1][0] == 1.0
    assert told[-1][1].startswith("50 of 50 rounds")
    with pytest.raises(CheckpointError, match="must belong to this simulation"):
        harmonic(rounds=50, thin=3, checkpoint=file, seed=2)
    assert torch.equal(harmonic(rounds=10, thin=3, checkpoint=file, seed=np.int64(1)).u, longer.u)
    with pytest.raises(InputError, match="got both"):
        harmonic(checkpoint=file, resume=run.state)


def test_the_same_seed_gives_the_same_bits_and_a_resumed_run_too():
    whole, again = harmonic(rounds=20), harmonic(rounds=20)
    assert torch.equal(whole.u, again.u)
    assert not torch.equal(whole.u, harmonic(rounds=20, seed=3).u)
    first = harmonic(rounds=10)
    kept = first.state.x.clone()
    second = harmonic(rounds=10, equilibration=0, resume=first.state)
    assert torch.equal(torch.cat([first.u, second.u]), whole.u)
    assert torch.equal(torch.cat([first.x, second.x]), whole.x)
    assert torch.equal(second.round_trips, whole.round_trips)
    assert torch.equal(first.state.x, kept)


def test_global_random_numbers_are_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    harmonic(rounds=2)
    assert torch.equal(torch.rand(1), expected)


def test_kept_frames_are_those_of_the_lowest_temperature():
    run = harmonic(rounds=10, thin=3)
    assert run.x.shape == (3, 500, DIMENSIONS)
    for frame, u in zip(run.x, run.u[2::3, 0], strict=True):
        assert torch.allclose(Harmonic(DIMENSIONS).energy(frame).double(), u)


def test_atoms_have_their_own_masses_and_temperatures_scale_the_energy(assert_consistent):
    class Springs(Energy):
        def _energy(self, x):
            return 0.5 * x.square().sum((-1, -2))

    run = replica_exchange(
        Springs((2, 3), temperature=300.0), torch.zeros(2, 3), torch.tensor([1.0, 16.0]), [300.0, 450.0],
        walkers=500, rounds=40, steps=3, step_size=0.5, seed=5, equilibration=30,
    )  # fmt: skip
    for k, ratio in enumerate((1.0, 1.5)):
        assert_consistent(over_walkers(run.u[:, k]), 3 * ratio)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds must be a positive"),
        ({"walkers": 0}, "walkers must be"),
        ({"thin": 0}, "thin must be"),
        ({"step_size": -1.0}, "step_size must be a positive number"),
        ({"equilibration": -1}, "equilibration must be a non-negative integer; got -1"),
        ({"seed": None}, "seed must be a non-negative integer"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(InputError, match=message):
        harmonic(**options)


def test_more_mistakes_are_explained():
    arguments = {"walkers": 1, "rounds": 1, "steps": 1, "step_size": 0.1, "seed": 0}
    energy, start = Harmonic(DIMENSIONS), torch.zeros(DIMENSIONS)
    with pytest.raises(InputError, match=r"shape \(4,\); got \(1, 4\)"):
        replica_exchange(energy, start[None], 1.0, LADDER, **arguments)
    with pytest.raises(InputError, match="ascending"):
        replica_exchange(energy, start, 1.0, [2.0, 1.0], **arguments)
    with pytest.raises(InputError, match="positive number of kelvin"):
        replica_exchange(energy, start, 1.0, [-1.0, 1.0], **arguments)
    with pytest.raises(InputError, match=r"3 temperatures x 2 walkers"):
        replica_exchange(energy, start, 1.0, LADDER, **arguments | {"walkers": 2}, resume=harmonic(rounds=1).state)
    with pytest.raises(EnergyError, match="finite where the replicas start"):
        replica_exchange(DoubleWell(wall=-2.0), torch.zeros(2), 1.0, LADDER, **arguments)


def test_progress_tells_rounds_of_equilibration_and_round_trips():
    told = []
    run = harmonic(walkers=20, rounds=30, equilibration=10, show=lambda *progress: told.append(progress))
    assert [fraction for fraction, _ in told] == pytest.approx([k / 40 for k in range(41)])
    assert told[10][1] == "10 of 10 rounds of equilibration"
    assert told[-1][1] == f"30 of 30 rounds, {int(run.round_trips.sum())} round trips"
    assert run.round_trips.sum() > 0


def test_only_a_state_can_be_resumed():
    options = {"walkers": 3, "rounds": 2, "steps": 2, "step_size": 0.3, "seed": 1}
    run = replica_exchange(Harmonic(2), torch.zeros(2), 1.0, LADDER, **options)
    for resume in (run, {}):
        with pytest.raises(InputError, match="resume must be a State; got a"):
            replica_exchange(Harmonic(2), torch.zeros(2), 1.0, LADDER, **options, resume=resume)


def test_positions_may_be_an_array():
    options = {"walkers": 3, "rounds": np.int64(2), "steps": 2, "step_size": 0.3, "seed": 1}
    run = [
        replica_exchange(Harmonic(2), start, 1.0, LADDER, **options) for start in (torch.zeros(2), np.zeros(2, "f4"))
    ]
    assert torch.equal(run[0].x, run[1].x)
    with pytest.raises(InputError, match=r"steps must be a positive integer; got 2\.5"):
        replica_exchange(Harmonic(2), torch.zeros(2), 1.0, LADDER, **options | {"steps": 2.5})


def test_what_is_kept_is_an_ensemble_with_its_own_energies():
    run = harmonic(walkers=3, rounds=10, thin=4)
    samples = run.samples()
    assert samples.x.shape == (6, DIMENSIONS)
    torch.testing.assert_close(samples.u, Harmonic(DIMENSIONS).energy(samples.x).double())
    warm = replica_exchange(
        Harmonic(DIMENSIONS), torch.zeros(DIMENSIONS), 1.0, [2.0], walkers=3, rounds=4, steps=2, step_size=0.1, seed=1
    ).samples()
    assert warm.temperature == 2.0
    torch.testing.assert_close(warm.u, Harmonic(DIMENSIONS).energy(warm.x).double() / 2)


def test_frames_of_a_molecule_are_an_ensemble_to_save_and_to_look_at(tmp_path):
    molecule = Molecule.load("butane")
    energy, start = molecule.energy(300.0), molecule.minimized().positions
    options = {"walkers": 2, "rounds": 3, "steps": 5, "step_size": 1e-3, "seed": 1}
    run = replica_exchange(energy, start, 12 / kT(300.0), [300.0, 350.0], **options)
    run.samples(molecule).save(tmp_path / "frames.npz")
    samples = Samples.load(tmp_path / "frames.npz")
    frames = samples.to_mdtraj()
    assert (frames.n_frames, frames.n_atoms) == (6, molecule.n_atoms)
    np.testing.assert_allclose(frames.xyz, run.x.flatten(0, 1), atol=1e-6)
    assert (samples.independent, samples.temperature, samples.system) == (False, 300.0, "butane")
    assert torch.equal(samples.u, run.u[:, 0].flatten())
