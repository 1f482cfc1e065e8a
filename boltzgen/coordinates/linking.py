"""Where molecules that no bond connects are tied to each other, so that one tree places them all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..molecule.pieces import connected_pieces
from .zmatrix import neighbours_of

__all__ = ["links"]

_AWAY_FROM_POLES = 0.5  # sine of the angles at a link: what is at least that is good enough, and the nearest is taken


def links(
    positions: npt.NDArray[np.float64], bonds: Sequence[tuple[int, int]], labels: Sequence[str]
) -> list[tuple[int, int]]:
    """Pairs of atoms that connect the molecules as if by bonds.

    They are ends, atoms with one neighbour at most. So of the six degrees of freedom of a molecule beside another (of
    an ion three) one is the distance of the pair, two are angles at it, and three are torsions that go all the way
    round: nothing but poles of angles, where the measure vanishes, is out of the chart.

    Arguments:
        positions: (n_atoms, 3) in nm: of ends whose angles there are far from 0 and 180°, the nearest pair is taken.
        bonds: pairs of atoms.
        labels: names of the atoms.

    Raises:
        InputError: if a molecule has no end.
    """
    neighbours = neighbours_of(len(positions), bonds)

    def sine(a: int, b: int) -> float:
        """Of the angle between the link a–b and the bond of a; 1 if it has none."""
        if not neighbours[a]:
            return 1.0
        v, w = positions[b] - positions[a], positions[neighbours[a][0]] - positions[a]
        return float(np.linalg.norm(np.cross(v, w)) / (np.linalg.norm(v) * np.linalg.norm(w)))

    def merit(pair: tuple[int, int]) -> tuple[float, float]:
        a, b = pair
        return -min(sine(a, b), sine(b, a), _AWAY_FROM_POLES), math.dist(positions[a], positions[b])

    first, *others = sorted(connected_pieces(len(positions), bonds), key=len, reverse=True)
    placed, found = list(first), []
    while others:
        ends = [[k for k in piece if len(neighbours[k]) <= 1] for piece in (placed, *others)]
        lacking = [piece[0] for piece, found_there in zip((placed, *others), ends, strict=True) if not found_there]
        if lacking:
            raise InputError(
                f"of several molecules each must have an atom with one neighbour at most; got none in that of "
                f"{labels[lacking[0]]}: leave it out, or sample Cartesian coordinates"
            )
        pairs = [(a, b) for piece in ends[1:] for a in ends[0] for b in piece]
        a, b = min(pairs, key=merit)
        neighbours[a].append(b)
        neighbours[b].append(a)
        found.append((a, b))
        (joined,) = (piece for piece in others if b in piece)
        others.remove(joined)
        placed += joined
    return found
