"""Rounds for a flow of every temperature in two parts: forces teach what is given the torsions, weights their law."""

from __future__ import annotations

import torch
from torch import Tensor

from ..autosave import Autosave
from ..flows.noise import keyed_generator
from ..processes import ranks
from .fresh_draws import Draws, frozen, pathwise
from .objectives import forward_kl
from .parted import (
    COLD_MARGINAL_RATE,
    DRAWS,
    MARGINAL_RATE,
    PASSES,
    REST_RATE,
    STEPS,
    WEIGHT_DECAY,
    WHOLE_RATE,
    batches,
    symmetric,
)
from .ranges import RangeRounds
from .rounds import STEP_ESS
from .row_temperatures import context_of
from .trust import raised, trusted

__all__ = ["PartedRangeRounds"]

LADDER = (0.4, 0.7)
"""as that of all rounds; later, since the hot end is a part of what is learnt, and the hardest."""


class PartedRangeRounds(RangeRounds):
    """Rounds of a range for q(x | T) = q(x_A | T) q(x_B | x_A, T).

    As in `PartedRounds`, x_B given x_A learns along the forces and x_A by the weights, here at all temperatures
    of a round in every step. Draws of a law from before are not needed: the flow itself still knows the hot one. The
    noise of the score is left out in every step, not near the target alone.
    """

    ladder = LADDER
    kind = "of a range, in parts"
    weight_decay = WEIGHT_DECAY

    def round(self, autosave: Autosave) -> Tensor:
        flow, marginal, index = self.flow, self.flow.marginal, len(self.history.rounds)
        assert marginal is not None
        levels, steps = self.levels(index), []
        temperatures = levels.repeat_interleave(DRAWS // len(levels))
        for k in range(STEPS):
            noise = keyed_generator(self.seed, 1, index, k)
            with frozen(marginal):
                draws = pathwise(flow, self.target, DRAWS, generator=noise, temperatures=temperatures)
            columns = (draws.x, draws.log_q, draws.log_w, draws.potential.double())
            steps.append([_apart(column, len(levels)) for column in columns])
            self.history.training_samples += DRAWS
            self.learn(over_levels(draws, len(levels)), REST_RATE, autosave)
        x, log_q, log_w, potential = (torch.cat(part, 1) for part in zip(*steps, strict=True))
        x, log_q = x.flatten(0, 1), log_q.flatten()
        log_w, potential = self.usable(log_w, potential)
        n = log_w.shape[1]
        drawn_at = context_of(flow, levels.repeat_interleave(n))
        own = self.descend(log_w, potential)
        levels[0] = self.temperature
        context = context_of(flow, levels.repeat_interleave(n))
        weights = torch.cat([_shares(raised(w, trusted(w, STEP_ESS))) for w in log_w])

        def law(mine: slice) -> tuple[Tensor, ...]:
            return (marginal.log_prob(x[mine], drawn_at[mine]),)  # up to a function of x_B

        with torch.no_grad():
            (log_q_a,) = ranks().shared(law, len(x))
        for rows in batches(weights, PASSES * len(x), keyed_generator(self.seed, 1, index, STEPS)):
            loss = forward_kl(marginal, x[rows], weights[rows], context=context[rows], drawn_log_q=log_q_a[rows])
            self.learn(loss, COLD_MARGINAL_RATE if self.settled else MARGINAL_RATE, autosave)
        if self.settled:
            self.history.training_samples += len(x)
            for rows in batches(weights, len(x), keyed_generator(self.seed, 1, index, STEPS + 1)):
                loss = forward_kl(flow, x[rows], weights[rows], context=context[rows], drawn_log_q=log_q[rows])
                self.learn(loss, WHOLE_RATE, autosave)
        self.arrive()
        return own


def over_levels(draws: Draws, levels: int) -> Tensor:
    """The mean of `symmetric` over the levels, those of which no draw could be evaluated left out."""
    parts = [Draws(*columns) for columns in zip(*(_apart(column, levels) for column in draws), strict=True)]
    losses = [symmetric(part) for part in parts if part.loss.isfinite().any()]
    return torch.stack(losses).mean() if losses else draws.loss.sum() * torch.nan


def _apart(column: Tensor, levels: int) -> Tensor:
    """The rows of each level, (levels, n / levels, …)."""
    return column.reshape(levels, -1, *column.shape[1:])


def _shares(log_w: Tensor) -> Tensor:
    """Log-weights of a level normalised to one, and −inf throughout if no draw has any."""
    return log_w - log_w.logsumexp(0).clamp_min(-1e300)
