"""Linear groups: what lies beyond a straight angle is measured in a carried frame; others are refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import InputError
from .geometry import distance
from .zmatrix import Row

__all__ = ["CarriedFrames", "refuse_degenerate", "straight_centres"]

_STRAIGHT = math.radians(160.0)  # between an allene's or a nitrile's angle and the widest of rings and ethers
_POLE = math.sin(math.radians(10.0))
_TOUCHING = 1e-3  # nm
_TURNING = ("circular", "ring")  # siblings are measured against the first of these


def straight_centres(positions: npt.NDArray[np.float64], bonds: Iterable[tuple[int, int]]) -> set[int]:
    """Atoms of two neighbours that lie on opposite sides of them, within 20°.

    Arguments:
        positions: (n_atoms, 3).
        bonds: pairs of atom indices.
    """
    neighbours: dict[int, list[int]] = {}
    for i, j in bonds:
        neighbours.setdefault(i, []).append(j)
        neighbours.setdefault(j, []).append(i)
    found = set()
    for k, pair in neighbours.items():
        if len(pair) == 2:
            v, w = (positions[j] - positions[k] for j in pair)
            if math.atan2(float(np.linalg.norm(np.cross(v, w))), float(v @ w)) > _STRAIGHT:
                found.add(k)
    return found


class CarriedFrames:
    """The coordinates that are measured in frames of linear groups, from positions: the inverse of `Placement` there.

    Atom p, hanging on g with b behind, has the frame e = (g − p)/|g − p|, m = the part of b − g perpendicular to e,
    normalised, and k = m × e. An atom q beyond the straight angle at p, in direction d = (q − p)/|q − p|, has

        cos θ = d·m,   sin θ (cos τ, sin τ) = (−d·e, d·k),

    and the frame e' = −d, m' ∝ m − (m·d) d, which the next atom of the line, or what turns about its end, is measured
    in. θ is near π/2 and τ near 0: neither is ever close to a pole.

    Arguments:
        rows: a z-matrix.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._line = [(i, row) for i, row in enumerate(rows) if row.kind == "linear"]
        carried = {row.atom for _, row in self._line}
        self._ends = [(i, row) for i, row in enumerate(rows) if row.bond in carried and row.kind in _TURNING]
        self._theta = torch.tensor([i - 2 for i, _ in self._line])
        self._tau = torch.tensor([i - 3 for i, _ in self._line + self._ends])

    def __bool__(self) -> bool:
        return bool(self._line)

    @property
    def rows(self) -> list[Row]:
        """Those whose torsion is measured in a carried frame: it is not the dihedral of their four atoms."""
        return [row for _, row in self._line + self._ends]

    def measure(self, x: Tensor, theta: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """θ (N − 2, n) and τ (N − 3, n) with the values of linear groups put right, of x (3, N, n)."""
        frames: dict[int, tuple[Tensor, Tensor]] = {}
        thetas, taus = [], []
        for _, (q, p, g, b, _) in self._line:
            if p not in frames:
                e = _unit(x[:, g] - x[:, p])
                frames[p] = e, _unit(_across(x[:, b] - x[:, g], e))
            e, m = frames[p]
            d = _unit(x[:, q] - x[:, p])
            along, beside = -(d * e).sum(0), (d * torch.linalg.cross(m, e, dim=0)).sum(0)
            thetas.append(torch.atan2((along.square() + beside.square()).sqrt(), (d * m).sum(0)))
            taus.append(torch.atan2(beside, along))
            frames[q] = -d, _unit(_across(m, d))
        for _, (h, q, *_) in self._ends:
            e, m = frames[q]
            d = x[:, h] - x[:, q]
            taus.append(torch.atan2((d * torch.linalg.cross(m, e, dim=0)).sum(0), (d * m).sum(0)))
        theta = theta.index_copy(0, self._theta.to(theta.device), torch.stack(thetas))
        return theta, tau.index_copy(0, self._tau.to(tau.device), torch.stack(taus))


def refuse_degenerate(rows: Sequence[Row], r: Sequence[float], theta: Sequence[float], names: Sequence[str]) -> None:
    """Refusal of bonds without length, and of angles at a pole: there these coordinates are none.

    Arguments:
        rows: a z-matrix.
        r, theta: its bond lengths in nm and angles in rad.
        names: of the atoms.

    Raises:
        InputError: naming the atoms.
    """
    for row, length in zip(rows[1:], r, strict=True):
        if not length > _TOUCHING:
            a, b = names[row.atom], names[row.bond]
            raise InputError(f"bonded atoms must be apart; got {a} and {b} at {length:.2g} nm: check the positions")
    for row, value in zip(rows[2:], theta, strict=True):
        if not math.sin(value) > _POLE:
            atoms = " - ".join(names[k] for k in row[:3])
            raise InputError(
                f"angles must stay away from 0 and 180 degrees; got {math.degrees(value):.1f} for {atoms}: "
                "minimise a distorted structure, or move one of several molecules aside; centres with neighbours "
                "opposite each other among others (square planar, octahedral) have no such coordinates"
            )


def _across(v: Tensor, axis: Tensor) -> Tensor:
    return v - (v * axis).sum(0) * axis


def _unit(v: Tensor) -> Tensor:
    return v / distance(v, torch.zeros_like(v))
