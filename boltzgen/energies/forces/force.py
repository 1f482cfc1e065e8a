"""What every compiled force is: parameters in both precisions, and an energy of each frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import openmm.unit
from torch import Tensor

from ..parameters import Parameters
from .geometry import Frames

__all__ = ["Force", "numbers"]


class Force(Parameters, ABC):
    """Potential energy U(x) of one OpenMM force over a batch of frames, in kJ/mol.

    A subclass registers its parameters with `constants`, one row per term, and writes `forward`.

    Attributes:
        atoms: for terms between a few atoms, their indices: firsts, seconds, ..., (n_atoms_of_a_term, n_terms).
    """

    atoms: Tensor

    @abstractmethod
    def forward(self, frames: Frames) -> Tensor:
        """U of each frame, (n,), in kJ/mol."""


def numbers(parameters: Any) -> list[Any]:
    """OpenMM's parameters of one term without their units: nm, kJ/mol, rad, e."""
    system = openmm.unit.md_unit_system
    return [p.value_in_unit_system(system) if hasattr(p, "unit") else p for p in parameters]
