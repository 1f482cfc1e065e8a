"""Rounds for a flow in two parts: the law of its torsions learns by weights, the rest given the torsions by forces."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..autosave import Autosave
from ..flows.autoregressive import Autoregressive
from ..flows.bijection import Composition
from ..flows.coupling import Coupling
from ..flows.flow import Flow
from ..flows.noise import keyed_generator
from ..processes import ranks
from .fresh_draws import Draws, frozen, mean_of_finite, pathwise
from .objectives import divergence, forward_kl
from .rounds import BATCH, STEP_ESS, Rounds
from .trust import boundary, effective_fraction

__all__ = ["PartedRounds", "has_parts"]

REST_RATE, MARGINAL_RATE, COLD_MARGINAL_RATE, WHOLE_RATE = 0.8, 1.0, 0.4, 0.2
"""of the learning rate: for the rest, for the marginal law before and at the cold temperature, for both together."""
DRAWS, STEPS = 512, 16
"""draws of a step along the forces, and such steps of a round."""
PASSES = 3
"""for the marginal law: as many rows as this many times the draws of a round."""
RECENT = 64
"""rounds at the cold temperature whose draws the marginal law learns from."""
REMEMBER = 4
"""every so many steps, draws of the marginal law as it was after the first stage."""
WEIGHT_DECAY = 0.05
"""so that the law of one torsion changes smoothly with those before it, however long the training."""
SOFTEN = 100.0
"""kT above a batch's median from which a draw counts logarithmically."""
_LAYERS = (Coupling, Autoregressive)
"""of a marginal law: they say which dimensions they transform, and which they are given."""


class Gathered(NamedTuple):
    """The draws of a round.

    Attributes:
        x, log_q: (n, d), (n,).
        log_w, potential: log-weights at the round's temperature and what it divides, (n,), float64.
        own: which are the flow's own, (n,); the others have x_A from the early law.
    """

    x: Tensor
    log_q: Tensor
    log_w: Tensor
    potential: Tensor
    own: Tensor


class PartedRounds(Rounds):
    """Rounds for q(x) = q(x_A) q(x_B | x_A), the same at every temperature.

    By the chain rule KL(p‖q) is that of the marginal law of x_A plus the mean of that of x_B given x_A. Where wells are
    wells of x_A, as with torsions, the second has none: forces tell all about it, at a learning rate at which they
    would empty rare wells if they moved x_A too. The first is of few dimensions, and weights tell it what wells weigh.

    A quarter of the draws has x_A from the marginal law as it was after the first stage, mostly a hot one. So
    what is given x_A stays right wherever a well was found, however little it weighs now; and the weights, those of
    the mixture of both marginal laws (Owen & Zhou, 2000), see rare wells in many draws.

    At the cold temperature the marginal law learns from the draws of many rounds, while these have effective samples
    enough: they keep their weights, those of p(x_A) against the mixture they came from, whatever becomes of the flow,
    and one round has few of a rare well. The whole flow learns by weights there too, for what forces leave out: heavy
    tails. The noise of the score is left out near the target alone (`drawn_log_q`): far from it the flow leaves, within
    a round, the law that its draws came from, and what should take out noise then drives it away from all it has seen.

    Attributes:
        dims: of x_A, those that the leading layers transform or are given.
        somewhere: a point (1, d) whose x_B go with every x_A.
        recent: of the last rounds at the cold temperature x_A, the log-weights, and log q(x_A) of the mixture.
    """

    constant = ("guard", "recent")
    kind = "in parts, decaying"
    weight_decay = WEIGHT_DECAY

    def __init__(self, flow: Flow, *arguments: Any) -> None:
        super().__init__(flow, *arguments)
        assert flow.marginal is not None
        self.marginal, layers = flow.marginal, flow.bijection
        assert isinstance(layers, Composition)
        first = copy.deepcopy(self.marginal.bijection)
        assert isinstance(first, Composition)
        leading = first.steps()
        steps = leading + layers.steps()[len(leading) :]
        self.hot_flow = Flow(flow.base, Composition(steps), leading=len(leading))
        assert self.hot_flow.marginal is not None
        self.hot_marginal = self.hot_flow.marginal.requires_grad_(False)
        self.flows += [self.hot_flow]
        named = [layer for layer in leading if isinstance(layer, _LAYERS)]  # all of them: see has_parts
        dims = sorted({i for layer in named for i in [*layer.transformed, *layer.given]})
        self.dims = torch.tensor(dims, device=next(flow.parameters()).device)
        self.somewhere = flow.base.sample(1, generator=keyed_generator(0))
        self.recent: list[tuple[Tensor, ...]] = []

    def state_dict(self) -> dict[str, Any]:
        # last the other's, which within a round is all of what was at its beginning
        return {"hot_marginal": self.hot_marginal.state_dict(), "recent": self.recent, **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.hot_marginal.load_state_dict(state["hot_marginal"])
        self.recent = [tuple(part.to(self.dims.device) for part in weighed) for weighed in state["recent"]]

    def round(self, autosave: Autosave) -> Tensor:
        index = len(self.history.rounds)
        if index == 0:
            self.hot_marginal.load_state_dict(self.marginal.state_dict())
        drawn = self.along_forces(index, autosave)
        log_w = drawn.log_w[drawn.own]
        following = self.next_temperature(log_w, drawn.potential[drawn.own])
        self.note(log_w, following, len(drawn.x))
        self.by_weights(index, drawn, following, autosave)
        self.temperature = following
        self.arrive()
        return log_w

    def along_forces(self, index: int, autosave: Autosave) -> Gathered:
        """Fresh draws, from which the law of x_B given x_A learns along the forces."""
        target, steps = self.target.at(self.temperature), []
        remembered = [k % REMEMBER == REMEMBER - 1 for k in range(STEPS)]
        for k, early in enumerate(remembered):
            with frozen(self.marginal):
                flow, noise = self.hot_flow if early else self.flow, keyed_generator(self.seed, 1, index, k)
                draws = pathwise(flow, target, DRAWS, generator=noise)
            steps.append((draws.x, draws.log_q, draws.log_w, draws.potential.double()))
            self.history.training_samples += DRAWS
            self.learn(mean_of_finite(draws.loss, SOFTEN) if early else symmetric(draws), REST_RATE, autosave)
        x, log_q, log_w, potential = (torch.cat(part) for part in zip(*steps, strict=True))
        log_w, potential = self.usable(log_w, potential)
        own = ~torch.tensor(remembered, device=x.device).repeat_interleave(DRAWS)
        return Gathered(x, log_q, log_w, potential, own)

    def by_weights(self, index: int, drawn: Gathered, following: float, autosave: Autosave) -> None:
        """The marginal law learns from the draws, weighted to the next temperature; once that is cold, all of it."""
        x, log_q, log_w, potential, own = drawn
        x_a = x[:, self.dims]
        log_own, log_now, log_mixture = self.laws(self.alone(x_a), own)
        log_p = log_w + (log_own - log_now) + (1.0 - self.temperature / following) * potential
        log_p = torch.where(log_w.isneginf(), log_w, log_p)
        log_share = torch.where(log_w.isneginf(), 0.0, log_now - log_mixture)
        near = self.settled and effective_fraction(log_p + log_share) >= STEP_ESS
        log_w = self.shared_out(log_p, log_share)
        pool: tuple[Tensor, ...] = (x_a, log_w, log_mixture)
        if self.settled:
            self.recent = [*self.recent, (x_a, log_p + log_share, log_mixture)][-RECENT:]
            recent = tuple(torch.cat(part) for part in zip(*self.recent, strict=True))
            if effective_fraction(recent[1]) >= STEP_ESS:
                pool = recent
        for rows in batches(pool[1], PASSES * len(x), keyed_generator(self.seed, 1, index, STEPS)):
            some_a, some_w, some_q = (part[rows] for part in pool)
            loss = forward_kl(self.marginal, self.alone(some_a), some_w, drawn_log_q=some_q if near else None)
            self.learn(loss, COLD_MARGINAL_RATE if self.settled else MARGINAL_RATE, autosave)
        if self.settled:
            log_q = log_q + log_mixture - log_own
            self.history.training_samples += len(x)
            for rows in batches(log_w, len(x), keyed_generator(self.seed, 1, index, STEPS + 1)):
                loss = forward_kl(self.flow, x[rows], log_w[rows], drawn_log_q=log_q[rows] if near else None)
                self.learn(loss, WHOLE_RATE, autosave)

    def alone(self, x_a: Tensor) -> Tensor:
        """x with these x_A and one and the same x_B, where the marginal law has its density up to a constant."""
        return self.somewhere.expand(len(x_a), -1).index_copy(1, self.dims, x_a)

    @staticmethod
    def shared_out(log_p: Tensor, log_share: Tensor) -> Tensor:
        """Log-weights β log(p/q) + log(q/mixture), with the highest β ≤ 1 at which enough draws count.

        So q is where it shall be, whatever β, once it is the target.
        """

        def weights(beta: float) -> Tensor:
            return torch.where(log_p.isneginf(), log_p, beta * log_p + log_share)

        return weights(boundary(lambda beta: effective_fraction(weights(beta)) >= STEP_ESS, 0.0, 1.0))

    @torch.no_grad()
    def laws(self, x: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log q(x_A) of the law each row was drawn from, of the present one and of the mixture of both.

        All three up to the same function of x_B.
        """

        def rows(mine: slice) -> tuple[Tensor, ...]:
            parts = [
                (self.marginal.log_prob(some), self.hot_marginal.log_prob(some)) for some in torch.split(x[mine], BATCH)
            ]
            return tuple(torch.cat(part) for part in zip(*parts, strict=True))

        now, hot = ranks().shared(rows, len(x))
        share = float(own.double().mean())
        mixture = torch.logaddexp(now + math.log(share), hot + math.log(1 - share))
        return torch.where(own, now, hot), now, mixture


def batches(log_w: Tensor, n: int, noise: torch.Generator) -> list[Tensor]:
    """n rows in random order, all before any again, a batch at a time, without batches of no weight at all."""
    orders = [torch.randperm(len(log_w), generator=noise) for _ in range(0, n, len(log_w))]
    order = torch.cat(orders)[:n].to(log_w.device)
    return [rows for rows in order.view(-1, BATCH) if log_w[rows].isfinite().any()]


def has_parts(flow: Flow) -> bool:
    """Whether a marginal law, of layers that name their dimensions, and a rest can learn, and the base does not."""
    if flow.marginal is None or any(p.requires_grad for p in flow.base.parameters()):
        return False
    layers = flow.marginal.bijection
    if not (isinstance(layers, Composition) and all(isinstance(layer, _LAYERS) for layer in layers.steps())):
        return False
    first = {id(p) for p in flow.marginal.parameters()}
    learning = {id(p) in first for p in flow.parameters() if p.requires_grad}
    return learning == {True, False}


def symmetric(draws: Draws) -> Tensor:
    """½ KL(q‖p) + ½ KL(p‖q) along the path (Jeffreys, 1946), softened and as far as the draws can be trusted."""
    return 0.5 * (mean_of_finite(draws.loss, SOFTEN) + divergence(draws, alpha=1.0, trust=STEP_ESS))
