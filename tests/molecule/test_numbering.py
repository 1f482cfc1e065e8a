"""A molecule is the same one in every process, however OpenMM numbers its Lennard-Jones types there."""

import os
import subprocess
import sys

import numpy as np
import openmm
import pytest

from boltzgen import Molecule
from boltzgen.molecule.numbering import with_types_in_order

LOOKED_UP = "acoef(type1, type2)/r^12 - bcoef(type1,type2)/r^6"


def system_of(types, order=range(3), energy=LOOKED_UP):
    """Atoms of up to three types, which are numbered in this order."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.5, 1.5, (2, 3, 3))  # not symmetric, so that rows are not taken for columns
    order = list(order)
    force = openmm.CustomNonbondedForce(energy)
    force.addPerParticleParameter("type")
    for name, table in (("acoef", 1e-6 * a), ("bcoef", 1e-3 * b)):
        values = [table[order[i], order[j]] for j in range(3) for i in range(3)]
        force.addTabulatedFunction(name, openmm.Discrete2DFunction(3, 3, values))
    system = openmm.System()
    for t in types:
        system.addParticle(12.0)
        force.addParticle([order.index(t)])
    system.addForce(force)
    return system


def computed(system):
    """The System, with a value that is computed from the number of a type."""
    force = system.getForce(0)
    force.addComputedValue("s", "1 + type")
    force.setEnergyFunction("acoef(type1, type2)*s1*s2/r^6")
    return system


def potential(system):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions([[0.3 * i, 0.01 * i**2, 0.0] for i in range(system.getNumParticles())])
    return context.getState(getEnergy=True).getPotentialEnergy()._value


def xml(system):
    return openmm.XmlSerializer.serialize(system)


@pytest.mark.parametrize("types", [[0, 1, 1, 2, 0], [0, 1, 1]], ids=["all types", "one that no atom has"])
@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_types_are_numbered_in_the_order_of_the_atoms_and_the_energy_is_the_same(order, types):
    plain, other = system_of(types), system_of(types, order)
    before = xml(other)
    found = with_types_in_order(other)
    assert xml(found) == xml(plain) != before
    assert xml(other) == before
    assert potential(found) == potential(other) == potential(plain)


@pytest.mark.parametrize(
    "system",
    [
        system_of([0, 1, 2]),
        system_of([2, 1, 0], order=(2, 0, 1), energy=LOOKED_UP + " + type1*type2"),
        system_of([2, 1, 0], order=(2, 0, 1), energy="acoef(type1, type2 + 0)/r^12"),
        computed(system_of([2, 1, 0], order=(2, 0, 1))),
        openmm.System(),
    ],
    ids=["in order", "a number that counts", "another index", "a value of the number", "no force"],
)
def test_what_need_not_or_must_not_be_renumbered_is_the_same_object(system):
    assert with_types_in_order(system) is system


def test_a_molecule_of_charmm_is_the_same_in_every_process():
    script = "import boltzgen as bg; m = bg.Molecule.load('butane'); print(m.fingerprint, m.energy(300.0).fingerprint)"

    def told(seed):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        return subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)

    molecule = Molecule.load("butane")
    assert told(0) == told(1) == f"{molecule.fingerprint} {molecule.energy(300.0).fingerprint}\n"
