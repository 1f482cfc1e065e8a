"""Systems in XML and CHARMM's files make the molecule of their parts; what is wrong is said in a sentence."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch

from boltzgen.energies.openmm_xml import serialize
from boltzgen.errors import InputError, UnsupportedSystemError
from boltzgen.molecule import Molecule, find
from boltzgen.units import kT

STRUCTURE = find("alanine_dipeptide").structure


@pytest.fixture(scope="module")
def alanine():
    return Molecule.load("alanine_dipeptide")


# ---------------------------------------------------------------------- system.xml


@pytest.fixture
def folder(tmp_path, alanine):
    shutil.copy(STRUCTURE, tmp_path / "structure.pdb")
    (tmp_path / "system.xml").write_text(serialize(alanine.system))
    return tmp_path


def test_a_system_in_xml_is_the_molecule(folder, alanine):
    molecule = Molecule.from_xml(folder / "system.xml", folder / "structure.pdb", temperature=310.0)
    assert molecule.fingerprint == alanine.fingerprint
    assert (molecule.name, molecule.default_temperature) == ("structure", 310.0)
    np.testing.assert_array_equal(molecule.positions, alanine.positions)


def test_a_folder_may_hold_a_system_in_place_of_a_force_field(folder, alanine):
    (folder / "system.toml").write_text('title = "mine"\nsystem = "system.xml"\n[torsions]\nmine = [0, 1, 4, 6]\n')
    molecule = Molecule.load(folder)
    assert molecule.fingerprint == alanine.fingerprint
    assert molecule.torsions["mine"] == (0, 1, 4, 6)
    assert find(folder).energy().temperature == 300.0


def test_a_folder_must_not_say_both(folder):
    (folder / "system.toml").write_text('title = "mine"\nsystem = "system.xml"\nforcefield = ["amber96.xml"]\n')
    with pytest.raises(InputError, match=r"system\.toml must say system or forcefield; got both: leave one out"):
        Molecule.load(folder)


class Touch:
    """What makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_system_is_not_run(folder, tmp_path):
    canary = tmp_path / "canary"
    force = (
        f'<Force forceGroup="0" function="{pickle.dumps(Touch(canary)).hex()}" name="x" type="PythonForce" '
        'usesPeriodic="0" version="2"><GlobalParameters/><Particles/></Force>'
    )
    text = (folder / "system.xml").read_text().replace("<Forces>", f"<Forces>{force}", 1)
    (folder / "system.xml").write_text(text)
    with pytest.raises(UnsupportedSystemError, match=r"system\.xml: every force must .* got PythonForce"):
        Molecule.from_xml(folder / "system.xml", folder / "structure.pdb")
    (folder / "system.toml").write_text('title = "mine"\nsystem = "system.xml"\n')
    with pytest.raises(UnsupportedSystemError, match="got PythonForce"):
        Molecule.load(folder)
    assert not canary.exists()
    if hasattr(openmm, "PythonForce"):  # so that the test can fail
        openmm.XmlSerializer.deserialize(text)
        assert canary.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "well-formed XML"),
        (b"<System", "well-formed"),
        (b"\xff\xfe", "well-formed"),
        (b"<State/>", "must be a System"),
    ],
)
def test_what_is_no_system(folder, content, says):
    (folder / "system.xml").write_bytes(content)
    with pytest.raises(InputError, match=rf"system\.xml: .*{says}"):
        Molecule.from_xml(folder / "system.xml", folder / "structure.pdb")


def test_a_system_of_other_atoms(folder):
    system = openmm.System()
    for _ in range(3):
        system.addParticle(12.0)
    (folder / "system.xml").write_text(serialize(system))
    with pytest.raises(InputError, match="must have the same atoms; got 3 and 22"):
        Molecule.from_xml(folder / "system.xml", folder / "structure.pdb")
    with pytest.raises(InputError, match=r"nowhere\.xml must be a System in OpenMM's XML; got no such file"):
        Molecule.from_xml(folder / "nowhere.xml", folder / "structure.pdb")


# ---------------------------------------------------------------------- CHARMM

PSF = """PSF

       1 !NTITLE
 REMARKS hydrogen peroxide

       4 !NATOM
       1 MAIN 1    HOOH HA   HP     0.420000        1.0080           0
       2 MAIN 1    HOOH OA   OP    -0.420000       15.9994           0
       3 MAIN 1    HOOH OB   OP    -0.420000       15.9994           0
       4 MAIN 1    HOOH HB   HP     0.420000        1.0080           0

       3 !NBOND: bonds
       1       2       2       3       3       4

       2 !NTHETA: angles
       1       2       3       2       3       4

       1 !NPHI: dihedrals
       1       2       3       4

       0 !NIMPHI: impropers


       0 !NDON: donors


       0 !NACC: acceptors


       0 !NNB

       0       0       0       0

       1       0 !NGRP
       0       0       0

"""
PRM = """* hydrogen peroxide
*

ATOMS
MASS   1 HP   1.00800
MASS   2 OP  15.99940

BONDS
HP   OP   540.0   0.965
OP   OP   300.0   1.450

ANGLES
HP   OP   OP   60.0   100.0

DIHEDRALS
HP   OP   OP   HP   1.10   2   0.00

NONBONDED nbxmod  5 atom cdiel shift vatom vdistance vswitch -
cutnb 14.0 ctofnb 12.0 ctonnb 10.0 eps 1.0 e14fac 1.0 wmin 1.5
HP   0.0   -0.0460   0.2245
OP   0.0   -0.1521   1.7700

END
"""
ANGSTROM = np.array([[0.95, 0.1, 0.0], [0.0, 0.0, 0.0], [-0.25, 1.42, 0.05], [0.1, 1.75, 0.85]])
CRD = "* hydrogen peroxide\n*\n    4\n" + "".join(
    f"{i + 1:5d}{1:5d} HOOH {name:<4s}{x:10.5f}{y:10.5f}{z:10.5f} MAIN 1   {0:10.5f}\n"
    for i, (name, (x, y, z)) in enumerate(zip(("HA", "OA", "OB", "HB"), ANGSTROM.tolist(), strict=True))
)


@pytest.fixture
def peroxide(tmp_path):
    files = {"hooh.psf": PSF, "hooh.crd": CRD, "hooh.prm": PRM}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in files]


def by_hand(x):
    """CHARMM's formulae in kJ/mol: K (b − b₀)², K (θ − θ₀)², K (1 + cos(2φ)); the ends are a scaled 1-4 pair."""
    from boltzgen.coordinates.geometry import angle, azimuth, distance

    a, b, c, d = (x[:, k].T for k in range(4))
    U = 540 * ((distance(a, b) * 10 - 0.965) ** 2 + (distance(c, d) * 10 - 0.965) ** 2)
    U = U + 300 * (distance(b, c) * 10 - 1.45) ** 2
    U = U + 60 * ((angle(a, b, c) - np.radians(100)) ** 2 + (angle(b, c, d) - np.radians(100)) ** 2)
    U = U + 1.1 * (1 + torch.cos(2 * azimuth(a, b, c, d)))
    r = distance(a, d) * 10
    U = U + 0.046 * ((0.449 / r) ** 12 - 2 * (0.449 / r) ** 6)
    return U * 4.184 + 138.935456 * 0.42**2 / (r / 10)


def test_charmms_files_have_charmms_energy(peroxide):
    psf, crd, prm = peroxide
    molecule = Molecule.from_charmm(psf, crd, [prm], torsions={"phi": [0, 1, 2, 3]})
    assert (molecule.name, molecule.elements, molecule.bonds) == ("hooh", list("HOOH"), [(0, 1), (1, 2), (2, 3)])
    np.testing.assert_allclose(molecule.positions, ANGSTROM / 10, atol=1e-9)
    noise = torch.randn(20, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.tensor(molecule.positions) + 0.005 * noise
    torch.testing.assert_close(molecule.energy(300.0).energy(x) * kT(300.0), by_hand(x), rtol=1e-6, atol=1e-4)


def test_a_single_parameter_file_and_implicit_solvent(peroxide):
    psf, crd, prm = peroxide
    dry, wet = (Molecule.from_charmm(psf, crd, prm, implicit_solvent=name) for name in (None, "OBC2"))
    x = torch.tensor(dry.positions)[None]
    assert wet.energy(300.0).energy(x) < dry.energy(300.0).energy(x) - 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"psf": ""}, r"hooh\.psf must be a CHARMM psf file that OpenMM can read"),
        ({"crd": ""}, r"hooh\.crd must be a CHARMM crd file; got no atoms"),
        ({"crd": "garbage\n"}, r"hooh\.crd must be a CHARMM crd file; got invalid literal"),
        ({"crd": CRD.rsplit("\n", 2)[0]}, r"hooh\.crd must be a CHARMM crd file; got 3 of 4 atoms"),
        ({"prm": PRM.replace("540.0", "stiff")}, r"hooh\.prm must be CHARMM parameter files"),
        ({"prm": PRM.replace("HP   OP   OP   60.0   100.0", "")}, r"hooh\.psf must describe the whole molecule"),
        (
            {"crd": CRD.replace("    4\n", "    3\n", 1).rsplit("\n", 2)[0] + "\n"},
            "must have the same atoms; got 4 and 3",
        ),
    ],
)
def test_mistakes_in_charmms_files_name_the_file(peroxide, change, says):
    for path in peroxide:
        if path.suffix[1:] in change:
            path.write_text(change[path.suffix[1:]])
    with pytest.raises(InputError, match=says):
        Molecule.from_charmm(peroxide[0], peroxide[1], [peroxide[2]])


def test_charmms_files_must_be_there(peroxide):
    psf, crd, prm = peroxide
    with pytest.raises(InputError, match=r"nowhere\.psf must be a CHARMM psf file; got no such file"):
        Molecule.from_charmm(psf.parent / "nowhere.psf", crd, [prm])
    with pytest.raises(InputError, match=r"nowhere\.prm must be a CHARMM parameter file; got no such file"):
        Molecule.from_charmm(psf, crd, [psf.parent / "nowhere.prm"])
    with pytest.raises(InputError, match="parameters must name the rtf, prm and str files"):
        Molecule.from_charmm(psf, crd, [])
    with pytest.raises(InputError, match="got 'PB': choose one"):
        Molecule.from_charmm(psf, crd, [prm], implicit_solvent="PB")
