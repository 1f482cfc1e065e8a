"""AMBER's and GROMACS's files give the same energies as the force field they were written from."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.errors import InputError
from boltzgen.molecule import Molecule, find
from boltzgen.units import kT

DATA = Path(__file__).parent / "data"
PRMTOP, INPCRD, TOP, GRO = (DATA / f"ala.{suffix}" for suffix in ("prmtop", "inpcrd", "top", "gro"))
"""Alanine dipeptide in amber96, vacuum, as ParmEd wrote it."""
DIGITS = 2e-2  # kJ/mol: the files hold some eight digits


@pytest.fixture(scope="module")
def vacuum():
    return Molecule.from_pdb(find("alanine_dipeptide").structure, ["amber96.xml"])


def energies(molecule, x):
    return molecule.energy(300.0).energy(x) * kT(300.0)


@pytest.mark.parametrize("load", [lambda: Molecule.from_amber(PRMTOP, INPCRD), lambda: Molecule.from_gromacs(TOP, GRO)])
def test_the_molecule_is_that_of_the_force_field(vacuum, load):
    molecule = load()
    assert (molecule.name, molecule.n_atoms, molecule.bonds) == ("ala", 22, vacuum.bonds)
    assert molecule.torsions == vacuum.torsions
    assert np.abs(molecule.positions - vacuum.positions).max() < 1e-3
    assert isinstance(molecule.energy(300.0), ForceFieldEnergy)
    x = torch.tensor(vacuum.positions) + 0.005 * torch.randn(
        20, 22, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(energies(molecule, x), energies(vacuum, x), atol=DIGITS, rtol=0)


@pytest.mark.filterwarnings("ignore:Non-optimal GB parameters")  # OpenMM's advice on this file's radii
def test_implicit_solvents_by_name():
    x = torch.tensor(Molecule.from_amber(PRMTOP, INPCRD).positions)[None]
    found = {
        name: float(energies(Molecule.from_amber(PRMTOP, INPCRD, implicit_solvent=name), x))
        for name in (None, "HCT", "OBC1", "OBC2")
    }
    assert len(set(found.values())) == 4
    assert all(found[name] < found[None] - 20 for name in ("HCT", "OBC1", "OBC2"))
    with pytest.raises(InputError, match=r"implicit_solvent must be None or one of HCT, OBC1, .* got 'obc2'"):
        Molecule.from_amber(PRMTOP, INPCRD, implicit_solvent="obc2")


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (lambda d: Molecule.from_amber(d / "no.prmtop", INPCRD), "no.prmtop must be an AMBER prmtop file; got no such"),
        (lambda d: Molecule.from_amber(PRMTOP, d), "must be an AMBER inpcrd or restart file; got a directory"),
        (lambda d: Molecule.from_amber(d / "text", INPCRD), "must be an AMBER prmtop file that OpenMM can read"),
        (lambda d: Molecule.from_amber(d / "half", INPCRD), "half must "),
        (lambda d: Molecule.from_amber(PRMTOP, d / "text"), "must be an AMBER inpcrd or restart file that OpenMM can"),
        (lambda d: Molecule.from_gromacs(d / "text", GRO), "text must "),
        (lambda d: Molecule.from_gromacs(TOP, d / "text"), "must be a GROMACS gro file that OpenMM can read"),
        (lambda d: Molecule.from_gromacs(d / "include", GRO), "include must be a GROMACS top file that OpenMM can"),
        (lambda d: Molecule.from_gromacs(TOP, d / "short.gro"), "must have the same atoms; got 22 and 21"),
    ],
)
def test_files_that_are_not_what_they_must_be(tmp_path, load, says):
    (tmp_path / "text").write_text("nothing of the kind\n")
    (tmp_path / "half").write_text(PRMTOP.read_text()[:6000])
    (tmp_path / "include").write_text('#include "nowhere.itp"\n')
    lines = GRO.read_text().splitlines()
    (tmp_path / "short.gro").write_text("\n".join([lines[0], "   21", *lines[2:-2], lines[-1]]) + "\n")
    with pytest.raises(InputError, match=says):
        load(tmp_path)


def test_paths_with_spaces_and_umlauts(tmp_path):
    folder = tmp_path / "my own Ångström"
    folder.mkdir()
    for file in (PRMTOP, INPCRD):
        shutil.copy(file, folder)
    assert Molecule.from_amber(folder / "ala.prmtop", folder / "ala.inpcrd", name="mine").name == "mine"
