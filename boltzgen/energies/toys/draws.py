"""The random numbers behind the toys' exact draws."""

from __future__ import annotations

import torch
from torch import Tensor

from ...arguments import counts

__all__ = ["uniform"]


def uniform(n: int, d: int, seed: int) -> Tensor:
    """Uniform numbers on (0, 1), (n, d) in float64; row i depends on the seed and i only.

    Raises:
        InputError: if the seed is not a non-negative integer.
    """
    (seed,) = counts(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, d, dtype=torch.float64, generator=generator).clamp_min(2.0**-54)
