"""Rotors folded onto one sector, amines onto one side: coordinates of period 2π, the labelling in the chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .geometry import wrap
from .symmetry import Rotor
from .zmatrix import Row

__all__ = ["Folding"]


class Folding(nn.Module):
    """The coordinate y = k (ψ − ψ₀) of rotors of k = 2 or 3 branches, and the relabelling into the chart.

    ψ is the mean of the branches' azimuths, τ of the first plus 1/k times those of its siblings relative to it: a turn
    by 2π/k, which only relabels the branches, adds 2π/k to it exactly, however they are bent.

    Arguments:
        rotors: a rotor before those it carries along, each with its first branch on a circular torsion.
        rows: the z-matrix.
        tau: torsions of the reference structure, (N − 3, 1), those of siblings in the chart.
        exchanges: first and sibling of two hydrogens that are exchanged where the sibling is on the other side.
    """

    _turns: Tensor
    _order: Tensor
    _weights: Tensor
    _phase: Tensor
    _pairs: Tensor
    _beside: Tensor
    _side: Tensor

    def __init__(
        self, rotors: Sequence[Rotor], rows: Sequence[Row], tau: Tensor, exchanges: Sequence[tuple[int, ...]] = ()
    ) -> None:
        super().__init__()
        column = {row.atom: i for i, row in enumerate(rows[3:])}
        orders = [len(rotor.members) for rotor in rotors]
        # First branch and siblings; a rotor of two repeats its only sibling, with weight 0.
        turns = [[column[rotor.members[min(j, len(rotor.members) - 1)]] for rotor in rotors] for j in range(3)]
        self._constant("_turns", torch.tensor(turns, dtype=torch.long))
        self._constant("_order", torch.tensor(orders, dtype=torch.float64)[:, None])
        weights = [[1 / k for k in orders], [1 / k if k == 3 else 0.0 for k in orders]]
        self._constant("_weights", torch.tensor(weights, dtype=torch.float64)[..., None])
        self._constant("_phase", torch.zeros(len(rotors), 1, dtype=torch.float64))
        self._phase.copy_(self._psi(tau))
        self._stages: list[int] = []  # k of each
        for s, stage in enumerate(_stages(rotors, rows)):
            cycles = [(owner, cycle) for owner, i in enumerate(stage) for cycle in rotors[i].cycles]
            self._constant(f"_rotors{s}", torch.tensor(stage))
            self._constant(f"_owners{s}", torch.tensor([owner for owner, _ in cycles]))
            self._constant(f"_cycles{s}", torch.tensor([cycle for _, cycle in cycles]))
            self._stages.append(orders[stage[0]])
        self._constant("_pairs", torch.tensor(list(exchanges), dtype=torch.long).reshape(-1, 2).T)
        self._constant("_beside", torch.tensor([column[sibling] for _, sibling in exchanges], dtype=torch.long))
        self._constant("_side", tau[self._beside].sin().sign())

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def _siblings(self, tau: Tensor) -> Tensor:
        weights = self._weights.to(tau)
        return weights[0] * tau[self._turns[1]] + weights[1] * tau[self._turns[2]]

    def _psi(self, tau: Tensor) -> Tensor:
        """ψ − ψ₀ of each rotor, (rotors, n)."""
        return tau[self._turns[0]] + self._siblings(tau) - self._phase.to(tau)

    @property
    def sectors(self) -> list[float]:
        """k ψ₀ of each rotor, in [−π, π): where its sectors begin."""
        found: list[float] = wrap(self._order * self._phase)[:, 0].tolist()
        return found

    def fold(self, tau: Tensor) -> Tensor:
        """Torsions (N − 3, n) with y in the place of the first branch's."""
        folded = wrap(self._order.to(tau) * self._psi(tau))
        return tau.index_copy(0, self._turns[0], folded)

    def unfold(self, tau: Tensor) -> Tensor:
        """The inverse of `fold`, in the sector of the reference."""
        first = wrap(tau[self._turns[0]]) / self._order.to(tau) + self._phase.to(tau) - self._siblings(tau)
        return tau.index_copy(0, self._turns[0], first)

    def into_chart(self, x: Tensor, torsions: Callable[[Tensor], Tensor]) -> Tensor:
        """x (3, N, n), the branches of each rotor in the places of those that many sectors back, amines on their side.

        Arguments:
            torsions: measures τ (N − 3, n) of x, those of siblings in the chart.
        """
        for s, k in enumerate(self._stages):
            rotors, owners, cycles = (getattr(self, f"_{what}{s}") for what in ("rotors", "owners", "cycles"))
            psi = self._psi(torsions(x))[rotors]
            sector = torch.floor((psi + math.pi / k) / (2 * math.pi / k)).nan_to_num(0.0).long()[owners]
            order = torch.arange(x.shape[1], device=x.device)[:, None].repeat(1, x.shape[2])
            for j in range(k):
                order[cycles[:, j]] = cycles.gather(1, (j - sector) % k)
            x = x.gather(1, order.expand_as(x))
        if self._pairs.numel():
            other = torsions(x)[self._beside].sin() * self._side.to(x) < 0
            first, sibling = self._pairs[..., None]
            order = torch.arange(x.shape[1], device=x.device)[:, None].repeat(1, x.shape[2])
            order[self._pairs[0]] = torch.where(other, sibling, first)
            order[self._pairs[1]] = torch.where(other, first, sibling)
            x = x.gather(1, order.expand_as(x))
        return x


def _stages(rotors: Sequence[Rotor], rows: Sequence[Row]) -> list[list[int]]:
    """Numbers of the rotors that can be relabelled at once: of one order, none carried along by another."""
    row_of = {row.atom: row for row in rows}
    moved = [{atom for cycle in rotor.cycles for atom in cycle} for rotor in rotors]
    stages: list[list[int]] = []
    for i, rotor in enumerate(rotors):
        own = {*rotor.members, *row_of[rotor.members[0]][:4]}
        after = max((s + 1 for s, stage in enumerate(stages) if any(own & moved[j] for j in stage)), default=0)
        alike = (s for s in range(after, len(stages)) if len(rotors[stages[s][0]].members) == len(rotor.members))
        place = next(alike, len(stages))
        if place == len(stages):
            stages.append([])
        stages[place].append(i)
    return stages
