"""Where trajectories of mdtraj leave and enter: positions and topology, no weights."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..files import atomically

if TYPE_CHECKING:
    import mdtraj

__all__ = ["as_trajectory", "read_trajectory", "write_trajectory"]

_NAMING_ATOMS = (".pdb", ".gro", ".cif", ".h5", ".lh5", ".hdf5")


def as_trajectory(positions: Tensor, topology: dict[str, Any]) -> mdtraj.Trajectory:
    """The trajectory of frames (n, n_atoms, 3), in nm.

    Arguments:
        positions: frames.
        topology: `Molecule.topology_data`: atoms as [name, element, residue name, residue id, chain id], and bonds.
    """
    import mdtraj

    return mdtraj.Trajectory(positions.float().numpy(), _mdtraj_topology(mdtraj, topology))


def read_trajectory(file: Path, topology: dict[str, Any], *, n_frames: int | None = None) -> mdtraj.Trajectory:
    """The trajectory in a file, in any format that mdtraj reads, without what its readers print.

    Arguments:
        file: the file; where its format names atoms, they are the file's own.
        topology: `Molecule.topology_data`, for the formats that name none.
        n_frames: how many to read of a DCD, XTC or TRR file; all if None.

    Raises:
        Exception: of any kind, as mdtraj does.
    """
    import mdtraj

    with _silent(), _in_ascii(file) as path:
        if n_frames is not None:
            with mdtraj.open(str(path)) as opened:
                return opened.read_as_traj(_mdtraj_topology(mdtraj, topology), n_frames=n_frames)
        if file.suffix.lower() in _NAMING_ATOMS:
            return mdtraj.load(str(path))
        return mdtraj.load(str(path), top=_mdtraj_topology(mdtraj, topology))


def write_trajectory(trajectory: mdtraj.Trajectory, file: Path) -> None:
    """Writes a trajectory in the format that the file's ending says, whole or not at all.

    Raises:
        OSError: if it cannot be written, the old file being intact; without a number if the ending names no format.
        ImportError: if the format needs a package that is not installed.
    """
    with atomically(file) as temporary, _in_ascii(temporary) as path:
        trajectory.save(str(path))


@contextmanager
def _in_ascii(path: Path) -> Iterator[Path]:
    """The path, or a link to it by a name that the readers and writers of mdtraj in C understand."""
    if str(path).isascii():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"frames{''.join(ending for ending in path.suffixes if ending.isascii())}"
        link.symlink_to(path.absolute())
        yield link


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


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps what the readers of mdtraj, written in C, print away from standard output, where results go."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # closed: nothing can be printed
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            with suppress(OSError, AttributeError, TypeError):
                ctypes.CDLL(None).fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
