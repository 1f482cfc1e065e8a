"""The sum of forces whose gradients are written out: vectors are taken, and slopes given back, for all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from .force import BondedForce, PairForce
from .geometry import Frames

__all__ = ["total_with_gradient"]


def total_with_gradient(
    forces: Sequence[PairForce | BondedForce], frames: Frames
) -> tuple[Tensor, Callable[[], Tensor]]:
    """U of one or more forces together, (n,), and a function that gives ∂U/∂x, (n_atoms, 3, n)."""
    bonded = [force for force in forces if isinstance(force, BondedForce)]
    found, by_vectors, by_distances = [], [], []
    for force in forces:
        if isinstance(force, PairForce):
            U, slopes = force.evaluate(frames.distances(), frames.inverse_distances())
            found.append(U)
            by_distances.append(slopes)
    if bonded:
        heads, tails = (torch.cat([getattr(force, ends) for force in bonded]) for ends in ("heads", "tails"))
        sizes = [len(force.heads) for force in bonded]
        vectors = torch.split(frames.vectors(heads, tails), sizes)
        for force, some in zip(bonded, vectors, strict=True):
            U, slopes = force.evaluate(force.by_term(some))
            found.append(U)
            by_vectors.append(slopes)

    def gradient() -> Tensor:
        parts = []
        if by_vectors:
            parts.append(frames.spread(torch.cat([slopes().flatten(0, 1) for slopes in by_vectors]), heads, tails))
        if by_distances:
            parts.append(frames.spread_pairs(reduce(add, [slopes() for slopes in by_distances])))
        return reduce(add, parts)

    return reduce(add, found), gradient
