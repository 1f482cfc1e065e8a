"""Frames of a simulation as training data: checked, brought into the chart, and counted."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..coordinates import InternalCoordinates
from ..coordinates.frames import in_chart
from ..errors import InputError

if TYPE_CHECKING:
    from ..energies import Energy, Pullback
    from ..molecule import Molecule

__all__ = ["chart_data"]

FEWEST = 10
"""distinct frames below which there is nothing to learn from."""
_STRANGE = (0.8, 1.25)
"""Temperature of the frames, as their energy tells it, in units of the target's: beyond, something is wrong."""
_JUDGED = 1000
"""frames that are enough to judge the temperature by."""


def chart_data(target: Pullback, frames: Any) -> Tensor:
    """Frames of a molecule as internal coordinates to train on.

    Equivalent atoms are relabelled into the chart. Frames with NaN, with atoms on top of each other, or outside the
    chart (the mirror image, other labels of hydrogens) are left out and counted.

    Arguments:
        target: the density of the molecule on its internal coordinates.
        frames: (m, n_atoms, 3) in nm, as array, tensor or Quantity, or an mdtraj trajectory.

    Returns:
        (m', 3 n_atoms − 6), float32.

    Raises:
        InputError: if the frames are not the molecule's, more than 1 % had to be left out, or fewer than ten differ.

    Warns:
        UserWarning: if some were left out, fewer than half differ, or their energy is that of another temperature or
            force field.
    """
    coordinates = getattr(target, "bijection", None)
    if not isinstance(coordinates, InternalCoordinates):
        got = type(target).__name__ if coordinates is None else f"one on {type(coordinates).__name__}"
        raise InputError(
            f"target must be a Pullback on InternalCoordinates; got {got}: "
            "write Pullback(molecule.energy(temperature), InternalCoordinates(molecule))"
        )
    y, x = in_chart(coordinates, frames)
    different = len(np.unique(y.numpy(force=True), axis=0))
    if different < FEWEST:
        raise InputError(
            f"frames must be at least {FEWEST} different ones; got {different}: take more of the simulation"
        )
    if 2 * different < len(y):
        warnings.warn(
            f"only {different} of {len(y)} frames differ, so that they tell less than their number: check that none "
            "were written twice",
            UserWarning,
            stacklevel=2,
        )
    temperature = _temperature(target.inner, coordinates.molecule, x)
    if not _STRANGE[0] < temperature / target.temperature < _STRANGE[1]:
        warnings.warn(
            f"the energy of the frames is that of about {temperature:.0f} K and not {target.temperature:g} K: check "
            "their temperature, force field, solvent and constraints",
            UserWarning,
            stacklevel=2,
        )
    return y.float()


def _temperature(energy: Energy, molecule: Molecule, x: Tensor) -> float:
    """By equipartition about the minimum: ⟨U⟩ = U_min + (3N − 6) kT / 2, exact for a harmonic molecule."""
    u = energy.energy(x[:: max(1, len(x) // _JUDGED)])
    lowest = energy.energy(torch.tensor(molecule.minimized().positions).to(x)[None])
    above = float(u[torch.isfinite(u)].mean() - lowest) * energy.temperature
    return above / (0.5 * (3 * molecule.n_atoms - 6))
