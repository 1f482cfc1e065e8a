"""A force field by name applied to a topology; names shipped with OpenMM are trusted, files are code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import openmm
from openmm import app

from ..errors import InputError
from .pdb import readable_file

__all__ = ["DEFAULT_FORCEFIELD", "apply_forcefield", "forcefield_files"]

DEFAULT_FORCEFIELD = ("amber14-all.xml", "implicit/obc2.xml")

_SHIPPED = Path(app.__file__).parent / "data"


def apply_forcefield(
    topology: app.Topology, names: Sequence[str | os.PathLike[str]], *, trust: bool, source: str | os.PathLike[str]
) -> openmm.System:
    """The System of a molecule in free space: no cutoff, no constraints.

    Arguments:
        topology: of the molecule, hydrogens included.
        names: force-field files, by the name OpenMM ships them under, or by path.
        trust: whether files that OpenMM does not ship may be used: they can contain scripts, which are executed.
        source: where the topology came from, for messages.

    Raises:
        InputError: for an unknown name, a file that is not trusted, or a molecule the force field does not describe.
    """
    if isinstance(names, (str, os.PathLike)):
        names = [names]
    if not isinstance(names, Sequence) or not all(isinstance(name, (str, os.PathLike)) for name in names) or not names:
        raise InputError(
            f'forcefield must be a list of names; got {names!r}: pass e.g. ["amber14-all.xml", "implicit/obc2.xml"]'
        )
    files = [str(file) for file in forcefield_files(names, trust=trust)]
    title = ", ".join(map(str, names))
    try:
        forcefield = app.ForceField(*files)
    except Exception as error:  # OpenMM raises ValueError, KeyError and bare Exception alike, here and below
        raise InputError(
            f"{title} must be force-field files that OpenMM can read; got {error}: correct the file"
        ) from error
    try:
        system: openmm.System = forcefield.createSystem(
            topology, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False, removeCMMotion=False
        )
    except Exception as error:
        message = " ".join(str(error).split()).partition(" For more information")[0]
        raise InputError(
            f"every residue of {source} must be described by {title}; OpenMM says {message!r}: {_remedy(message)}"
        ) from error
    return system


def forcefield_files(names: Sequence[str | os.PathLike[str]], *, trust: bool = False) -> list[Path]:
    """Full paths, so that no file of the same name in the working directory takes the place of a shipped one.

    Raises:
        InputError: for an unknown name, or a file that is not trusted.
    """
    return [_locate(name, trust) for name in names]


def _locate(name: str | os.PathLike[str], trust: bool) -> Path:
    shipped = (_SHIPPED / name).resolve()
    if shipped.is_file() and shipped.is_relative_to(_SHIPPED.resolve()):
        return shipped
    if trust:
        return readable_file(name, "a force-field file").resolve()
    if Path(name).exists():
        raise InputError(
            f"forcefield must name files shipped with OpenMM; got {os.fspath(name)!r}, which can contain scripts "
            "that are executed: pass trust_forcefield=True if you trust it as you would trust a program"
        )
    names = sorted(path.relative_to(_SHIPPED).as_posix() for path in _SHIPPED.rglob("*.xml"))
    close = [known for known in names if Path(known).name == Path(name).name]
    close += get_close_matches(str(name), names, n=1, cutoff=0.6)
    remedy = f"did you mean {close[0]!r}?" if close else "OpenMM's user guide lists them, e.g. 'amber14-all.xml'"
    raise InputError(f"forcefield must name files shipped with OpenMM; got {os.fspath(name)!r}: {remedy}")


def _remedy(message: str) -> str:
    if "missing" in message and ("hydrogen" in message.lower() or " H atom" in message):
        return "add the hydrogens with openmm.app.Modeller.addHydrogens(forcefield) or pdbfixer"
    if "is missing" in message:
        return "add the missing atoms with pdbfixer"
    if "no bonds between its atoms" in message:
        return "give it the name of the residue that it is, or add CONECT records"
    return (
        "choose a force field that knows it, or have another tool write a system.xml for Molecule.from_xml or a folder "
        "of your own, as docs/your_molecule.md shows"
    )
