"""Files of AMBER and GROMACS, read by OpenMM: topology with parameters from one, coordinates from the other."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import openmm
from openmm import app, unit

from ..errors import InputError
from .pdb import readable_file

__all__ = ["SOLVENTS", "Parts", "read_amber", "read_gromacs"]

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
    if implicit_solvent is not None and implicit_solvent not in SOLVENTS:
        raise InputError(
            f"implicit_solvent must be None or one of {', '.join(SOLVENTS)}; got {implicit_solvent!r}: choose one"
        )
    parameters = _read(app.AmberPrmtopFile, prmtop, "an AMBER prmtop file")
    coordinates = _read(app.AmberInpcrdFile, inpcrd, "an AMBER inpcrd or restart file")
    solvent = None if implicit_solvent is None else SOLVENTS[implicit_solvent]
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


_FREE = {"nonbondedMethod": app.NoCutoff, "constraints": None, "rigidWater": False, "removeCMMotion": False}


def _read(reader: Callable[..., Any], path: Path, what: str, **options: Any) -> Any:
    file = str(readable_file(path, what))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="openmm")
            return reader(file, **options)
    except Exception as error:  # OpenMM raises whatever its parser stumbles over
        raise InputError(
            f"{file} must be {what} that OpenMM can read; got {_line(error)}: mend or re-export it"
        ) from error


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
