"""The relabellings of a molecule that its energy confirms and its chart can leave out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..energies.energy import Energy
from ..energies.openmm_energy import OpenMMEnergy
from .folding import foldable
from .symmetry import Rotor, amine_hydrogens, confirmed, find_rotors, inverting
from .zmatrix import Row

if TYPE_CHECKING:
    from ..molecule import Molecule

__all__ = ["Copies", "find_copies"]


class Copies(NamedTuple):
    """What a chart leaves out, and what it may not leave out."""

    turns: dict[int, list[Rotor]]
    """Rotors to fold, by the atom whose torsion turns them."""
    exchanges: list[tuple[int, ...]]
    """First and sibling of two hydrogens of –NH₂ that its inversion exchanges."""
    inverting: set[int]
    """Nitrogens whose inversion is another configuration: it is in the chart."""


def find_copies(
    molecule: Molecule,
    rows: Sequence[Row],
    azimuths: Sequence[float],
    neighbours: Sequence[Sequence[int]],
    held: Collection[int] = (),
    *,
    fold: bool = True,
) -> Copies:
    """Rotors and amines of a molecule whose relabelling changes nothing.

    Arguments:
        rows: its z-matrix.
        azimuths: torsions of its positions (from the fourth row) in rad.
        neighbours: of each atom.
        held: atoms whose torsion is held: what would carry it to another place is not folded.
        fold: whether anything is to be left out.
    """
    elements, x = molecule.elements, torch.tensor(molecule.positions, dtype=torch.float64)
    amines = amine_hydrogens(rows, azimuths, elements, neighbours)
    kept = {k for row in rows if row.atom in held for k in row[:4]}

    def free(rotor: Rotor) -> bool:
        return not any(kept.intersection(cycle) for cycle in rotor.cycles)

    pairs = [pair for pair in amines.values() if fold and free(pair)]
    found = find_rotors(rows, elements, neighbours, x.numpy()) if fold else {}
    turns = {first: [rotor for rotor in rotors if free(rotor)] for first, rotors in found.items()}
    alike = [*itertools.chain(*turns.values()), *pairs]
    alike = confirmed(alike, _precise_energy(molecule), x) if alike else []
    exchanges = [pair.members for pair in pairs if pair in alike]
    turns = {first: [rotor for rotor in rotors if rotor in alike] for first, rotors in turns.items()}
    turned = {nitrogen for nitrogen, pair in amines.items() if pair not in alike}
    return Copies(foldable(turns, rows, exchanges), exchanges, inverting(rows, elements, neighbours) | turned)


def _precise_energy(molecule: Molecule) -> Callable[[Tensor], Tensor]:
    """u in double precision: OpenMM's CPU platform adds up in single, which would hide an equality."""
    energy: Energy = molecule.energy(300.0)
    if getattr(energy, "platform", "Reference") != "Reference":
        energy = OpenMMEnergy(molecule.system, 300.0, platform="Reference")
    return energy.energy
