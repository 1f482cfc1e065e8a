"""Where a training comes from: what was chosen for it where nobody said, and the hashes of all it was made of."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .targets import files_of

if TYPE_CHECKING:
    from ..generator import BoltzmannGenerator
    from ..molecule import Molecule
    from ..molecule.systems import System
    from .settings import Settings

__all__ = ["origin", "sha256"]


def origin(settings: Settings, target: Molecule | System, generator: BoltzmannGenerator) -> dict[str, Any]:
    """What a run folder remembers of a training besides what it was told.

    Returns:
        Plain data: under "resolved" the force field, temperature and device that hold; under "fingerprint" the hashes
        of the molecule with all its parameters and of the generator, flow included; under "sha256" those of the files.
    """
    from ..molecule.forcefield import DEFAULT_FORCEFIELD, forcefield_files
    from ..molecule.systems import System

    if isinstance(target, System):
        forcefield = list(target.forcefield)
        files = [target.folder / "system.toml"]
        files += [] if target.toy is not None else [target.structure]
        files += [] if target.system is None else [target.system]
        files += forcefield_files(forcefield)
    else:
        forcefield, files = settings.forcefield or [], files_of(settings.system)
        if len(files) == 1:
            forcefield = forcefield or list(DEFAULT_FORCEFIELD)
            files += forcefield_files(forcefield)
    files += [Path(file) for file in settings.data or []]
    files += [] if settings.weights is None else [Path(settings.weights)]
    molecule = generator.molecule
    return {
        "resolved": {
            "forcefield": forcefield or None,
            "temperature": generator.temperature,
            "device": str(next(generator.flow.parameters()).device),
        },
        "fingerprint": {
            "molecule": None if molecule is None else molecule.fingerprint,
            "generator": generator.fingerprint,
        },
        "sha256": {str(file.absolute()): sha256(file) for file in files},
    }


def sha256(file: str | os.PathLike[str]) -> str:
    """The hash of a file, read piece by piece."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
