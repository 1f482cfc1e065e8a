"""Harmonic angles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openmm
import torch
from torch import Tensor

from .force import BondedForce, numbers
from .geometry import cross, dot, length, positive

__all__ = ["HarmonicAngles"]


class HarmonicAngles(BondedForce):
    """U = Σ ½ k (θ − θ₀)², θ between a = x_i − x_j and b = x_k − x_j.

    With c = a × b, ∂θ/∂a = a × c/(|a|² |c|) and ∂θ/∂b = −b × c/(|b|² |c|), which count as 0 where θ is 0 or π.
    """

    def __init__(self, force: openmm.HarmonicAngleForce) -> None:
        super().__init__()
        angles = np.array([numbers(force.getAngleParameters(a)) for a in range(force.getNumAngles())]).reshape(-1, 5)
        i, j, k = angles[:, :3].T
        self.between(np.stack([i, k]), np.stack([j, j]))
        self.constants(angle=angles[:, 3:4], stiffness=angles[:, 4:5], side=np.array([[1.0], [-1.0]]))

    def evaluate(self, vectors: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        rest, stiffness, side = self.read(vectors.dtype, "angle", "stiffness", "side")
        a, b = vectors.unbind(1)
        c = cross(a, b)
        area = length(c)
        bend = torch.atan2(area, dot(a, b)) - rest
        pull = stiffness * bend

        def slopes() -> Tensor:
            turns = cross(vectors, (c / area[:, None])[:, None]) / positive(dot(vectors, vectors))[:, :, None]
            return (pull[:, None] * side)[:, :, None] * turns

        return 0.5 * (pull * bend).sum(0), slopes
