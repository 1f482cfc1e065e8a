"""How the neighbours of an atom lie about the bond to any one of them, from angles and torsions alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .geometry import azimuth
from .zmatrix import Row

__all__ = ["NeighbourAzimuths"]


class NeighbourAzimuths(nn.Module):
    """Azimuths (a, b, c, d) of atoms a, c and d that are all neighbours of b, as `azimuth` measures them.

    In a z-matrix all neighbours of b but one have an angle θ and an azimuth φ about the bond to that one, which is the
    pole: their directions are (sin θ cos φ, −sin θ sin φ, cos θ).

    Arguments:
        quadruples: a, b, c, d each, none of them beyond a straight angle.
        rows: the z-matrix; all but one of a, c, d are placed at b.
    """

    _polar: Tensor
    _around: Tensor

    def __init__(self, quadruples: Sequence[tuple[int, ...]], rows: Sequence[Row]) -> None:
        super().__init__()
        # Rows of θ and φ, behind a row of zeros for the pole and for the φ of what others are measured against.
        polar = {rows[1].atom: 0} | {row.atom: i for i, row in enumerate(rows[2:], start=1)}
        around = {row.atom: i if row.kind == "sibling" else 0 for i, row in enumerate(rows[3:], start=1)}
        placed = {(row.atom, row.bond) for row in rows[2:]}

        def places(k: int, b: int) -> tuple[int, int]:
            return (polar[k], around.get(k, 0)) if (k, b) in placed else (0, 0)

        table = [[places(k, b) for k in (a, c, d)] for a, b, c, d in quadruples]
        polar_rows, around_rows = torch.tensor(table, dtype=torch.long).reshape(-1, 3, 2).permute(2, 1, 0)
        self.register_buffer("_polar", polar_rows, persistent=False)
        self.register_buffer("_around", around_rows, persistent=False)

    def __len__(self) -> int:
        return self._polar.shape[1]

    def forward(self, theta: Tensor, tau: Tensor) -> Tensor:
        """Of angles (N − 2, n) and torsions (N − 3, n), those of siblings relative: (len(self), n), in [−π, π)."""
        nought = torch.zeros_like(theta[:1])
        theta, phi = torch.cat([nought, theta])[self._polar], torch.cat([nought, tau])[self._around]
        a, c, d = torch.stack([theta.sin() * phi.cos(), -theta.sin() * phi.sin(), theta.cos()], dim=1)
        return azimuth(a, torch.zeros_like(a), c, d)
