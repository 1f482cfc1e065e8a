"""Files of AMBER, GROMACS, CHARMM and OpenMM: topology with parameters from one, coordinates from the other."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import openmm
from openmm import app, unit

from ..energies.openmm_xml import deserialize
from ..errors import InputError, UnsupportedSystemError
from .pdb import read_pdb, readable_file

__all__ = ["SOLVENTS", "Parts", "read_amber", "read_charmm", "read_gromacs", "read_system"]

SOLVENTS = {"HCT": app.HCT, "OBC1": app.OBC1, "OBC2": app.OBC2, "GBn": app.GBn, "GBn2": app.GBn2}
"""Implicit solvents by the names AMBER users know."""

Path = str | os.PathLike[str]


class Parts(NamedTuple):
    """What a molecule is made of; positions (n_atoms, 3) in nm."""

    system: openmm.System
    topology: app.Topology
    positions: npt.NDArray[np.float64]


def read_amber(prmtop: Path, inpcrd: Path, *, implicit_solvent: str | None) -> Parts:
    """An AMBER topology and coordinates (text or NetCDF restart), as a System in free space without constraints.

    Arguments:
        prmtop: topology and parameters, AMBER 7 format or newer.
        inpcrd: coordinates.
        implicit_solvent: a name in `SOLVENTS`; vacuum if None.

    Raises:
        InputError: if a file is missing or not what it must be, or they have different numbers of atoms.
    """
    solvent = _solvent(implicit_solvent)
    parameters = _read(app.AmberPrmtopFile, prmtop, "an AMBER prmtop file")
    coordinates = _read(app.AmberInpcrdFile, inpcrd, "an AMBER inpcrd or restart file")
    system = _created(prmtop, lambda: parameters.createSystem(**_FREE, implicitSolvent=solvent))
    return _fitting(Parts(system, parameters.topology, _nm(coordinates.positions)), prmtop, inpcrd)


def read_gromacs(top: Path, gro: Path, *, include: Path | None) -> Parts:
    """A GROMACS topology and coordinates, as a System in free space without constraints.

    Arguments:
        top: topology, with its `#include`s.
        gro: coordinates. GROMACS rounds them to 0.001 nm.
        include: folder of the force fields that are included; the one GROMACS was installed in if None.

    Raises:
        InputError: as `read_amber`.
    """
    coordinates = _read(app.GromacsGroFile, gro, "a GROMACS gro file")
    options = {} if include is None else {"includeDir": os.fspath(include)}
    parameters = _read(app.GromacsTopFile, top, "a GROMACS top file", **options)
    system = _created(top, lambda: parameters.createSystem(**_FREE))
    return _fitting(Parts(system, parameters.topology, _nm(coordinates.positions)), top, gro)


def read_charmm(psf: Path, coordinates: Path, parameters: Sequence[Path], *, implicit_solvent: str | None) -> Parts:
    """A CHARMM topology, coordinates and force field, as a System in free space without constraints.

    Arguments:
        psf: topology.
        coordinates: crd file, or PDB file.
        parameters: rtf, prm and str files, told apart by their names.
        implicit_solvent: a name in `SOLVENTS`; vacuum if None.

    Raises:
        InputError: as `read_amber`.
    """
    solvent = _solvent(implicit_solvent)
    if isinstance(parameters, (str, os.PathLike)):
        parameters = [parameters]
    files = [str(readable_file(file, "a CHARMM parameter file")) for file in parameters]
    if not files:
        raise InputError("parameters must name the rtf, prm and str files of the force field; got none: add them")
    structure = _read(app.CharmmPsfFile, psf, "a CHARMM psf file")
    if os.fspath(coordinates).lower().endswith((".pdb", ".ent")):
        positions = read_pdb(coordinates)[1]
    else:
        positions = _crd(coordinates)
    listed = ", ".join(files)
    field = _quietly(lambda: app.CharmmParameterSet(*files), f"{listed} must be CHARMM parameter files")
    system = _created(psf, lambda: structure.createSystem(field, **_FREE, implicitSolvent=solvent))
    return _fitting(Parts(system, structure.topology, positions), psf, coordinates)


def read_system(system: Path, structure: Path) -> Parts:
    """A System in OpenMM's XML and the PDB file of its atoms; see `energies.openmm_xml.deserialize` for what is safe.

    Raises:
        InputError: as `read_amber`.
        UnsupportedSystemError: if the XML holds a force that is not allowed, naming it.
    """
    file = readable_file(system, "a System in OpenMM's XML")
    try:
        parsed = deserialize(file.read_bytes().decode("utf-8", errors="replace"))
    except (InputError, UnsupportedSystemError) as error:
        raise type(error)(f"{file}: {error}") from error
    return _fitting(Parts(parsed, *read_pdb(structure)), system, structure)


def _crd(path: Path) -> npt.NDArray[np.float64]:
    """Positions in nm of a CHARMM crd file; OpenMM's own reader never returns from a file that breaks off."""
    file = readable_file(path, "a CHARMM crd file")
    lines = file.read_bytes().decode("utf-8", errors="replace").splitlines()
    words = [line.split() for line in lines if line.strip() and not line.startswith("*")]
    try:
        n = int(words[0][0])
        x = np.array([[float(word) for word in atom[4:7]] for atom in words[1 : n + 1]], dtype=np.float64)
        if x.shape == (n, 3):
            return x / 10
        problem = f"{len(x)} of {n} atoms"
    except IndexError:
        problem = "no atoms"
    except ValueError as error:
        problem = _line(error)
    raise InputError(f"{file} must be a CHARMM crd file; got {problem}: mend or re-export it")


def _solvent(name: str | None) -> Any:
    if name is not None and name not in SOLVENTS:
        raise InputError(f"implicit_solvent must be None or one of {', '.join(SOLVENTS)}; got {name!r}: choose one")
    return None if name is None else SOLVENTS[name]


_FREE = {"nonbondedMethod": app.NoCutoff, "constraints": None, "rigidWater": False, "removeCMMotion": False}


def _read(reader: Callable[..., Any], path: Path, what: str, **options: Any) -> Any:
    file = str(readable_file(path, what))
    return _quietly(lambda: reader(file, **options), f"{file} must be {what} that OpenMM can read")


def _quietly(read: Callable[[], Any], must: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="openmm")
            return read()
    except Exception as error:  # OpenMM raises whatever its parser stumbles over
        remedy = "mend or re-export it"
        if "#include" in str(error):
            remedy = "put the included files beside it, or read it in Python with include=the folder they are in"
        raise InputError(f"{must}; got {_line(error)}: {remedy}") from error


def _created(path: Path, create: Callable[[], openmm.System]) -> openmm.System:
    try:
        return create()
    except Exception as error:
        raise InputError(f"{path} must describe the whole molecule; OpenMM says {_line(error)!r}: mend it") from error


def _fitting(parts: Parts, first: Path, second: Path) -> Parts:
    n, m = parts.system.getNumParticles(), len(parts.positions)
    if n != m:
        raise InputError(f"{first} and {second} must have the same atoms; got {n} and {m}: take files of one molecule")
    return parts


def _nm(positions: Any) -> npt.NDArray[np.float64]:
    return np.array(positions.value_in_unit(unit.nanometer), dtype=np.float64)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
