"""The order in which a molecule is built, and what each atom is measured against, from the bond graph alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from ..errors import InputError

__all__ = ["Row", "labels", "neighbours_of", "z_matrix"]

_CANDIDATES = 16  # roots tried: enough for every backbone atom near the centre


class Row(NamedTuple):
    """One atom and those it is measured against: r(atom, bond), θ(atom, bond, angle), τ(atom, bond, angle, torsion).

    The first three rows lack what rigid motion takes away; missing atoms are −1. `kind` says what the torsion is:

    * "circular": about a bond that may turn;
    * "ring": about a bond inside a ring, stiff;
    * "linear": of an atom beyond a straight angle, stiff; θ is then measured from the perpendicular m of the frame in
      which `bond` holds it, and τ about m from the straight line (see `Placement`). What hangs on such an atom is
      measured in the frame carried along, whose plane `torsion` fixed where the line began;
    * "sibling": the azimuth about the same bond relative to the first atom placed there (then `torsion` is that atom);
    * "": there is none (the first three rows).
    """

    atom: int
    bond: int = -1
    angle: int = -1
    torsion: int = -1
    kind: Literal["circular", "ring", "linear", "sibling", ""] = ""


def z_matrix(
    n_atoms: int,
    bonds: Iterable[tuple[int, int]],
    elements: Sequence[str],
    torsions: Mapping[str, Sequence[int]] | None = None,
    labels: Sequence[str] | None = None,
    linear: Collection[int] = (),
) -> list[Row]:
    """Rows that place every atom of a connected molecule once, each against atoms placed before it.

    The bond graph is walked breadth-first from a central heavy atom, so that the tree is shallow. Whatever hangs on
    an atom turns together: its first neighbour carries the torsion, the others are measured against the first.
    Terminal hydrogens come last. Named torsions become coordinates where one tree can hold them; else, the root is in
    no ring if it can be.

    Arguments:
        n_atoms: number of atoms, at least 3.
        bonds: pairs of atom indices.
        elements: element symbol of each atom.
        torsions: named torsions, four atom indices each.
        labels: names of the atoms for error messages.
        linear: atoms whose two neighbours lie on opposite sides of them, as in an alkyne, a nitrile or an allene.

    Raises:
        InputError: if there are fewer than three atoms, the graph is not connected, or all atoms lie on one line.

    Example:
        >>> z_matrix(4, [(0, 1), (1, 2), (2, 3)], ["H", "O", "O", "H"])[-1]
        Row(atom=3, bond=2, angle=1, torsion=0, kind='circular')
    """
    if n_atoms < 3:
        raise InputError(
            f"internal coordinates must have at least 3 atoms to describe; got {n_atoms}: use Cartesian coordinates"
        )
    neighbours = neighbours_of(n_atoms, bonds)
    heavy = [element != "H" for element in elements]
    lost = [k for k, distance in enumerate(_distances(neighbours, 0)) if distance < 0]
    if lost:
        name = labels[lost[0]] if labels else f"atom {lost[0]}"
        raise InputError(
            f"all atoms must be connected by bonds; got {len(lost)} ({name} first) without a path to the first atom: "
            "sample one molecule at a time, or add the missing bonds to the topology"
        )
    roots = _central(neighbours, heavy, linear)
    if not roots:
        raise InputError(
            f"a molecule must have a bend somewhere to have 3N - 6 internal coordinates; got all {n_atoms} atoms on "
            f"one line{f', {labels[0]} to {labels[-1]}' if labels else ''}: use Cartesian coordinates"
        )
    named = [tuple(quadruple) for quadruple in (torsions or {}).values()]

    def merit(rows: Sequence[Row]) -> tuple[int, bool]:
        """How many named torsions are coordinates, and whether the root is in no ring, so that all rings can turn."""
        made = {row[:4] for row in rows if row.kind in ("circular", "ring")}
        in_ring = any(row.kind == "ring" and row.angle == rows[0].atom for row in rows)
        return sum(quadruple in made or quadruple[::-1] in made for quadruple in named), not in_ring

    trees = (_walk(neighbours, heavy, root, named, linear) for root in roots[:_CANDIDATES])
    return max(trees, key=merit)  # the most central one wins a tie


def neighbours_of(n_atoms: int, bonds: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The atoms that each is bonded to."""
    neighbours: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    return neighbours


def labels(
    rows: Sequence[Row], names: Sequence[str], folded: Collection[int], linked: Collection[tuple[int, ...]] = ()
) -> list[str]:
    """Name of each coordinate of a z-matrix: bonds, angles, torsions, in the order of the rows.

    Arguments:
        names: of the atoms.
        folded: atoms whose torsion is the turn of a folded rotor.
        linked: pairs of atoms that no bond connects, though the tree does.
    """
    words = {"circular": "torsion", "ring": "torsion", "linear": "bend", "sibling": "improper"}
    torsions = [("rotor" if row.atom in folded else words[row.kind], row[:4]) for row in rows[3:]]
    columns = (
        [("distance" if row[:2] in linked or row[1::-1] in linked else "bond", row[:2]) for row in rows[1:]]
        + [("bend" if row.kind == "linear" else "angle", row[:3]) for row in rows[2:]]
        + torsions
    )
    return [" ".join([word, *(names[k] for k in atoms)]) for word, atoms in columns]


def _distances(neighbours: Sequence[Sequence[int]], start: int) -> list[int]:
    """Number of bonds from `start` to every atom, −1 where there is no path."""
    distance = [-1] * len(neighbours)
    distance[start] = 0
    queue = [start]
    for k in queue:
        for j in neighbours[k]:
            if distance[j] < 0:
                distance[j] = distance[k] + 1
                queue.append(j)
    return distance


def _central(neighbours: Sequence[Sequence[int]], heavy: Sequence[bool], linear: Collection[int]) -> list[int]:
    """Possible roots at bends, the most central first: heavy atoms with two heavy neighbours, or else any with two."""
    bent = [(k, v) for k, v in enumerate(neighbours) if len(v) >= 2 and k not in linear]
    candidates = [k for k, v in bent if heavy[k] and sum(heavy[j] for j in v) >= 2] or [k for k, _ in bent]

    def eccentricity(k: int) -> tuple[int, int]:
        distance = _distances(neighbours, k)
        return max(distance), sum(distance)

    return sorted(candidates, key=eccentricity)


def _walk(
    neighbours: Sequence[Sequence[int]],
    heavy: Sequence[bool],
    root: int,
    named: Sequence[tuple[int, ...]],
    linear: Collection[int],
) -> list[Row]:
    """Rows of the breadth-first tree of one root."""
    n = len(neighbours)
    parent, order = [-1] * n, [root]
    parent[root] = root
    for k in order:
        for j in sorted(neighbours[k], key=lambda j: (not heavy[j], j)):
            if parent[j] < 0:
                parent[j] = k
                order.append(j)
    children: list[list[int]] = [[] for _ in range(n)]
    height = [0] * n
    for k in reversed(order[1:]):
        children[parent[k]].append(k)
        height[parent[k]] = max(height[parent[k]], height[k] + 1)

    late = [not heavy[k] and len(neighbours[k]) == 1 for k in range(n)]
    ring = _ring_bonds(neighbours, parent, order)
    wanted = {quadruple for q in named for quadruple in (q, q[::-1])}

    first, second, *others = sorted(children[root], key=lambda k: (late[k], not heavy[k], -height[k], k))
    rows = [Row(root), Row(first, root), Row(second, root, first)]
    rows += [Row(k, root, first, second, "sibling") for k in others]
    parent[root] = first  # as the tree goes on, the first neighbour is what lies behind the root
    queue = [first, second, *others]
    plane = {first: second}  # the atom that fixes the plane of a frame, where it is not the one behind
    for p in queue:
        g = parent[p]
        behind = plane.get(p, parent[g])
        turn: Literal["ring", "linear", "circular"] = "ring" if (p, g) in ring else "circular"
        if p in linear:
            turn = "linear"
            plane |= dict.fromkeys(children[p], behind)
        unnamed = {k: (k, p, g, behind) not in wanted for k in children[p]}
        family = sorted(children[p], key=lambda k: (late[k], unnamed[k], not heavy[k], -height[k], k))
        rows += [Row(k, p, g, behind, turn) for k in family[:1]]
        rows += [Row(k, p, g, family[0], "sibling") for k in family[1:]]
        queue += family
    return rows[:3] + sorted(rows[3:], key=lambda row: late[row.atom])


def _ring_bonds(
    neighbours: Sequence[Sequence[int]], parent: Sequence[int], order: Sequence[int]
) -> set[tuple[int, int]]:
    """Bonds of the tree in a ring, both ways round: those on the way between the ends of a bond the tree left out."""
    place = {k: i for i, k in enumerate(order)}
    found: set[tuple[int, int]] = set()
    for a in order:
        for b in neighbours[a]:
            if place[a] < place[b] and parent[b] != a:
                i, j = a, b
                while i != j:
                    if place[i] < place[j]:
                        i, j = j, i
                    found |= {(i, parent[i]), (parent[i], i)}
                    i = parent[i]
    return found
