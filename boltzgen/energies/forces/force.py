"""What every compiled force is: parameters in both precisions, and an energy of each frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import openmm.unit
from numpy.typing import NDArray
from torch import Tensor

from ..parameters import Parameters
from .geometry import Frames
from .gradient import evaluate

__all__ = ["BondedForce", "Force", "PairForce", "numbers"]


class Force(Parameters, ABC):
    """Potential energy U(x) of one OpenMM force over a batch of frames, in kJ/mol.

    A subclass registers its parameters with `constants`, one row per term, and writes `forward`. One that is a
    `PairForce` or a `BondedForce` writes its gradient as well, which takes a fraction of autograd's time.

    Attributes:
        atoms: for terms between a few atoms, their indices: firsts, seconds, ..., (n_atoms_of_a_term, n_terms).
        bytes_per_pair: what an energy and its gradient take at their height, for each frame and pair of atoms in
            float32; measured.
    """

    atoms: Tensor
    bytes_per_pair: int = 80

    @abstractmethod
    def forward(self, frames: Frames) -> Tensor:
        """U of each frame, (n,), in kJ/mol."""


class PairForce(Force):
    """U as a function of the distances of all pairs, whose slopes a subclass writes out with it, in `evaluate`."""

    @abstractmethod
    def evaluate(self, r: Tensor, inverse: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """U, (n,), and a function that gives ∂U/∂r, for r and 1/r of all pairs, (n_pairs, n) each.

        Both are made of differentiable operations.
        """

    def forward(self, frames: Frames) -> Tensor:
        return evaluate(lambda r: self.evaluate(r, 1 / r), frames.distances())


class BondedForce(Force):
    """U as a sum over terms, functions of vectors between a few atoms, whose slopes are written out in `evaluate`.

    Attributes:
        heads, tails: the atoms where the vectors end and begin, those of the first term, of the second, ...
    """

    heads: Tensor
    tails: Tensor

    def between(self, heads: NDArray[Any], tails: NDArray[Any]) -> None:
        """Register where the first, second, ... vectors of the terms end and begin, (n_vectors, n_terms) each."""
        self.constants(heads=heads.T.flatten().astype(np.int64), tails=tails.T.flatten().astype(np.int64))
        self._n_vectors = len(heads)

    @abstractmethod
    def evaluate(self, vectors: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """U, (n,), and a function that gives its slopes by the vectors, like these (n_terms, n_vectors, 3, n).

        Both are made of differentiable operations.
        """

    def forward(self, frames: Frames) -> Tensor:
        return self.evaluate(self.by_term(frames.vectors(self.heads, self.tails)))[0]

    def by_term(self, vectors: Tensor) -> Tensor:
        """The argument of `evaluate` from all vectors from tail to head, (n_terms · n_vectors, 3, n)."""
        return vectors.view(len(self.heads) // self._n_vectors, self._n_vectors, *vectors.shape[1:])


def numbers(parameters: Any) -> list[Any]:
    """OpenMM's parameters of one term without their units: nm, kJ/mol, rad, e."""
    system = openmm.unit.md_unit_system
    return [p.value_in_unit_system(system) if hasattr(p, "unit") else p for p in parameters]
