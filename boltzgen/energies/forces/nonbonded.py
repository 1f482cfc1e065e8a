"""Lennard-Jones and Coulomb interactions of all pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import UnsupportedSystemError
from .force import PairForce, numbers
from .geometry import all_pairs

__all__ = ["COULOMB", "NonbondedPairs", "pair_parameters", "require_no_cutoff"]

COULOMB = 138.93545764438198
"""1/(4π ε₀) in kJ nm/(mol e²), as OpenMM has it."""


class NonbondedPairs(PairForce):
    """U = Σ_{i<j} 4 ε [(σ/r)¹² − (σ/r)⁶] + q_i q_j/(4π ε₀ r).

    σ and ε follow the Lorentz-Berthelot rules; an exception has its own σ, ε and q_i q_j.
    """

    def __init__(self, force: openmm.NonbondedForce) -> None:
        super().__init__()
        charge, sigma, epsilon = pair_parameters(force)[0][..., None]
        size = np.where(epsilon > 0, sigma, 0.0) ** 6  # no 0·∞ where there is no Lennard-Jones term
        self.constants(charge=COULOMB * charge, size=size, depth=4 * epsilon)

    def evaluate(self, r: Tensor, inverse: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        charge, size, depth = self.read(r.dtype, "charge", "size", "depth")
        s = size * (inverse * inverse) ** 3
        attraction, coulomb = depth * s, charge * inverse
        u = torch.addcmul(coulomb, attraction, s - 1).sum(0)
        return u, lambda: -inverse * torch.addcmul(coulomb, attraction, 12 * s - 6)


def pair_parameters(force: openmm.NonbondedForce) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """q_i q_j, σ and ε of all pairs in the order of `all_pairs`, (3, n_pairs), and which of them are exceptions.

    Parameter offsets are added as the default values of their global parameters have it.
    """
    n_atoms = force.getNumParticles()
    scale = {
        force.getGlobalParameterName(g): force.getGlobalParameterDefaultValue(g)
        for g in range(force.getNumGlobalParameters())
    }
    particles = np.array([numbers(force.getParticleParameters(i)) for i in range(n_atoms)]).reshape(-1, 3)
    for k in range(force.getNumParticleParameterOffsets()):
        name, i, *offset = force.getParticleParameterOffset(k)
        particles[i] += scale[name] * np.array(offset)
    exceptions = np.array([numbers(force.getExceptionParameters(e)) for e in range(force.getNumExceptions())])
    exceptions = exceptions.reshape(-1, 5)
    for k in range(force.getNumExceptionParameterOffsets()):
        name, e, *offset = force.getExceptionParameterOffset(k)
        exceptions[e, 2:] += scale[name] * np.array(offset)
    charge, sigma, epsilon = particles.T
    parameters = np.stack(
        [
            np.multiply.outer(charge, charge),
            0.5 * np.add.outer(sigma, sigma),
            np.sqrt(np.multiply.outer(epsilon, epsilon)),
        ]
    )
    excepted = np.zeros((n_atoms, n_atoms), dtype=np.bool_)
    for i, j, *own in exceptions:
        for pair in ((int(i), int(j)), (int(j), int(i))):
            parameters[:, *pair] = own
            excepted[pair] = True
    i, j = all_pairs(n_atoms)
    return parameters[:, i, j], excepted[i, j]


def require_no_cutoff(force: Any) -> None:
    """Refusal of a force that neglects distant pairs.

    Raises:
        UnsupportedSystemError: naming the force.
    """
    if force.getNonbondedMethod() != type(force).NoCutoff:
        raise UnsupportedSystemError(
            f"{force.getName()} must use NoCutoff; got a cutoff: create the System with nonbondedMethod=NoCutoff, or "
            'use backend="openmm"'
        )
