"""What a command is about: the molecule or toy meant by a name, a folder, or a molecule's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, InputError
from .printing import say

if TYPE_CHECKING:
    from ..molecule import Molecule
    from ..molecule.systems import System

__all__ = ["AMBER", "PDB", "TOPOLOGIES", "files_of", "target_of"]

PDB = (".pdb", ".ent")
AMBER = (".prmtop", ".parm7")
TOPOLOGIES = dict.fromkeys(AMBER, (".inpcrd", ".rst7")) | {".top": (".gro",)}
"""Endings of topologies with parameters, AMBER's and GROMACS's, and those of the positions beside them."""


def target_of(system: str, forcefield: list[str] | None) -> Molecule | System:
    """The molecule of a PDB file or of a topology with positions beside it, or the system of a name or folder.

    Raises:
        ConfigurationError: if a force field is given for what brings its own.
        InputError: if there is no such thing.
    """
    from ..molecule import Molecule
    from ..molecule.forcefield import DEFAULT_FORCEFIELD
    from ..molecule.systems import find

    files = files_of(system)
    if len(files) == 1:
        forcefield = forcefield or list(DEFAULT_FORCEFIELD)
        molecule = Molecule.from_pdb(system, forcefield)
        say(f"{system} with {' '.join(forcefield)}")
        return molecule
    amber = system.lower().endswith(AMBER)
    if forcefield is not None and not amber:
        raise ConfigurationError(
            f"--forcefield must come with a PDB file (.pdb, .ent), or be a solvent for AMBER's; got it with {system}, "
            "which brings its own: leave it out"
        )
    if amber:
        solvent = " ".join(forcefield) if forcefield else None
        molecule = Molecule.from_amber(*files, implicit_solvent=solvent)
        say(f"{system} with {files[1]}, {solvent or 'in vacuum'}")
        return molecule
    if files:
        molecule = Molecule.from_gromacs(*files)
        say(f"{system} with {files[1]}")
        return molecule
    path = Path(system)
    if path.is_file() and path.suffix.lower() != ".toml":
        raise InputError(
            f"a molecule's file must end in {', '.join((*PDB, *TOPOLOGIES))}; got {system}: convert it, or read it in "
            "Python and write a folder with a system.toml, as docs/your_molecule.md shows for CHARMM's files"
        )
    return find(system)


def files_of(system: str) -> list[Path]:
    """A PDB file; or a topology and the positions beside it; nothing for a name or a folder.

    Raises:
        InputError: if a topology cannot be read, or has no positions beside it.
    """
    from ..molecule.pdb import readable_file

    path = Path(system)
    if system.lower().endswith(PDB):
        return [path]
    endings = TOPOLOGIES.get(path.suffix.lower())
    if endings is None:
        return []
    readable_file(path, "a topology")
    beside = [path.with_suffix(ending) for ending in endings]
    for positions in beside:
        if positions.is_file():
            return [path, positions]
    raise InputError(
        f"{path} must have its positions beside it; got no {' or '.join(map(str, beside))}: put them there"
    )
