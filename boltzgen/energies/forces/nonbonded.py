"""Lennard-Jones and Coulomb interactions of all pairs, without cutoff, exceptions included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openmm
from torch import Tensor

from ...errors import UnsupportedSystemError
from .force import Force
from .geometry import Frames
from .gradient import evaluate

__all__ = ["COULOMB", "NonbondedPairs", "require_no_cutoff"]

COULOMB = 138.93545764438198
"""1/(4π ε₀) in kJ nm/(mol e²), as OpenMM has it."""


class NonbondedPairs(Force):
    """U = Σ_{i<j} 4 ε [(σ/r)¹² − (σ/r)⁶] + q_i q_j/(4π ε₀ r), an exception replacing its pair's ε, σ and q_i q_j."""

    def __init__(self, force: openmm.NonbondedForce) -> None:
        super().__init__()
        require_no_cutoff(force)
        if force.getNumParticleParameterOffsets() or force.getNumExceptionParameterOffsets():
            raise UnsupportedSystemError(
                f'{force.getName()} must have no parameter offsets; got some: use backend="openmm"'
            )
        n = force.getNumParticles()
        q, sigma, epsilon = np.array(
            [[v._value for v in force.getParticleParameters(i)] for i in range(n)]
        ).reshape(n, 3).T  # fmt: skip
        charge, size, depth = np.outer(q, q), np.add.outer(sigma, sigma) / 2, np.sqrt(np.outer(epsilon, epsilon))
        for e in range(force.getNumExceptions()):
            i, j, *parameters = force.getExceptionParameters(e)
            for table, value in zip((charge, size, depth), parameters, strict=True):
                table[i, j] = table[j, i] = value._value
        i, j = np.triu_indices(n, 1)
        charge, size, depth = charge[i, j, None], size[i, j, None], depth[i, j, None]
        self.constants(charge=COULOMB * charge, size=np.where(depth > 0, size, 0.0) ** 6, depth=4 * depth)

    def forward(self, frames: Frames) -> Tensor:
        return evaluate(self._evaluate, frames.distances())

    def _evaluate(self, r: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        charge, size, depth = self.read(r.dtype, "charge", "size", "depth")
        inverse = 1 / r
        s = size * (inverse * inverse) ** 3
        coulomb = charge * inverse
        u = (depth * s * (s - 1) + coulomb).sum(0)
        return u, lambda: -inverse * (depth * s * (12 * s - 6) + coulomb)


def require_no_cutoff(force: Any) -> None:
    """Refuse a force that neglects distant pairs."""
    if force.getNonbondedMethod() != type(force).NoCutoff:
        raise UnsupportedSystemError(
            f"{force.getName()} must use NoCutoff; got a cutoff: create the System with nonbondedMethod=NoCutoff "
            'or use backend="openmm"'
        )
