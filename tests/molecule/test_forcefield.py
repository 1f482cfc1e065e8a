"""Force fields by name: what OpenMM ships is trusted, files are code; every mismatch names its remedy."""

import re

import openmm
import pytest
from openmm import app

from boltzgen.errors import InputError
from boltzgen.molecule import Molecule, find
from boltzgen.molecule.forcefield import apply_forcefield

STRUCTURE = find("alanine_dipeptide").structure
TEXT = STRUCTURE.read_text()


def build(names, *, trust=False, text=TEXT, tmp_path=None):
    if tmp_path is None:
        return apply_forcefield(app.PDBFile(str(STRUCTURE)).topology, names, trust=trust, source="a.pdb")
    path = tmp_path / "a.pdb"
    path.write_text(text)
    return Molecule.from_pdb(path, names)


def without(*words):
    return "\n".join(line for line in TEXT.splitlines() if not any(word in line for word in words))


def test_the_system_is_free_and_unconstrained():
    system = build(["amber96.xml", "implicit/obc1.xml"])
    assert system.getNumConstraints() == 0
    assert not system.usesPeriodicBoundaryConditions()
    assert not any(isinstance(force, openmm.CMMotionRemover) for force in system.getForces())
    bonds = next(force for force in system.getForces() if isinstance(force, openmm.HarmonicBondForce))
    assert bonds.getNumBonds() == 21  # the hydrogens' included


def test_one_name_need_not_be_a_list():
    assert build("amber96.xml").getNumParticles() == 22


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["amber14all.xml"], "did you mean 'amber14-all.xml'"),
        (["obc2.xml"], "did you mean 'implicit/obc2.xml'"),
        (["zzzzzzzz"], "user guide"),
        (["../data/../../forcefield.py"], "user guide"),
        ([], r"must be a list of names; got \[\]"),
        (3, "must be a list of names; got 3"),
        ([3], "must be a list of names"),
    ],
)
def test_unknown_names(names, hint):
    with pytest.raises(InputError, match=hint):
        build(names)


@pytest.mark.parametrize("tag", ["Script", "InitializationScript"])
def test_a_file_is_code_and_needs_trust(tmp_path, tag):
    canary = tmp_path / "canary"
    own = tmp_path / "own.xml"
    own.write_text(f"<ForceField><{tag}>open({str(canary)!r}, 'w').close()</{tag}></ForceField>")
    with pytest.raises(InputError, match="contain scripts that are executed: pass trust_forcefield=True"):
        build(["amber96.xml", own])
    assert not canary.exists()
    build(["amber96.xml", own], trust=True)
    assert canary.exists()  # so that the test above can fail


def test_a_shipped_name_is_not_taken_over_by_a_file_in_the_working_directory(tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    (tmp_path / "amber96.xml").write_text(f"<ForceField><Script>open({str(canary)!r}, 'w')</Script></ForceField>")
    monkeypatch.chdir(tmp_path)
    assert build(["amber96.xml"]).getNumParticles() == 22
    assert not canary.exists()


def test_a_trusted_file_must_exist_and_be_xml(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.xml must be a force-field file; got no such file"):
        build(["nowhere.xml"], trust=True)
    (tmp_path / "broken.xml").write_text("<ForceField>")
    with pytest.raises(InputError, match="must be force-field files that OpenMM can read"):
        build([tmp_path / "broken.xml"], trust=True)


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        (without(" HA  ALA"), "missing 1 H atom", "add the hydrogens with openmm.app.Modeller.addHydrogens"),
        (without("           H  "), "missing 3 H atoms", "pdbfixer"),
        (without(" O   ALA"), "missing 1 O atom", "add the missing atoms with pdbfixer"),
        (TEXT.replace("ALA", "LIG"), r"residue 1 \(LIG\)", "the name of the residue that it is, or add CONECT records"),
        (re.sub("( HA  ALA.{57})H", r"\1F", TEXT), r"residue 1 \(ALA\)", r"a system\.xml for Molecule\.from_xml"),
    ],
)
def test_residues_the_force_field_does_not_describe(tmp_path, text, says, remedy):
    with pytest.raises(InputError, match=rf"every residue of .*a\.pdb must .*{says}.*: .*{remedy}"):
        build(["amber96.xml"], text=text, tmp_path=tmp_path)
