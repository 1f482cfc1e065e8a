"""What every compiled force is: parameters in both precisions, and an energy of each frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, cast

import numpy as np
import openmm.unit
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .geometry import Frames

__all__ = ["Force", "numbers"]

_SUFFIX = {torch.float32: "_float32", torch.float64: "_float64"}


class Force(nn.Module, ABC):
    """Potential energy U(x) of one OpenMM force over a batch of frames, in kJ/mol.

    A subclass registers its parameters with `constants`, one row per term, and writes `forward`. They are kept in
    float64 and, rounded, in float32: the evaluation runs in the precision of the frames, at no cost per call, and
    moving the module to another dtype changes nothing.

    Attributes:
        atoms: for terms between a few atoms, their indices: firsts, seconds, ..., (n_atoms_of_a_term, n_terms).
    """

    atoms: Tensor

    def constants(self, **values: ArrayLike) -> None:
        """Register real parameters, for `read`, or integer ones, which become attributes."""
        for name, value in values.items():
            array = torch.from_numpy(np.ascontiguousarray(value))
            if array.is_floating_point():
                for dtype, suffix in _SUFFIX.items():
                    self.register_buffer(name + suffix, array.to(dtype), persistent=False)
            else:
                self.register_buffer(name, array.long(), persistent=False)

    def read(self, dtype: torch.dtype, *names: str) -> list[Tensor]:
        """Real parameters in one precision, in the order of their names."""
        return [cast(Tensor, getattr(self, name + _SUFFIX[dtype])) for name in names]

    @abstractmethod
    def forward(self, frames: Frames) -> Tensor:
        """U of each frame, (n,), in kJ/mol."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(lambda t: t.to(fn(t).device), recurse)  # type: ignore[no-untyped-call]
        return self


def numbers(parameters: Any) -> list[Any]:
    """OpenMM's parameters of one term without their units: nm, kJ/mol, rad, e."""
    system = openmm.unit.md_unit_system
    return [p.value_in_unit_system(system) if hasattr(p, "unit") else p for p in parameters]
