"""Every force of published force fields, energies and forces, as OpenMM Reference has them.

CHARMM's files take OpenMM half a minute to read, so that its System of alanine dipeptide is kept in data/. From the
root of the repository, this makes it again:

    python -c "from tests.energies.test_published_force_fields import keep_charmm; keep_charmm()"
"""

import gzip
from pathlib import Path

import openmm
import pytest
import torch
from openmm import app, unit

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.openmm_xml import deserialize, serialize
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
CHARMM = Path(__file__).parent / "data" / "alanine_dipeptide_charmm36.xml.gz"


def assert_parity(system, x):
    energy = ForceFieldEnergy(system, 300.0, check=False)
    for precise, tolerance in ((x, TOLERANCE), (x.float(), FLOAT32)):
        for name, deviation in deviations(energy, system, precise).items():
            assert max(deviation.energy, deviation.gradient) < tolerance, f"{name}: {deviation}"


def alanine_dipeptide(name, **settings):
    """Its System and its positions."""
    pdb = app.PDBFile(str(ROOT / "systems" / "alanine_dipeptide" / "structure.pdb"))
    return app.ForceField(*FORCE_FIELDS[name]).createSystem(pdb.topology, constraints=None, **settings), pdb.positions


def keep_charmm():
    """Writes the System that the tests read."""
    text = serialize(alanine_dipeptide("charmm36")[0])
    CHARMM.write_bytes(gzip.compress(text.encode(), mtime=0))


@pytest.mark.parametrize("name", [name for name in FORCE_FIELDS if name != "charmm36"])
def test_alanine_dipeptide(name):
    system, positions = alanine_dipeptide(name)
    assert_parity(system, trial_positions(22, positions)[:4])


def test_correction_maps_and_14_interactions_of_charmm():
    system = deserialize(gzip.decompress(CHARMM.read_bytes()).decode())
    kinds = {type(force): force for force in system.getForces()}
    assert kinds[openmm.CMAPTorsionForce].getNumTorsions() == 1
    assert kinds[openmm.CustomNonbondedForce].getNumExclusions() > 0
    assert kinds[openmm.CustomBondForce].getName() == "LennardJones14"
    pdb = app.PDBFile(str(ROOT / "systems" / "alanine_dipeptide" / "structure.pdb"))
    assert_parity(system, trial_positions(22, pdb.positions)[:4])


@pytest.mark.slow
def test_what_is_kept_of_charmm_is_what_openmm_makes():
    """By its energies: OpenMM numbers the kinds of atoms of a CustomNonbondedForce in no order of its own."""
    kept = deserialize(gzip.decompress(CHARMM.read_bytes()).decode())
    made, positions = alanine_dipeptide("charmm36")
    assert [type(force) for force in kept.getForces()] == [type(force) for force in made.getForces()]
    energy = ForceFieldEnergy(kept, 300.0, check=False)
    for name, deviation in deviations(energy, made, trial_positions(22, positions)[:4]).items():
        assert max(deviation.energy, deviation.gradient) < TOLERANCE, f"{name}: {deviation}"


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


def paracetamol():
    molecule = Molecule.load("paracetamol")
    return molecule.system, molecule.positions


@pytest.mark.filterwarnings("default")  # torch warns of itself
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: alanine_dipeptide("amber14", implicitSolventKappa=1.3 / unit.nanometer), id="GBn2, salt"),
        pytest.param(lambda: alanine_dipeptide("amber19"), id="correction maps"),
        pytest.param(paracetamol, id="custom forces"),
    ],
)
def test_second_derivatives_are_differences_of_forces(make):
    system, positions = make()
    energy, step = ForceFieldEnergy(system, 300.0, check=False), 1e-6
    x = trial_positions(system.getNumParticles(), positions)[0]
    d = x.numel()
    hessian = torch.autograd.functional.hessian(lambda y: energy.energy(y[None])[0], x).reshape(d, d)
    steps = step * torch.eye(d, dtype=x.dtype).view(d, *x.shape)
    frames = torch.cat([x + steps, x - steps]).requires_grad_()
    ahead, behind = torch.autograd.grad(energy.energy(frames).sum(), frames)[0].reshape(2, d, d)
    torch.testing.assert_close(
        hessian, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7 * float(hessian.abs().max())
    )
    assert hessian.sub(hessian.T).abs().max() < 1e-9 * hessian.abs().max()


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
