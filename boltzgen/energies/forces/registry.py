"""Which OpenMM force is compiled by what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openmm

from .angles import HarmonicAngles
from .bonds import HarmonicBonds
from .custom_born import custom_born
from .force import Force
from .gbsa_obc import obc_born
from .nonbonded import NonbondedPairs
from .torsions import PeriodicTorsions

__all__ = ["COMPILERS", "IGNORED"]

COMPILERS: dict[type, Callable[[Any], Force]] = {
    openmm.HarmonicBondForce: HarmonicBonds,
    openmm.HarmonicAngleForce: HarmonicAngles,
    openmm.PeriodicTorsionForce: PeriodicTorsions,
    openmm.NonbondedForce: NonbondedPairs,
    openmm.GBSAOBCForce: obc_born,
    openmm.CustomGBForce: custom_born,
}
"""What turns an OpenMM force of each kind into torch."""

IGNORED: frozenset[type] = frozenset({openmm.CMMotionRemover})
"""What a System may hold that is no energy."""
