"""PDB files, read by OpenMM after a look for what it would pass over in silence."""

from __future__ import annotations

import io
import math
import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from openmm import app, unit

from ..errors import InputError
from .plausibility import TENFOLD_SHORT, covalent_bond_lengths, typical_ratio

__all__ = ["read_pdb", "readable_file"]

_COLUMNS = {"x": slice(30, 38), "y": slice(38, 46), "z": slice(46, 54)}


def read_pdb(path: str | os.PathLike[str]) -> tuple[app.Topology, npt.NDArray[np.float64]]:
    """Topology and positions in nm, (n_atoms, 3), of a PDB file.

    Of several models the first is kept, of alternate locations the first of each atom; a `UserWarning` says so.

    Raises:
        InputError: if the file cannot be read or holds no atoms, a number in it is none, naming the line, or it is
            written in nanometres.
    """
    file = readable_file(path, "a PDB file")
    text = file.read_bytes().decode("utf-8", errors="replace")
    lines = text.splitlines()
    atoms = [(number, line) for number, line in enumerate(lines, start=1) if line.startswith(("ATOM  ", "HETATM"))]
    if not atoms:
        raise InputError(f"{file} must hold ATOM or HETATM records; got no atoms in it: check that it is a PDB file")
    for number, line in atoms:
        for axis, columns in _COLUMNS.items():
            _coordinate(file, number, axis, line[columns])
    _warn_of_choices(file, lines, [line for _, line in atoms])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="WARNING: duplicate atom")  # judged by the template match
            pdb = app.PDBFile(io.StringIO("\n".join(lines)))
    except Exception as error:  # OpenMM raises whatever its parser stumbles over
        raise InputError(
            f"{file} must be a PDB file that OpenMM can read; got {error}: mend or re-export the file"
        ) from error
    x = np.array(pdb.positions.value_in_unit(unit.nanometer), dtype=np.float64)
    _check_unit(file, pdb.topology, x)
    return pdb.topology, x


def readable_file(path: str | os.PathLike[str], what: str) -> Path:
    """The path, once it is known to be a file that can be opened.

    Raises:
        InputError: if there is no such file, it is a directory, or it may not be read.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"the path of {what} must be a text or a Path; got {path!r}: name the file")
    file = Path(path)
    try:
        with open(file, "rb"):
            return file
    except FileNotFoundError:
        problem, remedy = "no such file", "check the path"
    except IsADirectoryError:
        problem, remedy = "a directory", "name the file in it"
    except OSError as error:
        problem, remedy = (error.strerror or str(error)).lower(), "check its permissions"
    raise InputError(f"{file} must be {what}; got {problem}: {remedy}")


def _coordinate(file: Path, number: int, axis: str, field: str) -> None:
    try:
        finite = math.isfinite(float(field))
    except ValueError:
        finite = False
    if not finite:
        raise InputError(
            f"{file}, line {number}: {axis} must be a number in columns "
            f"{_COLUMNS[axis].start + 1}-{_COLUMNS[axis].stop}; got {field.strip()!r}: correct the line"
        )


def _check_unit(file: Path, topology: app.Topology, x: npt.NDArray[np.float64]) -> None:
    elements = ["" if atom.element is None else atom.element.symbol for atom in topology.atoms()]
    bonds = [(bond[0].index, bond[1].index) for bond in topology.bonds()]
    typical = typical_ratio(x[None], covalent_bond_lengths(elements, bonds))
    if TENFOLD_SHORT[0] < typical < TENFOLD_SHORT[1]:
        raise InputError(
            f"{file} must be in ångström, as PDB files are; got bonds {typical:.2g} times their usual length, which "
            "looks like nanometres: write it again with all coordinates multiplied by 10"
        )


def _warn_of_choices(file: Path, lines: list[str], atoms: list[str]) -> None:
    models = sum(line.startswith("MODEL ") for line in lines)
    if models > 1:
        _warn(f"{file} holds {models} models: only the first is used")
    alternate = sorted({line[16] for line in atoms} - {" "})
    if alternate:
        _warn(f"{file} gives alternate locations ({', '.join(alternate)}): the first of each atom is used")
    inserted = sorted({f"{line[17:20].strip()} {line[22:27].strip()}" for line in atoms if line[26:27].strip()})
    if inserted:
        _warn(f"{file} has residues with insertion codes ({', '.join(inserted)}): each is kept as a residue of its own")


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
