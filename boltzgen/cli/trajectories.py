"""Frames to train on, from the files of a simulation: read whole, compared with the molecule, weighted if they are."""

from __future__ import annotations

import math
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BoltzgenError, InputError
from .whole_frames import contents

if TYPE_CHECKING:
    from torch import Tensor

    from ..molecule import Molecule

__all__ = ["load_frames"]

_COARSEST = 0.001  # nm, to which an XTC file may round


def load_frames(
    files: list[str], weights: str | None, molecule: Molecule | None, *, seed: int, strict: bool = False
) -> Tensor:
    """Frames to start a training from, each counting the same.

    Weighted frames are chosen with a probability in proportion to their weights (systematic resampling), as many as
    there are. Weights are those of an ensemble of boltzgen (.npz), whose mean is made 1 file by file; or a text file.

    Arguments:
        files: ensembles, or trajectories in any format that mdtraj reads.
        weights: a text file with a number per frame, in the order of the files; None for those the files bring.
        molecule: whose frames they are; None for a toy's configurations, which only an ensemble holds.
        seed: of the choice by weights.
        strict: whether a file that is cut short is refused.

    Returns:
        (m, n_atoms, 3) in nm, or (m, d) of a toy.

    Raises:
        InputError: naming the file that cannot be read or is another molecule's, or the weight that is none.

    Warns:
        UserWarning: if a file is cut short, and its whole frames are used; or if it rounds positions, as XTC does.
    """
    import torch

    from ..flows.noise import keyed_generator
    from ..sampling.samples import systematic

    parts = [_one(Path(file), molecule, strict) for file in files]
    widths = {tuple(x.shape[1:]) for x, _ in parts}
    if len(widths) > 1:
        raise InputError(
            f"the files of --data must hold the same atoms; got frames of {sorted(widths)}: leave some out"
        )
    x = torch.cat([x for x, _ in parts])
    log_w = torch.cat([log_w for _, log_w in parts]) if weights is None else _weights(Path(weights), len(x))
    if bool((log_w == log_w[0]).all()):
        return x
    return x[systematic(log_w, len(x), keyed_generator(seed))]


def _one(file: Path, molecule: Molecule | None, strict: bool) -> tuple[Tensor, Tensor]:
    """The frames of a file and the logarithms of their weights, of mean weight 1."""
    import torch

    if file.is_dir() or not os.access(file, os.R_OK):
        why = "a folder" if file.is_dir() else "one that cannot be read" if file.exists() else "none there"
        raise InputError(f"--data must name files of frames; got {file}, {why}: check the path")
    if not file.stat().st_size:
        raise InputError(f"{file} must hold frames; got an empty file: copy it again")
    if file.suffix == ".npz":
        return _ensemble(file, molecule)
    if molecule is None:
        raise InputError(
            f"data of a toy must be an ensemble of boltzgen (.npz); got {file}: make one with its sample()"
        )
    x = torch.from_numpy(_trajectory(file, molecule, strict)).double()
    return x, torch.zeros(len(x), dtype=torch.float64)


def _ensemble(file: Path, molecule: Molecule | None) -> tuple[Tensor, Tensor]:
    from ..sampling import Samples

    samples = Samples.load(file)
    if samples.n_failed == len(samples):
        raise InputError(f"{file} must hold a draw of finite weight; got none of {len(samples)}: draw again")
    x = samples.x if molecule is None else samples.positions()
    return x.double(), samples.log_w - samples.log_w.logsumexp(0) + math.log(len(samples))


def _trajectory(file: Path, molecule: Molecule, strict: bool) -> Any:
    """Positions (m, n_atoms, 3), those of whole frames where the file is cut short."""
    from ..sampling.trajectory import read_trajectory

    if file.suffix in (".h5", ".hdf5", ".lh5") and find_spec("tables") is None:
        raise InputError(
            f"{file} must be read with the package tables; it is not installed: pip install tables, or convert it to "
            ".dcd"
        )
    try:
        found = contents(file)
        if found is not None:
            _judge(file, found, molecule, strict)
        trajectory = read_trajectory(file, molecule.topology_data, n_frames=found.frames if found else None)
    except BoltzgenError:
        raise
    except Exception as error:  # mdtraj raises what it likes
        said = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise InputError(
            f"{file} must be a trajectory of {molecule.name}, {molecule.n_atoms} atoms, in a format that mdtraj reads; "
            f"got one that it cannot read ({said}): check the file"
        ) from None
    if not trajectory.n_frames:
        raise InputError(f"{file} must hold frames; got none: check the file")
    _compare(file, trajectory.topology, molecule)
    return trajectory.xyz


def _judge(file: Path, found: Any, molecule: Molecule, strict: bool) -> None:
    """Refuses the frames of another molecule and those rounded too much; warns of rounding, and a file cut short."""
    if found.cut and strict:
        raise InputError(
            f"{file} must be whole under --strict; got one cut short after {found.frames} frames: copy it again"
        )
    if found.n_atoms != molecule.n_atoms:
        raise InputError(_other_atoms(file, molecule, f"{found.n_atoms} atoms"))
    if not found.frames:
        raise InputError(f"{file} must hold a whole frame; got a file cut short within the first: copy it again")
    if found.precision is not None and 1.0 / found.precision > 1.01 * _COARSEST:
        raise InputError(
            f"{file} must hold positions to {_COARSEST:g} nm; got steps of {1 / found.precision:g} nm, more than bonds "
            "move: write the trajectory with a higher precision"
        )
    if found.precision is not None:
        warnings.warn(
            f"{file} rounds positions to {1 / found.precision:.2g} nm: enough to learn from, but its energies are off "
            "by about 1 kT, so that it should not be weighed; .dcd does not round",
            UserWarning,
            stacklevel=4,
        )
    if found.cut:
        warnings.warn(f"{file} is cut short: its {found.frames} whole frames are used", UserWarning, stacklevel=4)


def _compare(file: Path, got: Any, molecule: Molecule) -> None:
    """Refuses the frames of other atoms than the molecule's, as far as the file names them."""
    if got.n_atoms != molecule.n_atoms:
        raise InputError(_other_atoms(file, molecule, f"{got.n_atoms} atoms"))
    wanted = [element for _, element, *_ in molecule.topology_data["atoms"]]
    for atom, label, element in zip(got.atoms, molecule.atom_labels, wanted, strict=True):
        symbol = atom.element.symbol
        if symbol != element:
            raise InputError(_other_atoms(file, molecule, f"{atom} of {symbol} where {label} is {element}"))


def _other_atoms(file: Path, molecule: Molecule, got: str) -> str:
    return (
        f"{file} must hold frames of {molecule.name}, {molecule.n_atoms} atoms in its order; got {got}: keep these "
        "atoms alone (mdtraj: trajectory.atom_slice), without solvent and in the order of the molecule's file"
    )


def _weights(file: Path, n: int) -> Tensor:
    """Logarithms of the weights in a text file."""
    import numpy as np
    import torch

    try:
        w = np.array(file.read_text(encoding="utf-8").split(), dtype=float)
    except OSError as error:
        raise InputError(f"--weights must name a file that can be read; got {file} ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{file} must hold numbers, one per frame; got another thing ({error}): correct it") from None
    if len(w) != n:
        raise InputError(f"{file} must hold a weight per frame, {n}; got {len(w)}: give those of all files of --data")
    if not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise InputError(f"weights must be finite, not negative, and not all zero; got others in {file}: correct it")
    return torch.from_numpy(w).log()
