"""Harmonic bonds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openmm
from torch import Tensor

from .force import BondedForce, numbers
from .geometry import length

__all__ = ["HarmonicBonds"]


class HarmonicBonds(BondedForce):
    """U = Σ ½ k (r − r₀)²."""

    def __init__(self, force: openmm.HarmonicBondForce) -> None:
        super().__init__()
        bonds = np.array([numbers(force.getBondParameters(b)) for b in range(force.getNumBonds())]).reshape(-1, 4)
        self.between(bonds[:, 0:1].T, bonds[:, 1:2].T)
        self.constants(length=bonds[:, 2:3], stiffness=bonds[:, 3:4])

    def evaluate(self, vectors: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        rest, stiffness = self.read(vectors.dtype, "length", "stiffness")
        r = length(vectors[:, 0])
        stretch = r - rest
        pull = stiffness * stretch
        return 0.5 * (pull * stretch).sum(0), lambda: (pull / r)[:, None, None] * vectors
