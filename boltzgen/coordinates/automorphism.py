"""Which atoms take each other's place: when the branches about a bond turn, or by the looks of the whole graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt

__all__ = ["stereocentres", "turned_branches"]

_FLAT = 0.1  # of a triple product of unit vectors: below it three neighbours have no handedness

Cycle = tuple[int, ...]


def turned_branches(
    heads: Sequence[int],
    pivot: int,
    neighbours: Sequence[Sequence[int]],
    elements: Sequence[str],
    positions: npt.NDArray[np.float64],
) -> list[Cycle] | None:
    """Cycles of atoms that turn the branches at `pivot` into each other: a symmetry of the graph and of handedness.

    Each cycle lists atoms of which every one takes the place of the one before, the heads first; atoms on the axis, and
    all that hangs on them, stay. From the heads on, neighbours are paired by how their surroundings look; what is found
    is checked bond by bond, so that it can be missed but not wrong.

    Arguments:
        heads: neighbours of the pivot, in turning order.
        pivot: the atom they turn about.
        neighbours: of each atom.
        elements: symbol of each atom.
        positions: (n_atoms, 3), which tell handedness.

    Returns:
        The cycles, or None if the branches are not alike.

    Example:
        >>> ethane_end = [[1, 2, 3, 4], [0], [0], [0], [0]]
        >>> turned_branches([1, 2, 3], 0, ethane_end, ["C", "H", "H", "H", "C"], np.zeros((5, 3)))
        [(1, 2, 3)]
    """
    cycles = [tuple(heads)]
    if any(len(neighbours[h]) > 1 for h in heads):
        look = _surroundings(pivot, neighbours, elements)
        taken = {pivot, *heads}
        for cycle in cycles:  # grows on the way
            fresh = [[k for k in neighbours[a] if k not in taken] for a in cycle]
            if len(set(cycle)) == 1:
                found: list[Cycle] | None = [(k,) * len(cycle) for k in fresh[0]]
            else:
                found = _paired(cycle, cycles, fresh, look, neighbours, positions)
            if found is None:
                return None
            cycles += found
            taken.update(k for new in found for k in new)
    image = {a: b for cycle in cycles for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True)}
    for a, b in image.items():
        if elements[a] != elements[b] or {image.get(k, k) for k in neighbours[a]} != set(neighbours[b]):
            return None
    return [cycle for cycle in cycles if len(set(cycle)) > 1]


def stereocentres(bonds: Iterable[tuple[int, int]], elements: Sequence[str]) -> list[int]:
    """Atoms with four neighbours that all look different, as far as the graph of bonds can tell.

    Centres that owe their hand to a ring's other centres, as in 1,4-dimethylcyclohexane, are not among them, nor are
    bond orders known; the coordinates keep the hands of those centres too.

    Arguments:
        bonds: pairs of atom indices.
        elements: symbol of each atom.

    Example:
        >>> stereocentres([(0, 1), (0, 2), (0, 3), (0, 4)], ["C", "H", "F", "Cl", "Br"])
        [0]
    """
    neighbours: list[list[int]] = [[] for _ in elements]
    for i, j in bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    look = _surroundings(-1, neighbours, elements)
    return [k for k, around in enumerate(neighbours) if len(around) == 4 and len({look[j] for j in around}) == 4]


def _surroundings(pivot: int, neighbours: Sequence[Sequence[int]], elements: Sequence[str]) -> list[int]:
    """A number for each atom, the same for atoms that look alike as far as bonds reach, seen from the pivot if ≥ 0.

    Refinement of colours: an atom's new one is its own with those of its neighbours, until nothing is told apart any
    more.
    """
    colours = _numbered([(element, k == pivot) for k, element in enumerate(elements)])
    for _ in elements:
        refined = _numbered([(colours[k], tuple(sorted(colours[j] for j in v))) for k, v in enumerate(neighbours)])
        if len(set(refined)) == len(set(colours)):
            break
        colours = refined
    return colours


def _numbered(values: Sequence[object]) -> list[int]:
    numbers: dict[object, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def _paired(
    cycle: Cycle,
    cycles: Sequence[Cycle],
    fresh: Sequence[Sequence[int]],
    look: Sequence[int],
    neighbours: Sequence[Sequence[int]],
    positions: npt.NDArray[np.float64],
) -> list[Cycle] | None:
    """New cycles through the neighbours not yet taken of the atoms of one cycle, None if there are none that fit."""
    k = len(cycle)
    known = [
        [old[(old.index(a) + j) % k] for old in cycles for a in neighbours[cycle[0]] if a in old] for j in range(k)
    ]
    hand = _handedness(cycle[0], [*known[0], *fresh[0]], positions)
    columns = [tuple(fresh[0])]
    for j in range(1, k):
        for order in permutations(fresh[j]):
            if (
                [look[a] for a in order] == [look[a] for a in fresh[0]]
                and all(a == b for a, b in zip(fresh[0], order, strict=True) if a in fresh[j] or b in fresh[0])
                and _handedness(cycle[j], [*known[j], *order], positions) == hand
            ):
                columns.append(order)
                break
        else:
            return None
    return list(zip(*columns, strict=True))


def _handedness(centre: int, around: Sequence[int], positions: npt.NDArray[np.float64]) -> int:
    """Sign of the triple product of the directions to the first three neighbours, 0 if they are fewer or flat."""
    if len(around) < 3:
        return 0
    v = [(positions[k] - positions[centre]) / np.linalg.norm(positions[k] - positions[centre]) for k in around[:3]]
    volume = float(np.linalg.det(v))
    return int(np.sign(volume)) if abs(volume) > _FLAT else 0
