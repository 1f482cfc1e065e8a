"""Turns about bonds folded onto one sector, amines onto one side: coordinates of period 2π, labels in the chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import torch
from torch import Tensor, nn

from .geometry import wrap
from .neighbour_azimuths import NeighbourAzimuths
from .symmetry import Rotor
from .zmatrix import Row

__all__ = ["Folding", "foldable"]

Turns = Mapping[int, Sequence[Rotor]]  # rotors at the ends of bonds, as `find_rotors` returns them


class Folding(nn.Module):
    """The coordinate y = k (ψ − ψ₀) of bonds about which a turn by 2π/k only relabels atoms, and the relabelling.

    ψ is τ of the first branch plus the mean azimuth of the like branches at either end of the bond, relative to the
    first of them: a turn by 2π/k adds 2π/k to it exactly, however they are bent as long as they keep their order round
    the bond. Three at one end and two at the other, a methyl on a phenyl, make k = 6.

    Arguments:
        turns: rotors, all of them `foldable`.
        rows: the z-matrix.
        theta, tau: angles and torsions of the reference structure, (N − 2, 1) and (N − 3, 1), siblings' in the chart.
        exchanges: first and sibling of two hydrogens that are exchanged where the sibling is on the other side.
    """

    _turned: Tensor
    _order: Tensor
    _slots: Tensor
    _weights: Tensor
    _middle: Tensor
    _phase: Tensor
    _beside: Tensor
    _side: Tensor

    def __init__(
        self,
        turns: Turns,
        rows: Sequence[Row],
        theta: Tensor,
        tau: Tensor,
        exchanges: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__()
        column = {row.atom: i for i, row in enumerate(rows[3:])}
        orders = {first: _order(rotors) for first, rotors in turns.items()}
        self._constant("_turned", torch.tensor([column[first] for first in turns], dtype=torch.long))
        self._constant("_order", torch.tensor(list(orders.values()), dtype=torch.float64)[:, None])

        slots: list[list[tuple[int, float]]] = []  # of each turn: siblings' azimuths, by row, and their weights
        across: list[tuple[int, ...]] = []  # of siblings towards the root: no torsions of the z-matrix
        middle: list[float] = []
        for first, rotors in turns.items():
            slots.append([])
            _, b, a, behind, _ = rows[3 + column[first]]
            for rotor in rotors:
                for sibling in rotor.members[1:]:
                    place = column[sibling] if rotor.members[0] == first else len(tau) + len(across)
                    slots[-1].append((place, 1 / len(rotor.members)))
                    if rotor.members[0] != first:
                        across.append((sibling, a, b, behind))
                        middle.append(math.pi if len(rotor.members) == 2 else 0.0)
        most = max(map(len, slots), default=0)
        padded = [slot + [(0, 0.0)] * (most - len(slot)) for slot in slots]
        table = torch.tensor(padded, dtype=torch.float64).reshape(len(slots), most, 2)
        self._constant("_slots", table[..., 0].T.long())
        self._constant("_weights", table[..., 1].T[..., None])
        self._constant("_middle", torch.tensor(middle, dtype=torch.float64)[:, None])
        self._across = NeighbourAzimuths(across, rows)
        self._constant("_phase", torch.zeros(len(slots), 1, dtype=torch.float64))
        self._phase.copy_(self._psi(theta, tau))

        self._constant("_beside", torch.tensor([column[sibling] for _, sibling in exchanges], dtype=torch.long))
        self._constant("_side", tau[self._beside].sin().sign())

        rotors_of = [*turns.values(), *([Rotor(tuple(pair))] for pair in exchanges)]
        self._stages: list[tuple[int, bool]] = []  # k of each, and whether it is of exchanges
        for s, stage in enumerate(_stages(turns, rows, exchanges)):
            k = _order(rotors_of[stage[0]])
            cycles = [
                (owner, _repeated(cycle, k)) for owner in stage for rotor in rotors_of[owner] for cycle in rotor.cycles
            ]
            self._constant(f"_owners{s}", torch.tensor([owner for owner, _ in cycles]))
            self._constant(f"_cycles{s}", torch.tensor([cycle for _, cycle in cycles]))
            self._stages.append((k, stage[0] >= len(turns)))

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def _siblings(self, theta: Tensor, tau: Tensor) -> Tensor:
        """Mean azimuths of the branches relative to the first of them, those of both ends together, (turns, n)."""
        azimuths = tau
        if len(self._across):
            middle = self._middle.to(tau)
            azimuths = torch.cat([tau, middle + wrap(self._across(theta, tau) - middle)])
        mean = torch.zeros_like(tau[self._turned])
        for slot, weight in zip(self._slots, self._weights.to(tau), strict=True):
            mean = mean + weight * azimuths[slot]
        return mean

    def _psi(self, theta: Tensor, tau: Tensor) -> Tensor:
        """ψ − ψ₀ of each turn, (turns, n)."""
        return tau[self._turned] + self._siblings(theta, tau) - self._phase.to(tau)

    @property
    def sectors(self) -> list[float]:
        """k ψ₀ of each turn, in [−π, π): the middle of its sectors, times k."""
        found: list[float] = wrap(self._order * self._phase)[:, 0].tolist()
        return found

    def fold(self, theta: Tensor, tau: Tensor) -> Tensor:
        """Torsions (N − 3, n) with y in the place of the first branch's."""
        folded = wrap(self._order.to(tau) * self._psi(theta, tau))
        return tau.index_copy(0, self._turned, folded)

    def unfold(self, theta: Tensor, tau: Tensor) -> Tensor:
        """The inverse of `fold`, in the sector of the reference."""
        turned = wrap(tau[self._turned]) / self._order.to(tau)
        first = turned + self._phase.to(tau) - self._siblings(theta, tau)
        return tau.index_copy(0, self._turned, first)

    def into_chart(self, x: Tensor, measure: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """x (3, N, n), branches about each bond in the places of those that many sectors back, amines on their side.

        Arguments:
            measure: θ (N − 2, n) and τ (N − 3, n) of x, those of siblings in the chart.
        """
        for s, (k, exchange) in enumerate(self._stages):
            owners, cycles = getattr(self, f"_owners{s}"), getattr(self, f"_cycles{s}")
            theta, tau = measure(x)
            if exchange:
                owners = owners - len(self._turned)
                back = tau[self._beside].sin() * self._side.to(x) < 0
            else:
                back = torch.floor((self._psi(theta, tau) + math.pi / k) / (2 * math.pi / k)).nan_to_num(0.0)
            steps = back[owners].long()
            order = torch.arange(x.shape[1], device=x.device)[:, None].repeat(1, x.shape[2])
            for j in range(k):
                order[cycles[:, j]] = cycles.gather(1, (j - steps) % k)
            x = x.gather(1, order.expand_as(x))
        return x


def foldable(turns: Turns, rows: Sequence[Row], exchanges: Sequence[Sequence[int]] = ()) -> dict[int, list[Rotor]]:
    """Those rotors that can be folded one after another, those about the same bond of orders that are coprime.

    What goes along with a torsion always can be. Branches towards the root carry with them what other torsions are
    measured against, these perhaps what the first is measured against: where that is a circle, they are left out.
    """
    kept = {first: [rotor for rotor in rotors if rotor.members[0] == first] for first, rotors in turns.items()}
    for first, rotors in turns.items():
        for rotor in rotors:
            if math.gcd(len(rotor.members), _order(kept[first])) == 1:
                more = kept | {first: [*kept[first], rotor]}
                try:
                    _stages(more, rows, exchanges)
                except CycleError:
                    continue
                kept = more
    return {first: rotors for first, rotors in kept.items() if rotors}


def _stages(turns: Turns, rows: Sequence[Row], exchanges: Sequence[Sequence[int]]) -> list[list[int]]:
    """Numbers of turns, and behind them of exchanges, that can be relabelled at once: all of one kind and order, and
    after whatever carries along the atoms that they are measured by.

    Raises:
        CycleError: if they cannot be put in such an order.
    """
    own_row = {row.atom: row[:4] for row in rows}
    measured = [{*own_row[first]}.union(*(rotor.members for rotor in rotors)) for first, rotors in turns.items()]
    measured += [{*own_row[sibling]} for _, sibling in exchanges]
    moved = [{k for rotor in rotors for cycle in rotor.cycles for k in cycle} for rotors in turns.values()]
    moved += [{*pair} for pair in exchanges]
    kinds = [*map(_order, turns.values()), *[0] * len(exchanges)]
    each = range(len(kinds))
    sorter = TopologicalSorter({i: [j for j in each if j != i and measured[i] & moved[j]] for i in each})
    sorter.prepare()
    stages = []
    while sorter.is_active():
        ready = sorter.get_ready()
        stages += [[i for i in ready if kinds[i] == kind] for kind in sorted({kinds[i] for i in ready})]
        sorter.done(*ready)
    return stages


def _order(rotors: Sequence[Rotor]) -> int:
    return math.prod(len(rotor.members) for rotor in rotors)


def _repeated(cycle: tuple[int, ...], k: int) -> tuple[int, ...]:
    """The cycle gone round until it has k atoms, in steps such that one of 2π/k leads from each to the next."""
    step = pow(k // len(cycle), -1, len(cycle))
    return tuple(cycle[step * j % len(cycle)] for j in range(k))
