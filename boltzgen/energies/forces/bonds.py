"""Harmonic bonds, ½ k (r − r₀)²."""

from __future__ import annotations

import openmm
from torch import Tensor

from .force import Force
from .geometry import Frames, dot, positive

__all__ = ["HarmonicBonds"]


class HarmonicBonds(Force):
    """U = Σ ½ k (r − r₀)² over bonds."""

    def __init__(self, force: openmm.HarmonicBondForce) -> None:
        super().__init__()
        bonds = [force.getBondParameters(b) for b in range(force.getNumBonds())]
        self.constants(
            i=[b[0] for b in bonds],
            j=[b[1] for b in bonds],
            length=[[b[2]._value] for b in bonds],
            stiffness=[[b[3]._value] for b in bonds],
        )

    def forward(self, frames: Frames) -> Tensor:
        length, stiffness = self.read(frames.dtype, "length", "stiffness")
        d = frames.vectors(self.i, self.j)
        return (0.5 * stiffness * (positive(dot(d, d)).sqrt() - length).square()).sum(0)
