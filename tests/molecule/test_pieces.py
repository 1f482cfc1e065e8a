"""Several molecules: accepted if something holds them together, and refused by name if not."""

import numpy as np
import openmm
import pytest
from openmm import app, unit

from boltzgen import Molecule
from boltzgen.errors import UnsupportedSystemError

HARMONIC = "100*r^2"


def waters(n, *restraints, charge=0.4, missing=False):
    """n waters 0.3 nm apart, with restraints (i, j, expression) between their oxygens."""
    topology, system, x = app.Topology(), openmm.System(), []
    chain, bonds, nonbonded = topology.addChain("A"), openmm.HarmonicBondForce(), openmm.NonbondedForce()
    for k in range(n):
        residue = topology.addResidue("HOH", chain)
        oxygen, *hydrogens = (topology.addAtom(a, app.Element.getBySymbol(a[0]), residue) for a in ("O", "H1", "H2"))
        for hydrogen in hydrogens:
            if not (missing and k == 1):
                topology.addBond(oxygen, hydrogen)
            bonds.addBond(3 * k, hydrogen.index, 0.0957, 4e5)
        for mass, q in ((16.0, -2 * charge), (1.0, charge), (1.0, charge)):
            system.addParticle(mass)
            nonbonded.addParticle(q, 0.2, 0.3)
        x += (np.array([[0, 0, 0], [0.0957, 0, 0], [-0.024, 0.0927, 0]]) + 0.3 * k * np.array([1, 0.5, 0.3])).tolist()
    system.addForce(bonds)
    system.addForce(nonbonded)
    for i, j, expression in restraints:
        hold = openmm.CustomBondForce(expression)
        hold.addBond(3 * i, 3 * j, [])
        system.addForce(hold)
    return Molecule.from_openmm(system, topology, np.array(x))


def test_two_waters_that_nothing_holds_together_are_refused_with_their_first_atoms():
    with pytest.raises(
        UnsupportedSystemError, match=r"got 2 pieces \(starting at HOH1-O, HOH2-O\), where that of HOH2"
    ):
        waters(2)
    with pytest.raises(UnsupportedSystemError, match="add a restraint between the molecules, such as a CustomCentroid"):
        waters(2)


def test_a_spring_holds_them_together():
    assert waters(2, (0, 1, HARMONIC)).n_atoms == 6
    assert waters(3, (0, 1, HARMONIC), (1, 2, HARMONIC)).n_atoms == 9


def test_all_of_them_must_be_held():
    with pytest.raises(UnsupportedSystemError, match="where that of HOH3-O may leave"):
        waters(3, (0, 1, HARMONIC))
    with pytest.raises(UnsupportedSystemError, match="where that of HOH3-O and HOH4-O may leave"):
        waters(4, (0, 1, HARMONIC), (2, 3, HARMONIC))
    with pytest.raises(UnsupportedSystemError, match="where that of HOH2-O and HOH3-O may leave"):
        waters(3, (1, 2, HARMONIC))


@pytest.mark.parametrize(("power", "held"), [(2.5, False), (3.5, True)])
def test_what_holds_must_rise_faster_than_the_volume_grows(power, held):
    """exp(−u) r² dr with u = c log r has an integral for c > 3 only; kT is 2.494 kJ/mol at 300 K."""
    restraint = (0, 1, f"{power}*2.494*log(r)")
    if held:
        assert waters(2, restraint, charge=0.0).n_atoms == 6
    else:
        with pytest.raises(UnsupportedSystemError, match=r"u rises by 5\.7"):
            waters(2, restraint, charge=0.0)


def test_bonds_that_the_topology_lacks_are_no_restraints():
    with pytest.raises(UnsupportedSystemError, match="too stiff for a restraint, connects HOH2-O and HOH2-H1:"):
        waters(2, (0, 1, HARMONIC), missing=True)


def test_a_crowd_is_refused():
    with pytest.raises(
        UnsupportedSystemError, match=r"got 9 pieces \(starting at .*, \.\.\.\), more than 8: leave out solvent"
    ):
        waters(9, *((0, k, HARMONIC) for k in range(1, 9)))


def test_two_of_one_kind_have_names_of_their_own():
    """`Modeller.add` keeps the ids of chains, so that both are chain A; torsions of each are named."""
    one = Molecule.load("alanine_dipeptide")
    pair = app.Modeller(one.topology, one.positions * unit.nanometer)
    pair.add(one.topology, np.add(one.positions, [0.0, 0.0, 1.0]) * unit.nanometer)
    system = app.ForceField("amber96.xml").createSystem(pair.topology, constraints=None)
    hold = openmm.CustomBondForce(HARMONIC)
    hold.addBond(8, 30, [])
    system.addForce(hold)
    molecule = Molecule.from_openmm(system, pair.topology, pair.positions)
    assert len(set(molecule.atom_labels)) == 44
    assert {"phi_A2", "phi_A22"} <= set(molecule.torsions)
    assert np.array_equal(np.add(molecule.torsions["phi_A2"], 22), molecule.torsions["phi_A22"])
