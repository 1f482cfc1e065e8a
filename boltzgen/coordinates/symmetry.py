"""What the chart leaves out because it is only a copy: mirror images, relabelled atoms, sectors of rotors."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .automorphism import turned_branches
from .geometry import dihedral
from .zmatrix import Row

__all__ = [
    "Rotor",
    "amine_hydrogens",
    "centre_and_reach",
    "confirmed",
    "find_rotors",
    "inverting",
    "opposite_siblings",
    "relabel",
    "ring_hands",
]

_PYRAMIDAL = 0.4  # |sin| of an azimuth between siblings above which neither is in the plane of the other
_VOLUMINOUS = 0.3  # triple product of unit vectors; 0.77 at a tetrahedral centre
_SAME_ENERGY = 1e-10  # relative, float64: relabelling reorders sums, which changes some 1e-14 of them
_BLOWN_UP = (1.0, 1.0, 0.7, 2.0)
_NOISE = (0.003, 0.03, 0.03, 0.03)  # nm; nearby a clash may drown differences, and terms may rest that act elsewhere


class Rotor(NamedTuple):
    """Equivalent branches about a bond: a turn by 2π/k, k = len(members), only relabels their atoms.

    `members` are the branches' first atoms in the order of growing azimuth, seen from the other end of the bond; `rest`
    lists the atoms behind them, each tuple those that take each other's place in the same order. What lies on the axis
    is not in it.
    """

    members: tuple[int, ...]
    rest: tuple[tuple[int, ...], ...] = ()

    @property
    def cycles(self) -> tuple[tuple[int, ...], ...]:
        """`members` and `rest` in one."""
        return (self.members, *self.rest)


def centre_and_reach(
    rows: Sequence[Row], azimuths: Sequence[float], inverting: Collection[int] = (), held: Collection[int] = ()
) -> tuple[list[float], list[float]]:
    """Middle and half-width, in rad, of the interval every torsion of a z-matrix (from its fourth row) is kept in.

    A sibling stays on its side of the plane through its first sibling and the bond they share: within π/2 of ±π/2 at
    a pyramidal centre, so that no draw is ever a mirror image or swaps two hydrogens, and within π/2 of π (or 0) at a
    planar one. At a centre that inverts in the chart it goes round to either side. Torsions in rings and beyond
    straight angles may take any value, the interval being centred on the reference. Others are circular and have no
    bounds, unless they are held: within π/2 of the reference.

    Arguments:
        azimuths: torsions of the reference structure in rad.
        inverting: atoms whose pyramid may turn inside out to become another configuration: most amines.
        held: atoms whose torsion is.
    """
    centres, reaches = [], []
    for row, azimuth in zip(rows[3:], azimuths, strict=True):
        if row.kind == "sibling" and row.bond in inverting:
            centres.append(math.pi)
            reaches.append(math.pi)
        elif row.kind == "sibling":
            pyramidal = abs(math.sin(azimuth)) > _PYRAMIDAL
            centres.append(math.copysign(math.pi / 2, azimuth) if pyramidal else _plane(azimuth))
            reaches.append(math.pi / 2)
        elif row.atom in held:
            centres.append(azimuth)
            reaches.append(math.pi / 2)
        else:
            bounded = row.kind in ("ring", "linear")
            centres.append(azimuth if bounded else 0.0)
            reaches.append(math.pi if bounded else math.inf)
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


def inverting(rows: Sequence[Row], elements: Sequence[str], neighbours: Sequence[Sequence[int]]) -> set[int]:
    """Nitrogens of three neighbours whose inversion is another configuration, whatever `amine_hydrogens` are.

    Two hydrogens in a plane need no more room than its two sides.
    """
    return {
        row.bond
        for row in rows
        if row.kind == "sibling"
        and elements[row.bond] == "N"
        and len(neighbours[row.bond]) == 3
        and not all(elements[k] == "H" for k in (row.atom, row.torsion))
    }


def amine_hydrogens(
    rows: Sequence[Row], azimuths: Sequence[float], elements: Sequence[str], neighbours: Sequence[Sequence[int]]
) -> dict[int, Rotor]:
    """The two hydrogens of each pyramidal –NH₂ (or two of ammonia's), by its nitrogen, first and sibling.

    The pyramid turned inside out is the pyramid with its hydrogens exchanged: of the two labellings, which a thermal
    inversion leads to as often, one has the sibling on the side it has in the reference.

    Arguments:
        azimuths: torsions of the reference structure (from the fourth row) in rad.
    """
    return {
        row.bond: Rotor((row.torsion, row.atom))
        for row, azimuth in zip(rows[3:], azimuths, strict=True)
        if row.kind == "sibling"
        and elements[row.bond] == "N"
        and len(neighbours[row.bond]) == 3
        and all(elements[k] == "H" for k in (row.atom, row.torsion))
        and abs(math.sin(azimuth)) > _PYRAMIDAL
    }


def ring_hands(
    rows: Sequence[Row],
    elements: Sequence[str],
    neighbours: Sequence[Sequence[int]],
    positions: npt.NDArray[np.float64],
) -> list[tuple[int, int, int, int]]:
    """Pyramidal ends c of the ring bonds that the tree leaves out, with neighbours of positive volume: (c, a, b, d).

    The neighbour across such a bond is no sibling with a side of its own, and a bridgehead may have no other: there the
    sign of (a − c)·(b − c)×(d − c) is what keeps the handedness.

    Arguments:
        rows: a z-matrix.
        elements: symbol of each atom.
        neighbours: of each atom.
        positions: reference structure (n_atoms, 3).
    """
    tied = {(row.atom, row.bond) for row in rows} | {(row.bond, row.atom) for row in rows}
    towards = {row.bond: row.angle for row in reversed(rows[2:])}  # the root's own is the first atom's: row 2 says so
    for row in rows[1:]:
        towards.setdefault(row.atom, row.bond)
    hands = []
    for c, around in enumerate(neighbours):
        if elements[c] == "N" and len(around) == 3:
            continue
        a = towards[c]
        for d in (k for k in around if (c, k) not in tied):
            for b in (k for k in around if k not in (a, d)):
                v = [(positions[k] - positions[c]) / np.linalg.norm(positions[k] - positions[c]) for k in (a, b, d)]
                volume = float(np.linalg.det(v))
                if abs(volume) > _VOLUMINOUS:
                    hands.append((c, a, b, d) if volume > 0 else (c, a, d, b))
    return hands


def find_rotors(
    rows: Sequence[Row],
    elements: Sequence[str],
    neighbours: Sequence[Sequence[int]],
    positions: npt.NDArray[np.float64],
) -> dict[int, list[Rotor]]:
    """Like branches at either end of a bond that turns: three at a pyramid (CH₃, NH₃⁺, CF₃, C(CH₃)₃) or two in a plane
    (phenyl, carboxylate, the amino groups of an amide or of guanidinium).

    Arguments:
        rows: a z-matrix.
        elements: element symbol of each atom.
        neighbours: of each atom.
        positions: reference structure (n_atoms, 3).

    Returns:
        By the atom whose torsion turns them: those that go along with it, it being the first, before those on the other
        side of the bond, the first being the atom that the torsion is measured against.
    """
    bond = {row.atom: row.bond for row in rows}
    x = torch.from_numpy(positions)[None]
    found: dict[int, list[Rotor]] = {}
    for row in rows[3:]:
        ends = ((row.atom, row.bond, row.angle), (row.torsion, row.angle, row.bond)) if row.kind == "circular" else ()
        for first, pivot, axis in ends:
            others = [k for k in neighbours[pivot] if k not in (first, axis)]
            if len(others) + 2 != len(neighbours[pivot]) or any(bond[k] != pivot for k in others):
                continue  # a line begins or a ring closes here
            azimuths = {k: dihedral(x, (k, pivot, axis, first)).item() for k in others}
            if not _all_round(azimuths.values()):
                continue
            members = (first, *sorted(others, key=lambda k: azimuths[k] % (2 * math.pi)))
            cycles = turned_branches(members, pivot, neighbours, elements, positions)
            if cycles is not None:
                found.setdefault(row.atom, []).append(Rotor(cycles[0], tuple(cycles[1:])))
    return found


def _all_round(azimuths: Collection[float]) -> bool:
    """Whether branches lie all round a bond, given their azimuths relative to another one.

    That is opposite to it, in its plane, if there is one; on either side of it, less than π from each other, if two.
    """
    if len(azimuths) == 1:
        (opposite,) = azimuths
        return abs(opposite) > math.pi - math.asin(_PYRAMIDAL)
    pyramidal = len(azimuths) == 2 and all(abs(math.sin(v)) > _PYRAMIDAL for v in azimuths)
    return pyramidal and max(azimuths) - min(azimuths) > math.pi


def relabel(x: Tensor, rotor: Rotor, steps: int) -> Tensor:
    """The configurations x (n, n_atoms, 3) with each branch of the rotor in the place of the one `steps` further on."""
    order = torch.arange(x.shape[1])
    for cycle in rotor.cycles:
        order[list(cycle)] = torch.tensor(cycle).roll(-steps)
    return x[:, order]


def confirmed(rotors: Sequence[Rotor], energy: Callable[[Tensor], Tensor], positions: Tensor) -> list[Rotor]:
    """Those rotors whose relabelling leaves the energy as it is, on configurations near the given one and far from it.

    Arguments:
        energy: u of (n, n_atoms, 3) in float64.
        positions: reference structure (n_atoms, 3) in nm, float64.
    """
    scale, width = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (_BLOWN_UP, _NOISE))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(scale), *positions.shape, generator=generator, dtype=torch.float64)
    x = scale * positions + width * noise
    with torch.no_grad():
        u = energy(torch.cat([x, *(relabel(x, rotor, 1) for rotor in rotors)])).double().reshape(-1, len(x))
    same = ((u[1:] - u[0]).abs() <= _SAME_ENERGY * (1 + u[0].abs())).all(1)
    return [rotor for rotor, agrees in zip(rotors, same.tolist(), strict=True) if agrees]
