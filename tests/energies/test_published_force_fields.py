"""Every force of published force fields, energies and forces, as OpenMM Reference has them."""

from pathlib import Path

import openmm
import pytest
import torch
from openmm import app, unit

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.parity import TOLERANCE, deviations, trial_positions
from boltzgen.molecule import Molecule

ROOT = Path(__file__).parents[2]
FLOAT32 = 2e-5
FORCE_FIELDS = {
    "amber96": ("amber96.xml", "implicit/obc1.xml"),
    "amber99sbildn": ("amber99sbildn.xml", "amber99_obc.xml"),
    "amber14": ("amber14-all.xml", "implicit/gbn2.xml"),
    "amber19": ("amber19-all.xml",),
    "charmm36": ("charmm36_2024.xml",),
}


def assert_parity(system, x):
    energy = ForceFieldEnergy(system, 300.0, check=False)
    for precise, tolerance in ((x, TOLERANCE), (x.float(), FLOAT32)):
        for name, deviation in deviations(energy, system, precise).items():
            assert max(deviation.energy, deviation.gradient) < tolerance, f"{name}: {deviation}"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "charmm36" else name for name in FORCE_FIELDS]
)
def test_alanine_dipeptide(name):
    pdb = app.PDBFile(str(ROOT / "systems" / "alanine_dipeptide" / "structure.pdb"))
    system = app.ForceField(*FORCE_FIELDS[name]).createSystem(pdb.topology, constraints=None)
    assert_parity(system, trial_positions(22, pdb.positions)[:4])


@pytest.mark.parametrize("solvent", [None, app.OBC2, app.GBn2])
def test_amber_topology_file(solvent):
    folder = ROOT / "tests" / "molecule" / "data"
    prmtop = app.AmberPrmtopFile(str(folder / "ala.prmtop"))
    start = app.AmberInpcrdFile(str(folder / "ala.inpcrd")).positions.value_in_unit(unit.nanometer)
    system = prmtop.createSystem(implicitSolvent=solvent, constraints=None)
    assert_parity(system, trial_positions(system.getNumParticles(), start)[:4])


@pytest.mark.parametrize("files", [("amber96.xml", "implicit/obc1.xml"), ("amber14-all.xml", "implicit/gbn2.xml")])
def test_a_peptide_of_all_twenty_residues(files):
    pdb = app.PDBFile(str(ROOT / "tests" / "molecule" / "data" / "twenty_residues.pdb"))
    system = app.ForceField(*files).createSystem(pdb.topology, constraints=None)
    positions = trial_positions(system.getNumParticles(), pdb.positions)
    assert_parity(system, positions[[0, -1]])


def test_a_ligand_of_custom_forces_from_its_system_file():
    molecule = Molecule.load("paracetamol")
    kinds = {type(force) for force in molecule.system.getForces()}
    assert {openmm.CustomTorsionForce, openmm.CustomNonbondedForce, openmm.CustomBondForce} < kinds
    assert_parity(molecule.system, trial_positions(molecule.n_atoms, molecule.positions))


def test_a_wrong_parameter_is_seen():
    pdb = app.PDBFile(str(ROOT / "systems" / "alanine_dipeptide" / "structure.pdb"))
    system = app.ForceField("amber96.xml").createSystem(pdb.topology, constraints=None)
    other = openmm.XmlSerializer.clone(system)
    charges = next(force for force in other.getForces() if isinstance(force, openmm.NonbondedForce))
    charge, sigma, epsilon = charges.getParticleParameters(6)
    charges.setParticleParameters(6, charge * 1.001, sigma, epsilon)
    found = deviations(ForceFieldEnergy(other, 300.0, check=False), system, trial_positions(22, pdb.positions)[:4])
    assert found["NonbondedForce"].gradient > FLOAT32
    assert torch.tensor([d.gradient for name, d in found.items() if name != "NonbondedForce"]).max() < TOLERANCE
