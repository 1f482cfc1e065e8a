"""`GBSAOBCForce`: OBC II with the ACE surface term, OpenMM's built-in generalized Born."""

from __future__ import annotations

import math

import numpy as np
import openmm

from .born import GeneralizedBorn
from .force import numbers
from .nonbonded import COULOMB, require_no_cutoff

__all__ = ["obc_born"]

_OFFSET = 0.009  # nm; this and the probe are fixed inside OpenMM
_PROBE = 0.14


def obc_born(force: openmm.GBSAOBCForce) -> GeneralizedBorn:
    """The force as a `GeneralizedBorn`."""
    require_no_cutoff(force)
    particles = np.array([numbers(force.getParticleParameters(i)) for i in range(force.getNumParticles())])
    charge, radius, scale = particles.reshape(-1, 3).T
    (tension,) = numbers([force.getSurfaceAreaEnergy()])
    return GeneralizedBorn(
        charge,
        offset_radius=radius - _OFFSET,
        scaled_radius=scale * (radius - _OFFSET),
        radius=radius,
        surface=4 * math.pi * tension * (radius + _PROBE) ** 2 * radius**6,
        polar=COULOMB * (1 / force.getSoluteDielectric() - 1 / force.getSolventDielectric()),
        rescaling=(1.0, 0.8, 4.85),
        engulfing=True,
    )
