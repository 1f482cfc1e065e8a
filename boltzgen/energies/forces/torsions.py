"""Torsions by the cosine of the dihedral: all periodic terms of one quadruple as one Fourier series, and powers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import openmm
import torch
from torch import Tensor

from .force import BondedForce, numbers
from .geometry import cross, dot, length, positive

__all__ = ["PeriodicTorsions", "RyckaertBellemansTorsions"]

_ROUNDED = 1e-10  # what is left of sin φ₀ when a force field writes π with a dozen digits


class _Torsions(BondedForce):
    """U = Σ f(φ), φ the dihedral along the bonds a, b, c; a subclass writes `_series`.

    With m = a × b and n = b × c, ∂φ/∂a = |b| m/|m|², ∂φ/∂c = |b| n/|n|², and ∂φ/∂b = −(a·b/|b|) m/|m|² −
    (b·c/|b|) n/|n|². Where three atoms are in line there is no dihedral, and cos φ = sin φ = 0.

    References:
        Blondel & Karplus (1996), J. Comput. Chem. 17, 1132.
    """

    @abstractmethod
    def _series(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """f of each term, (n_terms, n), and a function that gives ∂f/∂φ."""

    def evaluate(self, vectors: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        before, after, middle = vectors[:, :2], vectors[:, 1:], length(vectors[:, 1])
        normals = cross(before, after)  # m and n
        squares = dot(normals, normals)
        there = squares.amin(1).sign()  # 0 where there is no dihedral; cheaper than torch.where
        inverse = positive(squares).rsqrt() * there[:, None]
        units = inverse[:, :, None] * normals
        cosine, sine = dot(units[:, 0], units[:, 1]), dot(vectors[:, 0], units[:, 1]) * middle * inverse[:, 0]
        u, slope = self._series(cosine, sine)

        def slopes() -> Tensor:
            turns = (slope()[:, None] * inverse)[:, :, None] * units  # ∂f/∂φ m/|m|² and ∂f/∂φ n/|n|²
            outer = middle[:, None, None] * turns
            inner = ((dot(before, after) / middle[:, None])[:, :, None] * turns).sum(1, keepdim=True)
            return torch.cat([outer[:, :1], -inner, outer[:, 1:]], 1)

        return u.sum(0), slopes


class PeriodicTorsions(_Torsions):
    """U = Σ k (1 + cos(m φ − φ₀)) = Σ_quadruples Σ_m a_m cos mφ + b_m sin mφ.

    The series is summed from cos φ and sin φ by Clenshaw's recurrence: no angle is computed.
    """

    def __init__(self, force: openmm.PeriodicTorsionForce) -> None:
        super().__init__()
        terms = [numbers(force.getTorsionParameters(t)) for t in range(force.getNumTorsions())]
        columns: dict[tuple[int, ...], int] = {}
        for *atoms, _, _, _ in terms:
            columns.setdefault(_ordered(atoms), len(columns))
        cosines = np.zeros((1 + max((m for *_, m, _, _ in terms if m > 2), default=2), len(columns), 1))
        sines = np.zeros_like(cosines)
        for *atoms, m, phase, k in terms:
            column = columns[_ordered(atoms)]
            cosines[0, column] += k
            cosines[m, column] += k * math.cos(phase)
            sines[m, column] += k * math.sin(phase) if abs(math.sin(phase)) > _ROUNDED else 0.0
        quadruples = np.array(list(columns), dtype=np.int64).reshape(-1, 4).T
        self.between(quadruples[1:], quadruples[:-1])
        orders = np.arange(len(cosines))[:, None, None]
        self.constants(cosines=cosines, sines=sines, cosine_slopes=orders * cosines, sine_slopes=orders * sines)
        self._odd = bool(sines.any())

    def _series(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        cosines, sines = self.read(cosine.dtype, "cosines", "sines")
        twice = 2 * cosine
        first, second = _clenshaw(cosines, twice)
        u = torch.addcmul(cosines[0], cosine, first) - second
        if self._odd:
            u = torch.addcmul(u, sine, _clenshaw(sines, twice)[0])

        def slope() -> Tensor:
            cosines, sines = self.read(cosine.dtype, "cosine_slopes", "sine_slopes")
            found = -sine * _clenshaw(cosines, twice)[0]
            if self._odd:
                first, second = _clenshaw(sines, twice)
                found = torch.addcmul(found, cosine, first) - second
            return found

        return u, slope


class RyckaertBellemansTorsions(_Torsions):
    """U = Σ Σ_m C_m cos^m ψ, m = 0 … 5, with ψ = φ − 180° (0 in trans)."""

    def __init__(self, force: openmm.RBTorsionForce) -> None:
        super().__init__()
        terms = np.array([numbers(force.getTorsionParameters(t)) for t in range(force.getNumTorsions())])
        terms = terms.reshape(-1, 10)
        quadruples, powers = terms[:, :4].T, terms[:, 4:].T[..., None]
        self.between(quadruples[1:], quadruples[:-1])
        self.constants(powers=powers, slopes=np.arange(1, 6)[:, None, None] * powers[1:])

    def _series(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        powers, slopes = self.read(cosine.dtype, "powers", "slopes")
        return _horner(powers, -cosine), lambda: sine * _horner(slopes, -cosine)


def _ordered(atoms: list[int]) -> tuple[int, ...]:
    """A quadruple read from the end that makes its middle atoms ascend: the dihedral is the same from either end."""
    return tuple(atoms if atoms[1] < atoms[2] else atoms[::-1])


def _clenshaw(coefficients: Tensor, twice: Tensor) -> tuple[Tensor, Tensor]:
    """y₁, y₂ of y_m = c_m + 2 cos φ y_{m+1} − y_{m+2}; Σ c_m cos mφ = c₀ + y₁ cos φ − y₂, Σ c_m sin mφ = y₁ sin φ."""
    *lower, second = coefficients[1:].unbind(0)
    first = torch.addcmul(lower.pop(), twice, second)
    for c in reversed(lower):
        first, second = torch.addcmul(c, twice, first) - second, first
    return first, second


def _horner(coefficients: Tensor, x: Tensor) -> Tensor:
    """Σ c_m x^m."""
    found = torch.zeros_like(x)
    for c in reversed(coefficients.unbind(0)):
        found = torch.addcmul(c, found, x)
    return found
