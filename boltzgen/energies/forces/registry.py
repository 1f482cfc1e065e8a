"""Which force of OpenMM is compiled by what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openmm

from ...errors import UnsupportedSystemError
from .angles import HarmonicAngles
from .bonds import HarmonicBonds
from .custom_born import custom_born
from .force import Force
from .gbsa_obc import obc_born
from .nonbonded import NonbondedPairs
from .torsions import PeriodicTorsions

__all__ = ["COMPILERS", "compile_force", "named_forces"]

COMPILERS: dict[type[openmm.Force], Callable[[Any], Force]] = {
    openmm.HarmonicBondForce: HarmonicBonds,
    openmm.HarmonicAngleForce: HarmonicAngles,
    openmm.PeriodicTorsionForce: PeriodicTorsions,
    openmm.NonbondedForce: NonbondedPairs,
    openmm.GBSAOBCForce: obc_born,
    openmm.CustomGBForce: custom_born,
}
"""The class or function that turns a force of each kind into torch."""


def compile_force(force: openmm.Force) -> Force:
    """The force in torch.

    Raises:
        UnsupportedSystemError: if forces of its kind, or what it contains, are not known.
    """
    if type(force) not in COMPILERS:
        known = ", ".join(sorted(kind.__name__ for kind in COMPILERS))
        raise UnsupportedSystemError(
            f"{force.getName()} must be one of {known} to run in torch; got {type(force).__name__}: "
            'use backend="openmm"'
        )
    return COMPILERS[type(force)](force)


def named_forces(system: openmm.System) -> dict[str, openmm.Force]:
    """The forces that are energies, by names made unique by a number."""
    named: dict[str, openmm.Force] = {}
    for force in system.getForces():
        if not isinstance(force, openmm.CMMotionRemover):
            name, count = force.getName(), 1
            while name in named:
                count += 1
                name = f"{force.getName()} {count}"
            named[name] = force
    return named
