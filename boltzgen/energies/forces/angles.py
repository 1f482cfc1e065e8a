"""Harmonic angles, ½ k (θ − θ₀)²."""

from __future__ import annotations

import openmm
import torch
from torch import Tensor

from .force import Force
from .geometry import Frames, cross, dot, positive

__all__ = ["HarmonicAngles"]


class HarmonicAngles(Force):
    """U = Σ ½ k (θ − θ₀)² over angles i–j–k, θ = atan2(|a × b|, a·b) ∈ [0, π]."""

    def __init__(self, force: openmm.HarmonicAngleForce) -> None:
        super().__init__()
        angles = [force.getAngleParameters(a) for a in range(force.getNumAngles())]
        self.constants(
            i=[a[0] for a in angles],
            j=[a[1] for a in angles],
            k=[a[2] for a in angles],
            angle=[[a[3]._value] for a in angles],
            stiffness=[[a[4]._value] for a in angles],
        )

    def forward(self, frames: Frames) -> Tensor:
        angle, stiffness = self.read(frames.dtype, "angle", "stiffness")
        a, b = frames.vectors(self.i, self.j), frames.vectors(self.k, self.j)
        c = cross(a, b)
        theta = torch.atan2(positive(dot(c, c)).sqrt(), dot(a, b))
        return (0.5 * stiffness * (theta - angle).square()).sum(0)
