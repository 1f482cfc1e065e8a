"""Several molecules as one: which atoms belong together, and whether a force keeps the molecules from coming apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import openmm
import torch

from ..energies.openmm_energy import OpenMMEnergy
from ..errors import UnsupportedSystemError

__all__ = ["connected_pieces", "require_held_together"]

_NEAR, _FAR = 100.0, 1000.0
"""nm, between which the energy must rise: molecules and the free play of restraints are smaller."""
_MOST = 8
"""molecules, since all ways to part them are tried."""


def connected_pieces(n_atoms: int, bonds: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The atoms of every molecule, ascending; the molecules by their first atoms."""
    piece = list(range(n_atoms))  # representative of the piece each atom belongs to
    for i, j in bonds:
        while piece[i] != i:
            piece[i] = i = piece[piece[i]]
        while piece[j] != j:
            piece[j] = j = piece[piece[j]]
        piece[max(i, j)] = min(i, j)
    found: dict[int, list[int]] = {}
    for k in range(n_atoms):
        root = k
        while piece[root] != root:
            root = piece[root]
        found.setdefault(root, []).append(k)
    return list(found.values())


def require_held_together(
    system: openmm.System,
    positions: npt.NDArray[np.float64],
    bonds: Iterable[tuple[int, int]],
    labels: Sequence[str],
    bonded: Iterable[tuple[int, int]] = (),
) -> None:
    """Refusal of molecules that may come apart: exp(−u) has no integral over where they are then.

    At a distance r the volume grows as r³, so u must rise by more than 3 log 10 from every distance to ten times it.
    Any group of them is moved away from the others, in six directions.

    Arguments:
        system: of all atoms.
        positions: (n_atoms, 3) in nm.
        bonds: pairs of atoms, of the topology.
        labels: names of the atoms.
        bonded: pairs of atoms that chemical bonds of the System connect.

    Raises:
        UnsupportedSystemError: naming the first atoms of the molecules, if some are free or there are too many.
    """
    pieces = connected_pieces(len(positions), bonds)
    if len(pieces) == 1:
        return
    first = ", ".join(labels[piece[0]] for piece in pieces[:4]) + (", ..." if len(pieces) > 4 else "")
    member = {k: number for number, piece in enumerate(pieces) for k in piece}
    lacking = [f"{labels[i]} and {labels[j]}" for i, j in bonded if member[i] != member[j]]
    if lacking:
        problem = f"though a harmonic bond of the System, too stiff for a restraint, connects {lacking[0]}"
    else:
        problem = f"more than {_MOST}" if len(pieces) > _MOST else _free(system, positions, pieces, labels)
    if problem:
        raise UnsupportedSystemError(
            "the atoms must be one molecule, connected by bonds, or a few that a restraint holds together; got "
            f"{len(pieces)} pieces (starting at {first}), {problem}: leave out solvent and ions, add missing bonds to "
            "the topology (CONECT records in a PDB file), or add a restraint between the molecules, such as a "
            "CustomCentroidBondForce, to the System, and use Molecule.from_openmm"
        )


def _free(
    system: openmm.System, positions: npt.NDArray[np.float64], pieces: Sequence[Sequence[int]], labels: Sequence[str]
) -> str:
    """Which of the molecules may leave the first, and at what cost; empty if none may."""
    x = torch.tensor(positions, dtype=torch.float64)
    away = torch.cat([torch.eye(3, dtype=x.dtype), -torch.eye(3, dtype=x.dtype)])
    others = range(1, len(pieces))
    groups = [group for k in others for group in combinations(others, k)]
    frames = x.repeat(len(groups), 2, len(away), 1, 1)  # (groups, distances, directions, atoms, 3)
    for i, group in enumerate(groups):
        atoms = [atom for k in group for atom in pieces[k]]
        for j, distance in enumerate((_NEAR, _FAR)):
            frames[i, j, :, atoms] += distance * away[:, None]
    energy = OpenMMEnergy(system, 300.0, platform="Reference", workers=0)
    u = energy.energy(frames.flatten(0, 2)).view(frames.shape[:3])
    rise = (u[:, 1] - u[:, 0]).nan_to_num(math.inf, math.inf).amin(1)  # infinite at both: nothing gets there
    if not bool((rise <= 3 * math.log(_FAR / _NEAR)).any()):
        return ""
    worst = int(rise.argmin())
    names = " and ".join(labels[pieces[k][0]] for k in groups[worst])
    return f"where that of {names} may leave: from {_NEAR:g} to {_FAR:g} nm away u rises by {float(rise[worst]):.2g}"
