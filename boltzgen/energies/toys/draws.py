"""The random numbers behind the toys' exact draws."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import InputError

__all__ = ["uniform"]


def uniform(n: int, d: int, seed: int) -> Tensor:
    """Uniform numbers on (0, 1), (n, d) in float64; row i depends on the seed and i only.

    Raises:
        InputError: if the seed is not a non-negative integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"a seed must be a non-negative integer; got {seed!r}: pass e.g. seed=1")
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, d, dtype=torch.float64, generator=generator).clamp_min(2.0**-54)
