"""Periodic torsions, grouped by quadruple into one Fourier series of the dihedral."""

from __future__ import annotations

import math

import numpy as np
import openmm
from torch import Tensor

from .force import Force
from .geometry import Frames, cross, dot, positive

__all__ = ["PeriodicTorsions"]


class PeriodicTorsions(Force):
    """U = Σ k (1 + cos(m φ − φ₀)), all terms of one quadruple summed as Σ_m a_m cos mφ + b_m sin mφ.

    The series is evaluated in cos φ and sin φ by Clenshaw's recurrence: one dihedral per quadruple and no
    inverse trigonometric function.
    """

    def __init__(self, force: openmm.PeriodicTorsionForce) -> None:
        super().__init__()
        terms = [force.getTorsionParameters(t) for t in range(force.getNumTorsions())]
        order = max((t[4] for t in terms), default=0)
        quadruples: dict[tuple[int, ...], int] = {}
        series = np.zeros((2, order + 1, len(terms), 1))
        for *atoms, m, phase, k in terms:
            key = tuple(atoms if atoms[1] < atoms[2] else atoms[::-1])
            q = quadruples.setdefault(key, len(quadruples))
            cosine, sine = math.cos(phase._value), math.sin(phase._value)
            series[0, 0, q] += k._value
            series[0, m, q] += k._value * cosine
            series[1, m, q] += k._value * (sine if abs(sine) > 1e-10 else 0.0)  # a phase of π is not exactly π
        atoms = np.array(list(quadruples), dtype=np.int64).reshape(-1, 4)
        self.constants(
            i=atoms[:, 0], j=atoms[:, 1], k=atoms[:, 2], l=atoms[:, 3],
            cosines=series[0, :, : len(atoms)], sines=series[1, :, : len(atoms)],
        )  # fmt: skip
        self._odd = bool(series[1].any())

    def forward(self, frames: Frames) -> Tensor:
        a, b, c = frames.vectors(self.j, self.i), frames.vectors(self.k, self.j), frames.vectors(self.l, self.k)
        ab, bc = cross(a, b), cross(b, c)
        inverse = positive(dot(ab, ab)).rsqrt() * positive(dot(bc, bc)).rsqrt()
        cosine = dot(ab, bc) * inverse
        cosines, sines = self.read(frames.dtype, "cosines", "sines")
        first, second = _clenshaw(cosines, cosine)
        u = cosines[0] + cosine * first - second
        if self._odd:
            sine = dot(a, bc) * dot(b, b).sqrt() * inverse
            u = u + sine * _clenshaw(sines, cosine)[0]
        return u.sum(0)


def _clenshaw(coefficients: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
    """b₁ and b₂ of b_m = c_m + 2 cos φ b_{m+1} − b_{m+2}."""
    double = 2 * cosine
    first = second = cosine.new_zeros(())
    for c in reversed(coefficients[1:].unbind(0)):
        first, second = c + double * first - second, first
    return first, second
