"""Harmonic angles."""

from __future__ import annotations

import numpy as np
import openmm
import torch
from torch import Tensor

from .force import Force, numbers
from .geometry import Frames, cross, dot, positive

__all__ = ["HarmonicAngles"]


class HarmonicAngles(Force):
    """U = Σ ½ k (θ − θ₀)², θ = atan2(|a × b|, a·b) between a = x_i − x_j and b = x_k − x_j.

    Unlike the arc cosine, atan2 keeps its digits near 0 and π; at exactly 0 and π the gradient is 0.
    """

    def __init__(self, force: openmm.HarmonicAngleForce) -> None:
        super().__init__()
        angles = np.array([numbers(force.getAngleParameters(a)) for a in range(force.getNumAngles())]).reshape(-1, 5)
        self.constants(atoms=angles[:, :3].T.astype(np.int64), angle=angles[:, 3:4], stiffness=angles[:, 4:5])

    def forward(self, frames: Frames) -> Tensor:
        angle, stiffness = self.read(frames.dtype, "angle", "stiffness")
        i, j, k = self.atoms
        a, b = frames.vectors(i, j), frames.vectors(k, j)
        c = cross(a, b)
        theta = torch.atan2(positive(dot(c, c)).sqrt(), dot(a, b))
        return 0.5 * (stiffness * (theta - angle).square()).sum(0)
