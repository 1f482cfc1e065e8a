"""Rounds for a flow in two parts: the law of its torsions learns by weights, the rest given the torsions by forces."""

from __future__ import annotations

import torch
from torch import Tensor

from ..flows.flow import Flow
from ..flows.noise import keyed_generator
from ..processes import ranks
from .autosave import Autosave
from .history import Round
from .objectives import Draws, divergence, forward_kl, frozen, mean_of_finite, pathwise
from .rounds import BATCH, COLD_DECAY, DECAY, SETTLE_BATCH, SETTLE_STEPS, SOFTEN, STEP_ESS, Rounds, effective, some
from .trust import effective_fraction, raised, trusted

__all__ = ["PartedRounds", "has_parts"]

REST_RATE, MARGINAL_RATE = 0.8, 0.6
"""of the learning rate, for the rest and for the marginal law."""
PASSES = 6
"""times the marginal law sees the draws of a round."""


class PartedRounds(Rounds):
    """Rounds for q(x) = q(x_A) q(x_B | x_A), the same at every temperature.

    By the chain rule KL(p‖q) is that of the marginal law of x_A plus the mean of that of x_B given x_A. Where all wells
    are wells of x_A, as with torsions, the second has no wells: forces tell all about it, at a learning rate at which
    they would empty rare wells if they moved x_A too. The first is of few dimensions, and what a well weighs is just
    what weights say well.
    """

    def round(self, autosave: Autosave) -> None:
        marginal = self.flow.marginal
        assert marginal is not None
        index, target, drawn = len(self.history.rounds), self.target.at(self.temperature), list[Draws]()
        decay = DECAY if self.cold_start is None else COLD_DECAY
        message = effective(self.history.rounds[-1].ess) if index else "first draws"

        def learn(loss: Tensor, rate: float) -> None:
            self.step(loss, rate * self.learning_rate * self.fall(), decay, message)
            autosave()

        for k in range(SETTLE_STEPS):
            with frozen(marginal):
                draws = pathwise(self.flow, target, SETTLE_BATCH, generator=keyed_generator(self.seed, 1, index, k))
            drawn.append(draws._replace(loss=draws.loss.detach()))
            self.history.training_samples += SETTLE_BATCH
            learn(symmetric(draws), REST_RATE)
        x, _, loss, potential = (torch.cat(part) for part in zip(*drawn, strict=True))
        draws = Draws(x, loss, loss, potential)
        log_w, potential = some(draws.log_w, self.temperature), potential.double()
        potential = torch.where(log_w.isfinite(), potential, 0.0)
        following = self.next_temperature(log_w, potential)
        ess = effective_fraction(log_w)
        self.history.rounds.append(Round(self.temperature, ess, following, len(x), self.budget.seconds))
        log_w = log_w + (1.0 - self.temperature / following) * potential
        log_w = raised(log_w, trusted(log_w, STEP_ESS))
        with torch.no_grad():
            (log_q,) = ranks().shared(lambda mine: (marginal.log_prob(x[mine]),), len(x))
        for k in range(PASSES):
            order = torch.randperm(len(x), generator=keyed_generator(self.seed, 1, index, SETTLE_STEPS + k))
            for rows in order.to(x.device).view(-1, BATCH):
                loss = forward_kl(marginal, x[rows], log_w[rows], drawn_log_q=log_q[rows])
                learn(loss, MARGINAL_RATE)
        self.temperature = following
        self.arrive()


def has_parts(flow: Flow) -> bool:
    """Whether a flow has a marginal law and a rest that can both learn."""
    if flow.marginal is None:
        return False
    first = {id(p) for p in flow.marginal.parameters()}
    learning = {id(p) in first for p in flow.parameters() if p.requires_grad}
    return learning == {True, False}


def symmetric(draws: Draws) -> Tensor:
    """½ KL(q‖p) + ½ KL(p‖q) along the path (Jeffreys, 1946): the first half keeps up what now has little weight."""
    reverse = mean_of_finite(draws.loss, SOFTEN)
    return 0.5 * (reverse + divergence(draws, alpha=1.0, trust=STEP_ESS))
