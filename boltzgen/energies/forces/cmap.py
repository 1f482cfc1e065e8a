"""Correction maps: energies of two dihedrals, tabulated and interpolated by bicubic patches."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..expressions.tabulated import periodic_slopes
from .force import Force, numbers
from .geometry import Frames, dihedral_angle

__all__ = ["CorrectionMaps"]

_HERMITE = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [-3, 3, -2, -1], [2, -2, 1, 1]], dtype=np.float64)
"""Coefficients of 1, s, s², s³ from the values at s = 0 and 1 and the slopes there."""


class CorrectionMaps(Force):
    """U = Σ E(φ, ψ), E given at the points of a grid of 2π/N and bicubic between them.

    Each patch is Σ c_kl s^k t^l, with the values, slopes and mixed derivatives at its corners those of periodic cubic
    splines through the grid; so U has continuous forces. Where three atoms are in line, that dihedral counts as 0.

    References:
        MacKerell, Feig & Brooks (2004), J. Comput. Chem. 25, 1400.
    """

    start: Tensor
    size: Tensor

    def __init__(self, force: openmm.CMAPTorsionForce) -> None:
        super().__init__()
        torsions = np.array([force.getTorsionParameters(t) for t in range(force.getNumTorsions())], dtype=np.int64)
        torsions = torsions.reshape(-1, 9)
        patches, sizes, starts = [np.zeros((0, 16))], [], []
        for m in range(force.getNumMaps()):
            size, energies = force.getMapParameters(m)
            starts.append(sum(len(p) for p in patches))
            sizes.append(size)
            patches.append(_patches(np.array(numbers(energies)).reshape(size, size)))
        maps = torsions[:, 0]
        self.constants(
            atoms=torsions[:, 1:].T,
            start=np.array(starts, dtype=np.int64)[maps][:, None],
            size=np.array(sizes, dtype=np.int64)[maps][:, None],
            patches=np.concatenate(patches),
        )

    def forward(self, frames: Frames) -> Tensor:
        (patches,) = self.read(frames.dtype, "patches")
        (first, s), (second, t) = (self._place(frames, atoms) for atoms in (self.atoms[:4], self.atoms[4:]))
        c = patches[self.start + first + self.size * second]  # (n_torsions, n, 16)
        u = torch.zeros_like(s)
        for k in (3, 2, 1, 0):
            inner = ((c[..., 4 * k + 3] * t + c[..., 4 * k + 2]) * t + c[..., 4 * k + 1]) * t + c[..., 4 * k]
            u = u * s + inner
        return u.sum(0)

    def _place(self, frames: Frames, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """The interval of the grid that a dihedral is in, and where between its ends."""
        angle = dihedral_angle(*(frames.vectors(j, i) for i, j in pairwise(atoms)))
        place = angle * self.size / (2 * math.pi)
        place = torch.where(place < 0, place + self.size, place)
        interval = torch.nan_to_num(place.detach()).floor().clamp_min(0).minimum(self.size - 1)
        return interval.long(), place - interval


def _patches(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sixteen coefficients c_kl of each patch, by its first corner; the first angle runs along the last axis."""
    f = np.pad(energies.T, ((0, 1), (0, 1)), mode="wrap")  # [first, second]
    by_first = periodic_slopes(f)
    by_second = periodic_slopes(f.T).T
    mixed = periodic_slopes(by_second)
    low, high = slice(None, -1), slice(1, None)

    def corners(g: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([[g[low, low], g[low, high]], [g[high, low], g[high, high]]])

    values = np.concatenate([corners(f), corners(by_second)], axis=1)
    slopes = np.concatenate([corners(by_first), corners(mixed)], axis=1)
    data = np.concatenate([values, slopes])  # values and slopes at both ends, by the first angle and by the second
    c = np.einsum("ka,lb,abij->jikl", _HERMITE, _HERMITE, data)
    return np.asarray(c.reshape(-1, 16), dtype=np.float64)
