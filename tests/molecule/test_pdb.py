"""Reading PDB files: every fault ends in one sentence naming the file, every choice in a warning."""

import os

import numpy as np
import pytest

from boltzgen import errors
from boltzgen.molecule import Molecule, find
from boltzgen.molecule.pdb import read_pdb

STRUCTURE = find("alanine_dipeptide").structure
TEXT = STRUCTURE.read_text()
ATOMS = [line for line in TEXT.splitlines() if line.startswith(("ATOM", "HETATM"))]
CONECT = [line for line in TEXT.splitlines() if line.startswith("CONECT")]


@pytest.fixture
def written(tmp_path):
    def write(content, name="a.pdb"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_positions_are_in_nanometres():
    topology, x = read_pdb(STRUCTURE)
    assert topology.getNumAtoms() == len(x) == 22
    assert x.dtype == np.float64
    np.testing.assert_allclose(x[1], [-0.2495, -0.2688, 0.0396], atol=1e-12)


@pytest.mark.parametrize("content", ["", "hello", b"\xff\xfe\x00\x01", "END\n", "CONECT    1    2\n"])
def test_a_file_without_atoms(written, content):
    with pytest.raises(errors.InputError, match=r"a\.pdb must hold ATOM or HETATM records; got no atoms"):
        read_pdb(written(content))


@pytest.mark.parametrize("bad", ["x.xxx", "  nan", "  inf", "     "])
def test_a_bad_number_names_file_line_and_axis(written, bad):
    with pytest.raises(errors.InputError, match=r"a\.pdb, line 3: y must be a number in columns 39-46; got"):
        read_pdb(written(TEXT.replace("-2.688", f"{bad:>6}", 1)))


def test_a_file_in_nanometres_is_refused_by_name(written):
    lines = [
        f"{line[:30]}{''.join(f'{float(line[k : k + 8]) / 10:8.3f}' for k in (30, 38, 46))}{line[54:]}"
        for line in ATOMS
    ]
    path = written("\n".join([*lines, *CONECT]))
    for read in (read_pdb, Molecule.from_pdb):
        with pytest.raises(
            errors.InputError, match=r"a\.pdb must be in ångström, .* got bonds 0\.1 times .* nanometres"
        ):
            read(path)


def test_a_truncated_line_is_a_bad_number(written):
    with pytest.raises(errors.InputError, match=r"line 23: x must be a number"):
        read_pdb(written("\n".join(TEXT.splitlines()[:23])[:-60]))


def test_whatever_openmm_stumbles_over_becomes_an_input_error(written):
    with pytest.raises(errors.InputError, match=r"must be a PDB file that OpenMM can read; got"):
        read_pdb(written("CRYST1 x.xxx\n" + TEXT))


def test_missing_file_directory_and_permission(tmp_path, monkeypatch):
    with pytest.raises(errors.InputError, match="got no such file: check the path"):
        read_pdb(tmp_path / "nowhere.pdb")
    with pytest.raises(errors.InputError, match="got a directory"):
        read_pdb(tmp_path)

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)  # root may read everything
    with pytest.raises(errors.InputError, match="got permission denied: check its permissions"):
        read_pdb(STRUCTURE)


def test_of_several_models_the_first_is_kept_with_a_warning(written):
    other = [line[:30] + "   9.000" + line[38:] for line in ATOMS]
    text = "\n".join(["MODEL        1", *ATOMS, "ENDMDL", "MODEL        2", *other, "ENDMDL", *CONECT])
    with pytest.warns(UserWarning, match="holds 2 models: only the first is used"):
        _, x = read_pdb(written(text))
    np.testing.assert_array_equal(x, read_pdb(STRUCTURE)[1])


def test_of_alternate_locations_the_first_is_kept_with_a_warning(written):
    lines = []
    for line in ATOMS:
        if " HA  ALA" in line:
            lines += [line[:16] + "A" + line[17:], line[:16] + "B" + line[17:30] + "   9.000" + line[38:]]
        else:
            lines.append(line)
    with pytest.warns(UserWarning, match=r"alternate locations \(A, B\): the first of each atom is used"):
        _, x = read_pdb(written("\n".join(lines + CONECT)))
    np.testing.assert_array_equal(x, read_pdb(STRUCTURE)[1])


def test_insertion_codes_are_kept_with_a_warning(written):
    path = written(TEXT.replace("ALA A   2 ", "ALA A   2B"))
    with pytest.warns(UserWarning, match=r"insertion codes \(ALA 2B\)"):
        molecule = Molecule.from_pdb(path, ["amber96.xml"])
    assert molecule.atom_labels[8] == "ALA2B-CA"


@pytest.mark.parametrize("name", ["with space.pdb", "Ångström-é.pdb", "<b>.pdb"])
def test_odd_names_and_odd_bytes_work(written, name):
    path = written(b"REMARK \xe9\xff caf\xe9\n" + TEXT.encode(), name)
    np.testing.assert_array_equal(read_pdb(os.fspath(path))[1], read_pdb(STRUCTURE)[1])
