"""Harmonic angles."""

from __future__ import annotations

import numpy as np
import openmm
from torch import Tensor

from .force import Force, numbers
from .geometry import Frames, angle

__all__ = ["HarmonicAngles"]


class HarmonicAngles(Force):
    """U = Σ ½ k (θ − θ₀)², θ between x_i − x_j and x_k − x_j."""

    def __init__(self, force: openmm.HarmonicAngleForce) -> None:
        super().__init__()
        angles = np.array([numbers(force.getAngleParameters(a)) for a in range(force.getNumAngles())]).reshape(-1, 5)
        self.constants(atoms=angles[:, :3].T.astype(np.int64), angle=angles[:, 3:4], stiffness=angles[:, 4:5])

    def forward(self, frames: Frames) -> Tensor:
        rest, stiffness = self.read(frames.dtype, "angle", "stiffness")
        i, j, k = self.atoms
        theta = angle(frames.vectors(i, j), frames.vectors(k, j))
        return 0.5 * (stiffness * (theta - rest).square()).sum(0)
