"""Which force of OpenMM is compiled by what."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openmm
from numpy.typing import NDArray

from ...errors import UnsupportedSystemError
from .angles import HarmonicAngles
from .bonds import HarmonicBonds
from .cmap import CorrectionMaps
from .custom_gb import generalized_born
from .custom_pairs import CustomPairs
from .custom_terms import (
    custom_angles,
    custom_bonds,
    custom_centroids,
    custom_compounds,
    custom_external,
    custom_torsions,
)
from .force import Force
from .gbsa_obc import obc_born
from .reaction_field import nonbonded_pairs
from .torsions import PeriodicTorsions, RyckaertBellemansTorsions

__all__ = ["COMPILERS", "compile_force", "named_forces", "particle_masses"]

COMPILERS: dict[type[openmm.Force], Callable[..., Force]] = {
    openmm.HarmonicBondForce: HarmonicBonds,
    openmm.HarmonicAngleForce: HarmonicAngles,
    openmm.PeriodicTorsionForce: PeriodicTorsions,
    openmm.RBTorsionForce: RyckaertBellemansTorsions,
    openmm.CMAPTorsionForce: CorrectionMaps,
    openmm.NonbondedForce: nonbonded_pairs,
    openmm.GBSAOBCForce: obc_born,
    openmm.CustomGBForce: generalized_born,
    openmm.CustomBondForce: custom_bonds,
    openmm.CustomAngleForce: custom_angles,
    openmm.CustomTorsionForce: custom_torsions,
    openmm.CustomExternalForce: custom_external,
    openmm.CustomCompoundBondForce: custom_compounds,
    openmm.CustomCentroidBondForce: custom_centroids,
    openmm.CustomNonbondedForce: CustomPairs,
}
"""The class or function that turns a force of each kind into torch."""


def compile_force(force: openmm.Force, masses: NDArray[np.float64]) -> Force:
    """The force in torch.

    Arguments:
        force: of a System.
        masses: of the System's particles, which weigh the centres of a `CustomCentroidBondForce`.

    Raises:
        UnsupportedSystemError: if forces of its kind, or what it contains, are not known.
    """
    if type(force) not in COMPILERS:
        known = ", ".join(sorted(kind.__name__ for kind in COMPILERS))
        raise UnsupportedSystemError(
            f"{force.getName()} must be one of {known} to run in torch; got {type(force).__name__}: "
            'use backend="openmm"'
        )
    arguments = (force, masses) if isinstance(force, openmm.CustomCentroidBondForce) else (force,)
    try:
        return COMPILERS[type(force)](*arguments)
    except UnsupportedSystemError as error:
        if str(error).startswith(force.getName()):
            raise
        raise UnsupportedSystemError(f"{force.getName()}: {error}") from None


def particle_masses(system: openmm.System) -> NDArray[np.float64]:
    """Mass of each particle in Da, (n_atoms,)."""
    return np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())], dtype=np.float64)


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
