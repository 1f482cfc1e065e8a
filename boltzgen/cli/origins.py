"""Where a training or a simulation comes from: what was chosen where nobody said, and the hashes of its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .targets import files_of

if TYPE_CHECKING:
    from ..molecule import Molecule
    from ..molecule.systems import System

__all__ = ["origin", "sha256"]


def origin(
    settings: Mapping[str, Any], target: Molecule | System, resolved: Mapping[str, Any], fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run folder remembers of its work.

    Arguments:
        settings: what the command was told, as plain data.
        target: what it is about.
        resolved: temperature, device and the like, as they hold.
        fingerprint: hashes of the molecule with all its parameters, and of what else there is.

    Returns:
        Plain data: "system", "settings", "resolved" with the force field, "fingerprint", and under "sha256" the hashes
        of the files that it names, of what these include none.
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
        forcefield, files = settings["forcefield"] or [], files_of(settings["system"])
        if len(files) == 1:
            forcefield = forcefield or list(DEFAULT_FORCEFIELD)
            files += forcefield_files(forcefield)
    files += [Path(file) for file in settings.get("data") or []]
    files += [] if settings.get("weights") is None else [Path(settings["weights"])]
    return {
        "system": target.name,
        "settings": dict(settings),
        "resolved": {"forcefield": forcefield or None, **resolved},
        "fingerprint": dict(fingerprint),
        "sha256": {str(file.absolute()): sha256(file) for file in files},
    }


def sha256(file: str | os.PathLike[str]) -> str:
    """The hash of a file, read piece by piece."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
