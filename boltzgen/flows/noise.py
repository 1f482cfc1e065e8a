"""Randomness that depends on a key and nothing else."""

from __future__ import annotations

import numpy as np
import torch

from ..errors import InputError

__all__ = ["BLOCK", "keyed_generator"]

BLOCK = 1024
"""Rows drawn from one key: draw i of a seed is row i mod BLOCK of block i // BLOCK."""


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by the integers of the key, independent of every other key's.

    Arguments:
        key: non-negative integers, e.g. a seed and the index of a block.

    Raises:
        InputError: if a part of the key is not a non-negative integer.

    Example:
        >>> a, b = keyed_generator(1, 0), keyed_generator(1, 0)
        >>> bool(torch.rand((), generator=a) == torch.rand((), generator=b))
        True

    References:
        O'Neill (2015), the hash behind `numpy.random.SeedSequence`.
    """
    parts = []
    for part in key:
        if isinstance(part, bool) or not isinstance(part, (int, np.integer)) or part < 0:
            raise InputError(f"a seed must be a non-negative integer; got {part!r}: pass e.g. seed=1")
        parts.append(int(part))
    # the length goes first, because SeedSequence takes (1,) and (1, 0) for the same
    seed = np.random.SeedSequence([len(parts), *parts]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))
