"""Harmonic bonds."""

from __future__ import annotations

import numpy as np
import openmm
from torch import Tensor

from .force import Force, numbers
from .geometry import Frames, length

__all__ = ["HarmonicBonds"]


class HarmonicBonds(Force):
    """U = Σ ½ k (r − r₀)²."""

    def __init__(self, force: openmm.HarmonicBondForce) -> None:
        super().__init__()
        bonds = np.array([numbers(force.getBondParameters(b)) for b in range(force.getNumBonds())]).reshape(-1, 4)
        self.constants(atoms=bonds[:, :2].T.astype(np.int64), length=bonds[:, 2:3], stiffness=bonds[:, 3:4])

    def forward(self, frames: Frames) -> Tensor:
        rest, stiffness = self.read(frames.dtype, "length", "stiffness")
        return 0.5 * (stiffness * (length(frames.vectors(*self.atoms)) - rest).square()).sum(0)
