"""What a command is about: the molecule or toy meant by a name, a folder or a PDB file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .printing import say

if TYPE_CHECKING:
    from ..molecule import Molecule
    from ..molecule.systems import System

__all__ = ["target_of"]


def target_of(system: str, forcefield: list[str] | None) -> Molecule | System:
    """The molecule of a PDB file, or the system of a name or folder.

    Raises:
        ConfigurationError: if a force field is given for what brings its own.
        InputError: if there is no such thing.
    """
    from ..molecule import Molecule
    from ..molecule.forcefield import DEFAULT_FORCEFIELD
    from ..molecule.systems import find

    if system.lower().endswith((".pdb", ".ent")):
        forcefield = forcefield or list(DEFAULT_FORCEFIELD)
        molecule = Molecule.from_pdb(system, forcefield)
        say(f"{system} with {' '.join(forcefield)}")
        return molecule
    if forcefield is not None:
        raise ConfigurationError(
            f"--forcefield must come with a PDB file (.pdb, .ent); got it with {system}, which brings its own: leave "
            "it out"
        )
    return find(system)
