"""Samples as an mdtraj trajectory: positions and topology leave here, weights do not."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    import mdtraj

__all__ = ["as_trajectory"]


def as_trajectory(positions: Tensor, topology: dict[str, Any]) -> mdtraj.Trajectory:
    """The trajectory of frames (n, n_atoms, 3), in nm.

    Arguments:
        positions: frames.
        topology: `Molecule.topology_data`: atoms as [name, element, residue name, residue id, chain id], and bonds.
    """
    import mdtraj

    return mdtraj.Trajectory(positions.float().numpy(), _mdtraj_topology(mdtraj, topology))


def _mdtraj_topology(mdtraj: Any, data: dict[str, Any]) -> Any:
    topology = mdtraj.Topology()
    atoms = []
    for chain_id, in_chain in groupby(data["atoms"], key=lambda atom: atom[4]):
        chain = topology.add_chain(str(chain_id))
        for index, ((name, residue_id), in_residue) in enumerate(
            groupby(in_chain, key=lambda atom: (atom[2], atom[3]))
        ):
            # an id with an insertion code ("52A") is not a number
            number = int(residue_id) if str(residue_id).lstrip("-").isdigit() else index + 1
            residue = topology.add_residue(name, chain, resSeq=number)
            for atom_name, element, *_ in in_residue:
                symbol = mdtraj.element.get_by_symbol(element) if element else mdtraj.element.virtual
                atoms.append(topology.add_atom(atom_name, symbol, residue))
    for i, j in data["bonds"]:
        topology.add_bond(atoms[i], atoms[j])
    return topology
