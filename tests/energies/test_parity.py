"""The comparison with OpenMM: it sees what is wrong, where, and only that."""

import math

import numpy as np
import openmm
import pytest
import torch
from openmm import unit

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.parity import TOLERANCE, deviations, require_parity, trial_positions
from boltzgen.errors import EnergyError, InputError


class Wrong:
    """An energy that is right but for a factor on one force, beyond a distance from the origin of atom 3."""

    def __init__(self, system, factor):
        self.inner, self.factor = ForceFieldEnergy(system, 300.0), factor

    def per_force(self, x):
        U = self.inner.per_force(x)
        return U | {"HarmonicBondForce": U["HarmonicBondForce"] * self.factor(x)}


@pytest.fixture
def chain():
    """Six atoms with bonds and charges."""
    system, bonds, charges = openmm.System(), openmm.HarmonicBondForce(), openmm.NonbondedForce()
    for i in range(6):
        system.addParticle(12.0)
        charges.addParticle(0.1 * i, 0.3, 0.5)
    for i in range(5):
        bonds.addBond(i, i + 1, 0.15, 1e5)
    system.addForce(bonds)
    system.addForce(charges)
    return system


def test_rounding_is_all_that_is_found(chain):
    x = trial_positions(6)
    for deviation in deviations(ForceFieldEnergy(chain, 300.0), chain, x).values():
        assert deviation.energy < 1e-13
        assert deviation.gradient < 1e-13
    single = deviations(ForceFieldEnergy(chain, 300.0), chain, x.float())["HarmonicBondForce"]
    assert 1e-9 < single.gradient < 1e-5


def test_relative_deviations_are_measured(chain):
    found = deviations(Wrong(chain, lambda x: 1.001), chain, trial_positions(6))
    assert found["HarmonicBondForce"].energy == pytest.approx(1e-3)
    assert found["HarmonicBondForce"].gradient == pytest.approx(1e-3)
    assert found["NonbondedForce"].energy < TOLERANCE


def test_an_energy_that_is_right_in_value_only_is_found(chain):
    def detached(x):
        return 1 + 1e-3 * (x[:, 3, 0] - x[:, 3, 0].detach())

    found = deviations(Wrong(chain, detached), chain, trial_positions(6))["HarmonicBondForce"]
    assert found.energy < TOLERANCE
    assert found.gradient > TOLERANCE
    assert found.atoms[0] == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_numbers_that_openmm_has_and_we_do_not_are_found(chain, value):
    with pytest.raises(EnergyError, match=r"^HarmonicBondForce in torch must agree with OpenMM Reference to 1e-08"):
        require_parity(Wrong(chain, lambda x: value), chain)


def test_configurations_that_openmm_cannot_evaluate_are_left_out(chain):
    x = trial_positions(6)
    x[1, 2] = x[1, 3]
    x[2] = 0.0
    found = deviations(ForceFieldEnergy(chain, 300.0), chain, x)
    assert found["NonbondedForce"].energy < TOLERANCE
    assert found["NonbondedForce"].gradient < TOLERANCE
    nothing = deviations(ForceFieldEnergy(chain, 300.0), chain, torch.zeros(1, 6, 3, dtype=torch.float64))
    assert math.isnan(nothing["NonbondedForce"].energy)


def test_a_force_that_could_not_be_compared_is_refused():
    system, bond = openmm.System(), openmm.CustomBondForce("sqrt(r-100)")
    for _ in range(2):
        system.addParticle(12.0)
    bond.addBond(0, 1, [])
    system.addForce(bond)
    with pytest.raises(EnergyError, match=r"^CustomBondForce must have a finite energy in OpenMM near the positions"):
        ForceFieldEnergy(system, 300.0)
    ForceFieldEnergy(system, 300.0, positions=[[0.0, 0.0, 0.0], [200.0, 0.0, 0.0]])


def test_trial_positions_start_where_they_are_told():
    start = np.arange(66.0).reshape(22, 3)
    x = trial_positions(22, start, seed=1)
    distances = (x[:-1] - torch.tensor(start)).square().mean((1, 2)).sqrt()
    assert x.dtype == torch.float64
    assert (distances[1:] > distances[:-1]).all()
    assert distances[0] < 0.01 < 0.1 < distances[-1] < 0.3
    assert torch.equal(x, trial_positions(22, start * 10 * unit.angstrom, seed=1))
    assert not torch.equal(x, trial_positions(22, start, seed=2))
    with pytest.raises(InputError, match=r"positions must have shape \(22, 3\)"):
        trial_positions(22, start[:21])


def test_large_systems_are_tried_on_fewer_configurations():
    assert [len(trial_positions(n)) for n in (1, 22, 150, 1000)] == [7, 7, 5, 3]


@pytest.mark.parametrize("given", [True, False])
def test_the_last_configuration_is_stretched(given):
    x = trial_positions(22, np.random.default_rng(0).random((22, 3)) if given else None)
    size = torch.tensor([torch.pdist(frame).max() for frame in x])
    assert size[-1] / size[0] == pytest.approx(3)


def test_what_acts_only_beyond_the_size_of_the_molecule_is_compared():
    """A flat bottom, which neither the structure nor a distortion leaves."""

    def tethered(k):
        system, tether = openmm.System(), openmm.CustomBondForce(f"{k}*max(0, r - 0.8)^2")
        for _ in range(3):
            system.addParticle(12.0)
        tether.addBond(0, 2, [])
        system.addForce(tether)
        return system

    x = [[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.4, 0.1, 0.0]]
    energy = ForceFieldEnergy(tethered(1.0), 300.0, check=False)
    near = trial_positions(3, x)[:2]
    assert deviations(energy, tethered(2.0), near)["CustomBondForce"] == (0, 0, [0, 1, 2])
    require_parity(energy, tethered(1.0), x)
    with pytest.raises(EnergyError, match=r"CustomBondForce in torch must agree"):
        require_parity(energy, tethered(2.0), x)
