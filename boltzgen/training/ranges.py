"""Rounds for a flow of every temperature: draws from all over the range reached, each learnt where it was drawn."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..autosave import Autosave
from ..energies.energy import Energy
from ..flows.flow import Flow
from ..flows.noise import BLOCK, keyed_generator
from ..processes import ranks
from .rounds import STEP_ESS, Rounds
from .row_temperatures import context_of, evaluated
from .trust import raised, trusted

__all__ = ["RangeRounds"]

LEVELS = 8
"""temperatures of a round: the lowest reached, the highest, and others between."""


class RangeRounds(Rounds):
    """Rounds in which a flow for every temperature, q(x | T), learns all of those between the present one and `hot`.

    The draws of a round come from as many temperatures in equal numbers, and teach by their weights at these; those of
    the lowest are weighted to the next one, as in all rounds. Nothing learnt at a high temperature is forgotten further
    down, and what is learnt at one temperature serves its neighbours.
    """

    kind = "of a range"

    def __init__(self, flow: Flow, target: Energy, hot: float, *arguments: Any) -> None:
        super().__init__(flow, target, hot, *arguments)
        self.first = flow.at(hot)
        self.flows += [self.first]

    def levels(self, index: int) -> Tensor:
        """The temperatures of a round, rising: the ends of what has been reached, and one in each interval between.

        One alone, which all draws then have, before there is a range.
        """
        if self.temperature == self.hot:
            return torch.tensor([self.hot], dtype=torch.float64)
        u = torch.rand(LEVELS - 2, dtype=torch.float64, generator=keyed_generator(self.seed, 3, index))
        height = torch.cat([torch.zeros(1), (torch.arange(LEVELS - 2) + u) / (LEVELS - 2), torch.ones(1)])
        return self.temperature * (self.hot / self.temperature) ** height

    def round(self, autosave: Autosave) -> Tensor:
        index = len(self.history.rounds)
        levels = self.levels(index)
        x, log_w, potential = self.draws(index, levels, autosave)
        own = self.descend(log_w, potential)
        levels[0] = self.temperature
        share = torch.cat([torch.softmax(raised(w, trusted(w, STEP_ESS)), 0).nan_to_num(0.0) for w in log_w])
        context = context_of(self.flow, levels.repeat_interleave(log_w.shape[1]))
        self.fit(x, share, keyed_generator(self.seed, 1, index), autosave, context=context)
        self.arrive()
        return own

    def descend(self, log_w: Tensor, potential: Tensor) -> Tensor:
        """Notes a round, goes down to its next temperature, and weights the lowest level to it, in place.

        Arguments:
            log_w, potential: (levels, n).

        Returns:
            The log-weights of the lowest level before, (n,).
        """
        own, before = log_w[0].clone(), self.temperature
        following = self.next_temperature(own, potential[0])
        self.note(own, following, log_w.numel())
        self.temperature = following
        log_w[0] += (1.0 - before / following) * potential[0]
        return own

    @torch.no_grad()
    def draws(self, index: int, levels: Tensor, autosave: Autosave) -> tuple[Tensor, Tensor, Tensor]:
        """Draws (m, *event), as many from each level, and their log-weights and potential there, (levels, n).

        Weight 0 where they fail.
        """
        seed = keyed_generator(self.seed, 2, index).initial_seed()
        parts, of_block = [], levels.repeat_interleave(LEVELS // len(levels))

        def rows(k: int, mine: slice) -> tuple[Tensor, ...]:
            temperatures = of_block[k].repeat(BLOCK)
            context = context_of(self.flow, temperatures)
            x, log_q = self.flow.sample_blocks(seed, [k], rows=mine, context=context)
            self.target.evaluations.energy += BLOCK - len(x)  # those of the other processes
            u, potential = evaluated(self.target, x, temperatures[mine])
            return x, (-u - log_q).double(), potential.double()

        with self.learner.averaged():
            for k in range(LEVELS):
                parts.append(ranks().shared(partial(rows, k), BLOCK))
                autosave()
        x, log_w, potential = (torch.cat(part) for part in zip(*parts, strict=True))
        return x, *self.usable(log_w.view(len(levels), -1), potential.view(len(levels), -1))
