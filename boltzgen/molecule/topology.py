"""The topology as plain data: atoms, bonds and their names, to JSON and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from openmm import app

__all__ = ["atom_labels", "bonded_pairs", "build_topology", "topology_data"]


def topology_data(topology: app.Topology) -> dict[str, list[list[Any]]]:
    """The topology as a JSON-able dict.

    Returns:
        `{"atoms": [[name, element, residue name, residue id, chain id], ...], "bonds": [[i, j], ...]}`, indices from 0,
        i < j, sorted; the element is "" for a particle that is none, and an insertion code is part of the residue id.
        Of chains with one id the second has a 2 behind it, and so on.
    """
    taken: Counter[str] = Counter()
    chains = {}
    for chain in topology.chains():
        taken[chain.id] += 1
        chains[chain] = chain.id if taken[chain.id] == 1 else f"{chain.id}{taken[chain.id]}"
    atoms = [
        [
            atom.name,
            atom.element.symbol if atom.element is not None else "",
            atom.residue.name,
            f"{atom.residue.id}{atom.residue.insertionCode.strip()}",
            chains[atom.residue.chain],
        ]
        for atom in topology.atoms()
    ]
    pairs = {tuple(sorted((bond[0].index, bond[1].index))) for bond in topology.bonds()}
    return {"atoms": atoms, "bonds": [list(pair) for pair in sorted(pairs)]}


def build_topology(data: dict[str, Any]) -> app.Topology:
    """The `openmm.app.Topology` that `topology_data` described.

    Consecutive atoms of one residue name, residue id and chain id are one residue.
    """
    topology = app.Topology()
    atoms = []
    for chain_id, members in groupby(data["atoms"], key=lambda atom: atom[4]):
        chain = topology.addChain(chain_id)
        for (residue_name, residue_id), group in groupby(members, key=lambda atom: (atom[2], atom[3])):
            residue = topology.addResidue(residue_name, chain, residue_id)
            for name, symbol, *_ in group:
                element = app.Element.getBySymbol(symbol) if symbol else None
                atoms.append(topology.addAtom(name, element, residue))
    for i, j in data["bonds"]:
        topology.addBond(atoms[i], atoms[j])
    return topology


def bonded_pairs(data: dict[str, Any]) -> list[tuple[int, int]]:
    """Pairs (i, j) of bonded atoms, i < j, sorted."""
    return [(i, j) for i, j in data["bonds"]]


def atom_labels(data: dict[str, Any]) -> list[str]:
    """Labels such as "ALA2-CA"; "A:ALA2-CA" with the chain in front where the short form would be ambiguous."""
    short = [f"{residue}{number}-{name}" for name, _, residue, number, _ in data["atoms"]]
    repeated = _repeated(short)
    return [
        f"{atom[4]}:{label}" if label in repeated else label for atom, label in zip(data["atoms"], short, strict=True)
    ]


def _repeated(names: Sequence[str]) -> set[str]:
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
