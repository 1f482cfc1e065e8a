"""Whether an energy stays as it is when the molecule moves as a whole, which internal coordinates leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..energies.openmm_energy import OpenMMEnergy
from ..energies.openmm_system import fields
from ..errors import UnsupportedSystemError

if TYPE_CHECKING:
    from ..molecule import Molecule

__all__ = ["refuse_fields"]

_UNMOVED = 1e-6  # relative change of an energy that rigid motion leaves as it is, by rounding


def refuse_fields(molecule: Molecule, x: Tensor) -> None:
    """Refusal of an energy that changes under rigid motion, which these coordinates leave out."""
    names = fields(molecule.system) if hasattr(molecule, "system") else []
    if not names:
        return
    turn = torch.tensor([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]], dtype=x.dtype)
    energy = OpenMMEnergy(molecule.system, 300.0, platform="Reference")
    u, moved = energy.energy(torch.cat([x, x @ turn.T + 0.3])).tolist()
    if not abs(moved - u) <= _UNMOVED * (1 + abs(u)):
        raise UnsupportedSystemError(
            f"a molecule's energy must not change as it moves as a whole, which internal coordinates leave out; got "
            f"{moved - u:+.3g} kT for one such motion, with {', '.join(names)}: leave the field or restraint out, or "
            "sample positions with a flow of your own"
        )
