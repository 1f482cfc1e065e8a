"""Bond lengths, angles and dihedrals of many configurations at once.

Inside, arrays are batch-last, (3, atoms, n): the inner loop of every operation then runs over configurations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["angle", "azimuth", "dihedral", "distance", "wrap"]


def wrap(angle: Tensor) -> Tensor:
    """The same angle in [−π, π), rad."""
    return angle - 2 * math.pi * torch.floor((angle + math.pi) / (2 * math.pi))


def dihedral(x: Tensor, atoms: Sequence[int]) -> Tensor:
    """Dihedral angle of four atoms in [−π, π), rad; IUPAC's sign, that of mdtraj and OpenMM.

    Arguments:
        x: positions (n, n_atoms, 3).
        atoms: four atom indices.

    Returns:
        (n,).

    Example:
        >>> x = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]])
        >>> dihedral(x, (0, 1, 2, 3))
        tensor([1.5708])
    """
    a, b, c, d = (x[:, k].T for k in atoms)
    return azimuth(a, b, c, d)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Length of b − a, (3, …) → (…), nm."""
    return _norm(a - b)


def angle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Angle a-b-c at b, (3, …) → (…), in [0, π]."""
    v, w = a - b, c - b
    return torch.atan2(_norm(torch.linalg.cross(v, w, dim=0)), (v * w).sum(0))


def azimuth(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Dihedral a-b-c-d, the angle by which a is turned about b → c against d, (3, …) → (…), in [−π, π)."""
    u, v, w = b - a, c - b, d - c
    m, n = torch.linalg.cross(u, v, dim=0), torch.linalg.cross(v, w, dim=0)
    return wrap(torch.atan2((u * n).sum(0) * _norm(v), (m * n).sum(0)))


def _norm(v: Tensor) -> Tensor:
    return v.square().sum(0).sqrt()
