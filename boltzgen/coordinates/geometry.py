"""Bond lengths, angles and dihedrals of many configurations at once, and the placement of atoms that have given ones.

Inside, arrays are batch-last, (3, atoms, n): the inner loop of every operation then runs over configurations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .zmatrix import Row

__all__ = ["Placement", "angle", "azimuth", "dihedral", "distance", "wrap"]


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


class Placement(nn.Module):
    """Positions of all atoms from bond lengths, angles and azimuths: the tree of a z-matrix, grown by generations.

    Every atom that others hang on carries an orthonormal frame (e, m, k): e points back to the atom it hangs on, m lies
    in the plane of the atom behind that one, k = m × e. An atom at r, θ, φ from it stands at

        x = o + r d,   d = cos θ e + sin θ w,   w = cos φ m + sin φ k,

    and its own frame is (−d, sin θ e − cos θ w, cos φ k − sin φ m): a chain of rotations, without a root or a division,
    hence smooth everywhere. Siblings share a frame, so that the depth is that of the bond graph. Beyond a straight
    angle the frame (m, −e, k) takes the place of (e, m, k): the line is then at θ = π/2, φ = 0, far from the poles.

    Arguments:
        rows: a z-matrix; the azimuth of a sibling is here its own, not relative to the first one's.
    """

    _parents: Tensor
    _straight: Tensor
    _grown: Tensor
    _back: Tensor

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__()
        number = {row.atom: i for i, row in enumerate(rows)}
        carrying = {row.bond for row in rows}
        depth = {rows[0].atom: 0, rows[1].atom: 0}
        for row in rows[2:]:
            depth[row.atom] = depth[row.bond] + 1
        frames = [rows[0].atom, rows[1].atom]
        placed, parents = list(frames), []
        # How many atoms, how many of them (they are first) carry others, and whether any lies beyond a straight angle.
        self._generations: list[tuple[int, int, bool]] = []
        straight: list[bool] = []
        for generation in range(1, max(depth.values()) + 1):
            born = [row for row in rows[2:] if depth[row.atom] == generation]
            born.sort(key=lambda row: row.atom not in carrying)
            place = {atom: i for i, atom in enumerate(frames)}
            parents += [place[row.bond] for row in born]
            frames = [row.atom for row in born if row.atom in carrying]
            beyond = [row.kind == "linear" for row in born]
            self._generations.append((len(born), len(frames), any(beyond)))
            straight += beyond
            placed += [row.atom for row in born]
        grown = torch.tensor([number[atom] - 2 for atom in placed[2:]])
        n = len(grown)
        self.register_buffer("_parents", torch.tensor(parents), persistent=False)
        self.register_buffer("_straight", torch.tensor(straight)[:, None], persistent=False)
        self.register_buffer("_grown", torch.cat([grown, grown + n, grown + 2 * n]), persistent=False)
        self.register_buffer("_back", torch.tensor(placed).argsort(), persistent=False)

    def forward(self, r: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
        """Positions (3, n_atoms, n) from r (n_atoms − 1, n), θ and φ (n_atoms − 2, n), in the order of the rows."""
        one, zero = torch.ones_like(r[0]), torch.zeros_like(r[0])
        root = [one, zero, zero, zero, one, zero, zero, zero, -one, zero, zero, zero]
        first = [-one, zero, zero, zero, one, zero, zero, zero, one, r[0], zero, zero]
        frames = torch.stack([torch.stack(pair) for pair in zip(root, first, strict=True)])  # e, m, k, o: (12, 2, n)
        placed = [frames[9:]]
        length, theta, phi = torch.cat([r[1:], theta, phi]).index_select(0, self._grown).chunk(3)  # by generations
        sizes = [born for born, _, _ in self._generations]
        columns = (self._parents, self._straight, length, theta.cos(), theta.sin(), phi.cos(), phi.sin())
        # Cut up at once: the gradient of one slice after another would cost atoms × generations.
        cut = zip(*(torch.split(v, sizes) for v in columns), strict=True)
        for (_, carrying, beyond), (parents, straight, r, ct, st, cp, sp) in zip(self._generations, cut, strict=True):
            e, m, k, o = frames.index_select(1, parents).chunk(4)  # (3, atoms here, n) each
            if beyond:
                e, m = torch.where(straight, m, e), torch.where(straight, -e, m)
            w = cp * m + sp * k
            d = ct * e + st * w
            x = o + r * d
            placed.append(x)
            if carrying:
                frame = [-d, st * e - ct * w, cp * k - sp * m, x]
                frames = torch.cat([v[:, :carrying] for v in frame])
        return torch.cat(placed, 1).index_select(1, self._back)
