"""What the chart leaves out because it is only a copy: mirror images, relabelled hydrogens, sectors of rotors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .zmatrix import Row

__all__ = ["Rotor", "centre_and_reach", "confirmed", "find_rotors", "opposite_siblings", "relabel"]

_PYRAMIDAL = 0.4  # |sin| of an azimuth between siblings above which neither is in the plane of the other
_SAME_ENERGY = 1e-6  # relative, float64: relabelling reorders sums, and unequal atoms differ by far more


class Rotor(NamedTuple):
    """Equivalent terminal siblings, in the order of growing azimuth: a turn by 2π/len only relabels them."""

    members: tuple[int, ...]


def centre_and_reach(rows: Sequence[Row], azimuths: Sequence[float]) -> tuple[list[float], list[float]]:
    """Middle and half-width, in rad, of the interval every torsion of a z-matrix (from its fourth row) is kept in.

    A sibling stays on its side of the plane through its first sibling and the bond they share: within π/2 of ±π/2 at
    a pyramidal centre, so that no draw is ever a mirror image or swaps two hydrogens, and within π/2 of π (or 0) at a
    planar one. Torsions in rings may take any value, the interval being centred on the reference. Others are circular
    and have no bounds.

    Arguments:
        azimuths: torsions of the reference structure in rad.
    """
    centres, reaches = [], []
    for row, azimuth in zip(rows[3:], azimuths, strict=True):
        if row.kind == "sibling":
            pyramidal = abs(math.sin(azimuth)) > _PYRAMIDAL
            centres.append(math.copysign(math.pi / 2, azimuth) if pyramidal else _plane(azimuth))
            reaches.append(math.pi / 2)
        else:
            centres.append(azimuth if row.kind == "ring" else 0.0)
            reaches.append(math.pi if row.kind == "ring" else math.inf)
    return centres, reaches


def _plane(azimuth: float) -> float:
    return math.pi if math.cos(azimuth) < 0 else 0.0


def opposite_siblings(rows: Sequence[Row], azimuths: Sequence[float]) -> list[tuple[int, int]]:
    """Numbers (from the fourth row on) of two siblings on either side of their first, more than π apart across it.

    So they must stay: with no gap as wide as π between the three, none of the handednesses at their centre can change,
    and the chart is the same whichever of them is called the first.

    Arguments:
        azimuths: torsions of the reference structure in rad.
    """
    families: dict[int, list[int]] = {}
    for i, row in enumerate(rows[3:]):
        if row.kind == "sibling":
            families.setdefault(row.torsion, []).append(i)
    pairs = []
    for family in families.values():
        behind, ahead = min(family, key=azimuths.__getitem__), max(family, key=azimuths.__getitem__)
        pyramidal = len(family) == 2 and all(abs(math.sin(azimuths[k])) > _PYRAMIDAL for k in family)
        if pyramidal and azimuths[ahead] - azimuths[behind] > math.pi:
            pairs.append((ahead, behind))
    return pairs


def find_rotors(rows: Sequence[Row], azimuths: Sequence[float], elements: Sequence[str]) -> list[Rotor]:
    """Three terminal atoms of one element that turn about the fourth bond of theirs: CH₃, NH₃⁺, CF₃.

    Arguments:
        rows: a z-matrix.
        azimuths: its torsions (from the fourth row) in the reference structure, in rad.
        elements: element symbol of each atom.
    """
    carrying = {row.bond for row in rows}
    circular = {row.atom for row in rows[3:] if row.kind == "circular"}
    rotors = []
    for ahead, behind in opposite_siblings(rows, azimuths):
        members = rows[3 + ahead].torsion, rows[3 + ahead].atom, rows[3 + behind].atom
        if members[0] in circular and not carrying & set(members) and len({elements[k] for k in members}) == 1:
            rotors.append(Rotor(members))
    return rotors


def relabel(x: Tensor, rotor: Rotor, steps: int) -> Tensor:
    """The configurations x (n, n_atoms, 3) with each member of the rotor in the place of the one `steps` further on."""
    order = torch.arange(x.shape[1])
    order[list(rotor.members)] = torch.tensor(rotor.members).roll(-steps)
    return x[:, order]


def confirmed(rotors: Sequence[Rotor], energy: Callable[[Tensor], Tensor], positions: Tensor) -> list[Rotor]:
    """Those rotors whose relabelling leaves the energy as it is, on a few configurations around the given one.

    Arguments:
        energy: u of (n, n_atoms, 3) in float64.
        positions: reference structure (n_atoms, 3) in nm, float64.
    """
    noise = torch.randn(3, *positions.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = positions + 0.003 * noise
    with torch.no_grad():
        u = energy(torch.cat([x, *(relabel(x, rotor, 1) for rotor in rotors)])).double().reshape(-1, len(x))
    same = ((u[1:] - u[0]).abs() <= _SAME_ENERGY * (1 + u[0].abs())).all(1)
    return [rotor for rotor, agrees in zip(rotors, same.tolist(), strict=True) if agrees]
