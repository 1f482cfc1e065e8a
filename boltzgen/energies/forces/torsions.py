"""Torsions by the cosine of the dihedral: all periodic terms of one quadruple as one Fourier series, and powers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import openmm
import torch
from torch import Tensor

from .force import Force, numbers
from .geometry import Frames, dihedral

__all__ = ["PeriodicTorsions", "RyckaertBellemansTorsions"]

_ROUNDED = 1e-10  # what is left of sin φ₀ when a force field writes π with a dozen digits


class PeriodicTorsions(Force):
    """U = Σ k (1 + cos(m φ − φ₀)) = Σ_quadruples Σ_m a_m cos mφ + b_m sin mφ.

    The series is summed from cos φ and sin φ by Clenshaw's recurrence: no angle is computed, and no sine unless some
    φ₀ is other than 0 and π. Where three atoms are in line there is no dihedral, and cos φ = sin φ = 0.
    """

    def __init__(self, force: openmm.PeriodicTorsionForce) -> None:
        super().__init__()
        terms = [numbers(force.getTorsionParameters(t)) for t in range(force.getNumTorsions())]
        columns: dict[tuple[int, ...], int] = {}
        for *atoms, _, _, _ in terms:
            columns.setdefault(_ordered(atoms), len(columns))
        cosines = np.zeros((1 + max((m for *_, m, _, _ in terms), default=0), len(columns), 1))
        sines = np.zeros_like(cosines)
        for *atoms, m, phase, k in terms:
            column = columns[_ordered(atoms)]
            cosines[0, column] += k
            cosines[m, column] += k * math.cos(phase)
            sines[m, column] += k * math.sin(phase) if abs(math.sin(phase)) > _ROUNDED else 0.0
        quadruples = np.array(list(columns), dtype=np.int64).reshape(-1, 4)
        self.constants(atoms=quadruples.T, cosines=cosines, sines=sines)
        self._odd = bool(sines.any())

    def forward(self, frames: Frames) -> Tensor:
        cosines, sines = self.read(frames.dtype, "cosines", "sines")
        a, b, c = (frames.vectors(second, first) for first, second in pairwise(self.atoms))
        cosine, sine = dihedral(a, b, c)
        first, second = _clenshaw(cosines, cosine)
        u = cosines[0] + cosine * first - second
        if self._odd:
            u = u + sine * _clenshaw(sines, cosine)[0]
        return u.sum(0)


class RyckaertBellemansTorsions(Force):
    """U = Σ Σ_m C_m cos^m ψ, m = 0 … 5, with ψ = φ − 180° (0 in trans)."""

    def __init__(self, force: openmm.RBTorsionForce) -> None:
        super().__init__()
        terms = np.array([numbers(force.getTorsionParameters(t)) for t in range(force.getNumTorsions())])
        terms = terms.reshape(-1, 10)
        self.constants(atoms=terms[:, :4].T.astype(np.int64), powers=terms[:, 4:].T[..., None])

    def forward(self, frames: Frames) -> Tensor:
        (powers,) = self.read(frames.dtype, "powers")
        a, b, c = (frames.vectors(second, first) for first, second in pairwise(self.atoms))
        cosine = -dihedral(a, b, c)[0]
        u = torch.zeros_like(cosine)
        for C in powers.flip(0):
            u = u * cosine + C
        return u.sum(0)


def _ordered(atoms: list[int]) -> tuple[int, ...]:
    """A quadruple read from the end that makes its middle atoms ascend: the dihedral is the same from either end."""
    return tuple(atoms if atoms[1] < atoms[2] else atoms[::-1])


def _clenshaw(coefficients: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
    """y₁, y₂ of y_m = c_m + 2 cos φ y_{m+1} − y_{m+2}; Σ c_m cos mφ = c₀ + y₁ cos φ − y₂, Σ c_m sin mφ = y₁ sin φ."""
    first = second = torch.zeros_like(cosine)
    for c in reversed(coefficients[1:].unbind(0)):
        first, second = c + 2 * cosine * first - second, first
    return first, second
