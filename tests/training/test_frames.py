"""Frames of a simulation become training data, or the mistake is named."""

import mdtraj
import numpy as np
import pytest
import torch

from boltzgen.coordinates import InternalCoordinates
from boltzgen.energies import Pullback
from boltzgen.energies.toys import DoubleWell
from boltzgen.errors import InputError
from boltzgen.molecule import Molecule
from boltzgen.sampling.dynamics import replica_exchange
from boltzgen.training import chart_data


@pytest.fixture(scope="module")
def target():
    molecule = Molecule.load("alanine_dipeptide")
    return Pullback(molecule.energy(300.0), InternalCoordinates(molecule))


def simulated(target, temperature):
    """Frames of a short Hamiltonian Monte Carlo run of a few walkers, (m, 22, 3)."""
    start = torch.tensor(target.bijection.molecule.positions, dtype=torch.float32)
    run = replica_exchange(
        target.inner,
        start,
        5.0,
        [temperature],
        walkers=20,
        rounds=10,
        equilibration=30,
        steps=15,
        step_size=0.002,
        seed=1,
    )
    return run.x.flatten(0, 1).double().numpy()


@pytest.fixture(scope="module")
def frames(target):
    return simulated(target, 300.0)


def test_frames_become_coordinates_of_the_same_configurations(target, frames):
    y = chart_data(target, frames)
    assert y.shape == (len(frames), 60)
    assert y.dtype == torch.float32
    u = target.energy(y.double()).sort().values
    x, log_det = target.bijection(target.bijection.inverse(torch.from_numpy(frames))[0])
    assert torch.isfinite(u).all()
    torch.testing.assert_close(
        u, (target.inner.energy(x) - log_det - target.log_symmetry).sort().values, atol=2e-2, rtol=0
    )


def test_relabelled_hydrogens_come_back_into_the_chart(target, frames):
    turned = frames.copy()
    names = target.bijection.molecule.atom_labels
    methyl = [names.index(f"ALA2-HB{k}") for k in (1, 2, 3)]
    turned[:, methyl] = frames[:, methyl[1:] + methyl[:1]]
    torch.testing.assert_close(chart_data(target, turned), chart_data(target, frames), atol=1e-5, rtol=0)


def test_an_mdtraj_trajectory_is_accepted(target, frames):
    molecule = target.bijection.molecule
    trajectory = mdtraj.Trajectory(frames, mdtraj.Topology.from_openmm(molecule.topology))
    torch.testing.assert_close(chart_data(target, trajectory), chart_data(target, frames), atol=1e-4, rtol=0)


def test_mirror_images_and_nan_are_refused_when_many_and_counted_when_few(target, frames):
    with pytest.raises(InputError, match=r"got 200 of 200 with NaN, of the mirror image"):
        chart_data(target, frames * np.array([1.0, 1.0, -1.0]))
    spoilt = frames.copy()
    spoilt[7, 3, 1] = np.nan
    with pytest.warns(UserWarning, match="1 of 200 frames are left out"):
        assert len(chart_data(target, spoilt)) == 199
    spoilt[:5] = np.nan
    with pytest.raises(InputError, match="got 6 of 200"):
        chart_data(target, spoilt)


def test_frames_of_another_temperature_are_noticed(target):
    with pytest.warns(UserWarning, match=r"that of about [5-7]\d\d K and not 300 K: check their temperature"):
        chart_data(target, simulated(target, 600.0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: 10 * x, "looks like ångström"),
        (lambda x: x[:, :21], "this molecule has 22 atoms"),
        (lambda x: x[:9], "at least 10 different ones; got 9"),
        (lambda x: x[:1].repeat(50, 0), "at least 10 different ones; got 1"),
    ],
)
def test_what_is_no_data(target, frames, change, says):
    with pytest.raises(InputError, match=says):
        chart_data(target, change(frames))


def test_repeated_frames_are_noticed(target, frames):
    with pytest.warns(UserWarning, match=r"only \d+ of 300 frames differ"):
        chart_data(target, np.concatenate([frames[:100]] * 3))
    chart_data(target, np.concatenate([frames[:100], frames[:40]]))  # rejected moves repeat frames too


def test_only_a_chart_of_a_molecule_has_frames():
    toy = Pullback(DoubleWell(), lambda y: (y, y.new_zeros(len(y))), event_shape=2)
    with pytest.raises(InputError, match="must be a Pullback on InternalCoordinates"):
        chart_data(toy, np.zeros((20, 1, 3)))


def test_a_target_without_coordinates_is_refused():
    with pytest.raises(InputError, match="must be a Pullback on InternalCoordinates; got DoubleWell"):
        chart_data(DoubleWell(), torch.zeros(20, 2))
