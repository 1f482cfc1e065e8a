"""Frames of a simulation brought into the chart: checked, relabelled, and counted."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    from .internal import InternalCoordinates

__all__ = ["in_chart"]

BAD_SHARE = 0.01
"""of the frames, that may be left out."""


def in_chart(coordinates: InternalCoordinates, frames: Any) -> tuple[Tensor, Tensor]:
    """Internal coordinates (m', 3 n_atoms − 6) and positions of those frames that have them.

    Arguments:
        frames: (m, n_atoms, 3) in nm, as array, tensor or Quantity, or an mdtraj trajectory.

    Raises:
        InputError: if they are not the molecule's, or more than 1 % lie outside the chart.

    Warns:
        UserWarning: if some lie outside.
    """
    molecule = coordinates.molecule
    x = torch.from_numpy(molecule.check_positions(getattr(frames, "xyz", frames))).to(coordinates.reference.device)
    y, log_det = coordinates.inverse(x)
    good = torch.isfinite(y).all(-1) & torch.isfinite(log_det)
    bad = int((~good).sum())
    if bad > BAD_SHARE * len(x):
        raise InputError(
            f"frames must lie in the chart of {molecule.name}; got {bad} of {len(x)} with NaN, of the mirror image, "
            "with other labels of equivalent hydrogens, or far from what is held: check them, and load the molecule "
            "from one of them"
        )
    if bad:
        warnings.warn(f"{bad} of {len(x)} frames are left out: NaN, or outside the chart", UserWarning, stacklevel=3)
    return y[good], x[good]
