"""The OpenMM platforms of this installation."""

from __future__ import annotations

import openmm

__all__ = ["platforms"]


def platforms() -> tuple[list[str], list[str]]:
    """Names of the platforms OpenMM can use here, slowest first, and why plugins could not be loaded.

    Example:
        >>> platforms()[0][0]
        'Reference'
    """
    found = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    return found, list(openmm.Platform.getPluginLoadFailures())
