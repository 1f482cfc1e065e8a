"""Positions of atoms that have given bond lengths, angles and azimuths, and what forces on them mean for these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .zmatrix import Row

__all__ = ["Placement"]


class Placement(nn.Module):
    """Positions of all atoms from bond lengths, angles and azimuths: the tree of a z-matrix, grown by generations.

    Every atom carries an orthonormal frame (e, m, k): e points back to the atom it hangs on, m lies in the plane of the
    atom behind that one, k = m × e. An atom at r, θ, φ from another stands at

        x = o + r d,   d = cos θ e + sin θ w,   w = cos φ m + sin φ k,

    and its own frame is (−d, sin θ e − cos θ w, cos φ k − sin φ m): a chain of rotations, without a root or a division,
    hence smooth everywhere. Siblings share a frame, so that the depth is that of the bond graph; atoms that carry no
    others come last, all at once. Beyond a straight angle the frame (m, −e, k) takes the place of (e, m, k): the line
    is then at θ = π/2, φ = 0, far from the poles.

    Arguments:
        rows: a z-matrix; the azimuth of a sibling is here its own, not relative to the first one's.
    """

    _grown: Tensor
    _parents: Tensor
    _straight: Tensor
    _place: Tensor
    _atoms: Tensor
    _bonds: Tensor
    _beyond: Tensor

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__()
        number = {row.atom: i for i, row in enumerate(rows)}
        carrying = {row.bond for row in rows}
        depth = {rows[0].atom: 0, rows[1].atom: 0}
        for row in rows[2:]:
            depth[row.atom] = depth[row.bond] + 1
        carriers = [row for row in rows[2:] if row.atom in carrying]
        families = [[row for row in carriers if depth[row.atom] == k] for k in range(1, 1 + max(depth.values()))]
        families = [*filter(None, families), [row for row in rows[2:] if row.atom not in carrying]]
        frames = [rows[0].atom, rows[1].atom]
        everyone, parents = list(frames), []
        for family in families:
            frames = everyone if family is families[-1] else frames
            parents += [frames.index(row.bond) for row in family]
            frames = [row.atom for row in family]
            everyone = everyone + frames
        grown = [row for family in families for row in family]
        # How many atoms each family has, and whether any of them lies beyond a straight angle.
        self._families = [(len(family), any(row.kind == "linear" for row in family)) for family in families]
        self._ties = [row[:2] for row in reversed(rows[1:])]
        order = torch.tensor([number[row.atom] - 2 for row in grown])
        self._constant("_grown", torch.cat([order, order + len(order), order + 2 * len(order)]))
        self._constant("_parents", torch.tensor(parents))
        self._constant("_straight", torch.tensor([row.kind == "linear" for row in grown])[:, None])
        self._constant("_place", torch.tensor(everyone).argsort())
        self._constant("_atoms", torch.tensor([row.atom for row in rows]))
        by_atom = sorted(rows)
        self._constant("_bonds", torch.tensor([max(row.bond, 0) for row in by_atom]))  # the root has none
        self._constant("_beyond", torch.tensor([row.kind == "linear" for row in by_atom])[:, None])

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def forward(self, r: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
        """Positions (3, n_atoms, n) from r (n_atoms − 1, n), θ and φ (n_atoms − 2, n), in the order of the rows."""
        if torch.is_grad_enabled() and (r.requires_grad or theta.requires_grad or phi.requires_grad):
            function = _Placed if torch.compiler.is_compiling() else _PlacedWithTangent  # torch.compile traces no jvp
            x: Tensor = function.apply(r, theta, phi, self)[0]  # type: ignore[no-untyped-call]
            return x
        return self._by_atom([frames[9:] for frames in self._frames(r, theta, phi)])

    def _by_atom(self, families: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        return torch.cat(families, 1).index_select(1, self._place)

    def place(self, r: Tensor, theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, e and k of every atom, (3, n_atoms, n) each."""
        e, _, k, x = zip(*(frames.chunk(4) for frames in self._frames(r, theta, phi)), strict=True)
        return self._by_atom(x), self._by_atom(e), self._by_atom(k)

    def _frames(self, r: Tensor, theta: Tensor, phi: Tensor) -> list[Tensor]:
        """e, m, k and x of the root and the first atom, then of each family, (12, atoms, n)."""
        one, zero = torch.ones_like(r[0]), torch.zeros_like(r[0])
        root = [one, zero, zero, zero, one, zero, zero, zero, -one, zero, zero, zero]
        first = [-one, zero, zero, zero, one, zero, zero, zero, one, r[0], zero, zero]
        frames = torch.stack([torch.stack(pair) for pair in zip(root, first, strict=True)])
        everyone = [frames]
        length, theta, phi = torch.cat([r[1:], theta, phi]).index_select(0, self._grown).chunk(3)  # by families
        sizes = [born for born, _ in self._families]
        columns = (self._parents, self._straight, length, theta.cos(), theta.sin(), phi.cos(), phi.sin())
        cut = zip(*(torch.split(v, sizes) for v in columns), strict=True)
        for (_, beyond), (parents, straight, r, ct, st, cp, sp) in zip(self._families, cut, strict=True):
            if len(everyone) == len(self._families):
                frames = torch.cat(everyone, 1)
            e, m, k, o = frames.index_select(1, parents).chunk(4)  # (3, atoms here, n) each
            if beyond:
                e, m = torch.where(straight, m, e), torch.where(straight, -e, m)
            w = cp * m + sp * k
            d = ct * e + st * w
            frames = torch.cat([-d, st * e - ct * w, cp * k - sp * m, o + r * d])
            everyone.append(frames)
        return everyone

    def pull(self, x: Tensor, e: Tensor, k: Tensor, forces: Sequence[Tensor | None]) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients with respect to r, θ and φ, given those with respect to x, e and k, (3, n_atoms, n) each.

        All that hangs on an atom moves with it as one body. With F the sum of the forces on it, T that of the torques,

            ∂r = d·F,   ∂θ = −k·(T − o × F),   ∂φ = −e·(T − o × F),

        where d and k are of the atom's own frame, o and e of that which it is placed in (m beyond a straight angle).
        """
        force = torch.zeros_like(x) if forces[0] is None else forces[0]
        torque = _cross(x, force)
        for axis, f in zip((e, k), forces[1:], strict=True):
            torque = torque if f is None else torque + _cross(axis, f)
        bodies = list(torch.cat([force, torque]).unbind(1))
        for atom, bond in self._ties:
            bodies[bond] = bodies[bond] + bodies[atom]
        force, torque = torch.stack(bodies, 1).chunk(2)
        lever = torque - _cross(x.index_select(1, self._bonds), force)
        axis = e.index_select(1, self._bonds)
        if any(beyond for _, beyond in self._families):
            axis = torch.where(self._beyond, _cross(e, k).index_select(1, self._bonds), axis)  # m = e × k
        found = (-(v * f).sum(0) for v, f in ((e, force), (k, lever), (axis, lever)))
        by_row = [v.index_select(0, self._atoms) for v in found]
        return by_row[0][1:], by_row[1][2:], by_row[2][2:]


class _Placed(torch.autograd.Function):
    """`Placement.place`, with `Placement.pull` for a gradient: of closed form, hence differentiable itself."""

    generate_vmap_rule = True

    @staticmethod
    def forward(r: Tensor, theta: Tensor, phi: Tensor, placement: Placement) -> tuple[Tensor, Tensor, Tensor]:
        return placement.place(r, theta, phi)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.placement = inputs[3]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, *forces: Tensor | None) -> tuple[Tensor | None, ...]:
        return *ctx.placement.pull(*ctx.saved_tensors, forces), None


class _PlacedWithTangent(_Placed):
    """The same, to be differentiated forwards as well: `pull` is linear in the forces, and this is its transpose."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _Placed.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*output)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        saved = ctx.saved_tensors
        pulls: tuple[Tensor, ...]
        pulls, push = torch.func.vjp(  # type: ignore[misc]
            lambda *forces: ctx.placement.pull(*saved, forces), *saved
        )
        given = (torch.zeros_like(p) if t is None else t for p, t in zip(pulls, tangents[:3], strict=True))
        found: tuple[Tensor, ...] = push(tuple(given))
        return found


def _cross(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.linalg.cross(a, b, dim=0)
    return product
