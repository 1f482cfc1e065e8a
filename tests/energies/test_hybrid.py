"""A System half in torch and half in OpenMM is the whole System's energy."""

from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.hybrid import HybridEnergy, system_energy
from boltzgen.energies.openmm_energy import OpenMMEnergy
from boltzgen.errors import UnsupportedSystemError

PDB = app.PDBFile(str(Path(__file__).parents[2] / "systems" / "alanine_dipeptide" / "structure.pdb"))
POSITIONS = torch.tensor(np.array(PDB.positions.value_in_unit(unit.nanometer)))
PARITY = 1e-8


def vacuum(*more):
    system = app.ForceField("amber96.xml").createSystem(PDB.topology, constraints=None)
    for force in more:
        system.addForce(force)
    return system


def pull():
    """A harmonic pull on the distance of a structure from the reference: not compiled."""
    force = openmm.CustomCVForce("50*(rmsd-0.1)^2")
    force.addCollectiveVariable("rmsd", openmm.RMSDForce(POSITIONS.numpy() * unit.nanometer))
    return force


def frames(n, seed=0):
    noise = torch.randn(n, 22, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return POSITIONS + 0.01 * noise


def gradient(energy, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(energy.energy(x).sum(), x)[0]


def test_energy_and_gradient_are_those_of_the_whole_system():
    whole, hybrid = OpenMMEnergy(vacuum(pull()), 300.0, platform="Reference"), HybridEnergy(vacuum(pull()), 300.0)
    x = frames(10)
    torch.testing.assert_close(hybrid.energy(x), whole.energy(x), rtol=PARITY, atol=0)
    expected = gradient(whole, x)
    torch.testing.assert_close(gradient(hybrid, x), expected, rtol=0, atol=PARITY * float(expected.abs().max()))
    without = ForceFieldEnergy(vacuum(), 300.0, check=False)
    assert (whole.energy(x) - without.energy(x)).min() > 0.01, "the part in OpenMM is there"


def test_each_frame_is_counted_once_and_a_bad_one_spoils_its_own_row_only():
    hybrid, x = HybridEnergy(vacuum(pull()), 300.0), frames(6)
    clean = hybrid.energy(x)
    assert hybrid.evaluations.energy == 6
    spoilt = x.clone()
    spoilt[2, 4, 0] = torch.nan
    u = hybrid.energy(spoilt)
    good = torch.arange(6) != 2
    assert u[2] == torch.inf
    assert torch.equal(u[good], clean[good])
    assert not gradient(hybrid, spoilt)[2].any()
    assert torch.isfinite(gradient(hybrid, spoilt)).all()


def test_what_is_built_is_as_much_torch_as_can_be():
    only = openmm.System()
    for _ in range(22):
        only.addParticle(12.0)
    only.addForce(pull())
    built = [system_energy(system, 300.0) for system in (vacuum(), vacuum(pull()), only)]
    assert [type(energy) for energy in built] == [ForceFieldEnergy, HybridEnergy, OpenMMEnergy]
    lines = built[1].describe().splitlines()
    assert "HarmonicBondForce: torch, HarmonicBonds" in lines
    assert lines[-1].startswith("CustomCVForce: OpenMM, ")
    assert lines[-1].endswith("since this kind of force is not compiled")


def test_another_temperature_divides_both_parts():
    hybrid, x = HybridEnergy(vacuum(pull()), 300.0), frames(4)
    torch.testing.assert_close(hybrid.at(600.0).energy(x), hybrid.energy(x) / 2, rtol=PARITY, atol=0)


def test_systems_that_cannot_be_sampled_are_refused():
    system = vacuum(pull())
    system.addConstraint(0, 1, 0.109)
    with pytest.raises(UnsupportedSystemError, match="constraints"):
        system_energy(system, 300.0)
