"""The rounds of an annealing: draws of the flow, weighed at the temperature it has or the next, and what it learns."""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..autosave import Autosave
from ..checkpoint import load_if_there
from ..energies.energy import Energy
from ..errors import EnergyError
from ..flows.flow import Flow
from ..flows.noise import BLOCK, keyed_generator
from ..processes import ranks
from ..progress import Show, silent
from .budget import Budget
from .compilation import Compilation
from .guard import Guard
from .history import History, Round
from .learner import Learner
from .loop import cosine
from .objectives import estimated_divergence, forward_kl, reverse_kl
from .trust import boundary, effective_fraction, raised, trusted

__all__ = ["Rounds", "in_words", "require_weight"]

HOT_BATCH = 512
BATCH = 1024
HOT_SHARE = 0.1
"""of the budget, for the first stage: reverse KL at the hot temperature, or forward KL on data."""
LADDER = (0.1, 0.6)
"""shares of the budget between which no flow stays above the geometric path from hot to cold."""
BUFFER = 4 * BLOCK
"""draws in the buffer of a round."""
PASSES = 2
"""times a fit sees its buffer."""
STEP_ESS = 0.45
"""least effective sample fraction of a buffer at the temperature it is fitted to."""
RATE = 0.4
"""of the learning rate, for the rounds; at the cold temperature it falls from there."""
DECAY, COLD_DECAY = 0.99, 0.998
"""of the running average of the parameters, above the cold temperature and at it."""
SOFTEN = 20.0
"""kT above the batch's median from which the hot loss is logarithmic."""


class Rounds:
    """The state of one annealing, which `run` changes and a checkpoint holds; its rounds teach all of a flow alike.

    Each is a buffer of draws, from which the flow learns by their weights.

    Attributes:
        flows: that are drawn from.
        first: what the first stage teaches.
        constant: parts of the state that are replaced, never changed, so that they need not be copied.
        kind: of rounds; no checkpoint of another kind is taken up.
        decay, cold_decay: of the running average of the parameters, above the cold temperature and at it.
        weight_decay: of the learner.
    """

    ladder = LADDER
    decay, cold_decay = DECAY, COLD_DECAY
    constant: tuple[str, ...] = ("guard",)
    kind = "by weights"
    weight_decay = 0.0

    def __init__(
        self,
        flow: Flow,
        target: Energy,
        hot: float,
        cold: float,
        data: Tensor | None,
        learning_rate: float,
        seed: int,
        fingerprint: str,
    ) -> None:
        self.flow, self.target, self.hot, self.cold, self.data = flow, target, hot, cold, data
        self.learning_rate, self.seed = learning_rate, seed
        self.fingerprint = f"{fingerprint} anneal {self.kind} {hot!r} {cold!r} {learning_rate!r} {seed}"
        if data is not None:
            self.fingerprint += f" {hashlib.sha256(data.numpy(force=True).tobytes()).hexdigest()}"
        self.flows, self.first = [flow], flow
        self.learner, self.guard = Learner(flow, weight_decay=self.weight_decay), Guard()
        self.history = History()
        self.temperature = hot
        self.first_step: float | None = None
        self.hot_done = False
        self.cold_start: float | None = None
        self.round_start: dict[str, Any] | None = None
        self.show: Show = silent
        self.watch: Callable[[History], None] = lambda history: None
        self.compilation: Compilation | None = None

    def resume(self, checkpoint: str | os.PathLike[str] | None, *, steps: int | None, minutes: float | None) -> None:
        """Takes up the checkpoint if there is one, and opens the budget."""
        state = (
            None
            if checkpoint is None
            else ranks().first(partial(load_if_there, checkpoint, fingerprint=self.fingerprint))
        )
        if state is not None:
            self.load_state_dict(state)
        self.budget = Budget(
            steps=steps,
            minutes=minutes,
            spent_steps=self.learner.steps + self.learner.skipped,
            spent_seconds=self.history.seconds,
        )
        ledger = self.target.evaluations
        self.ledger_start = (ledger.energy - self.history.energy, ledger.gradient - self.history.gradient)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.history = History.from_state(state["history"])
        self.temperature, self.hot_done = state["temperature"], state["hot_done"]
        self.first_step, self.cold_start = state["first_step"], state["cold_start"]
        self.guard.load_state_dict(state["guard"])

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which `resume` goes on to the same bits: within a round, from its beginning."""
        if self.round_start is not None:
            return self.round_start
        self.account()
        return {
            "learner": self.learner.state_dict(),
            "history": self.history.state_dict(),
            "temperature": self.temperature,
            "first_step": self.first_step,
            "hot_done": self.hot_done,
            "cold_start": self.cold_start,
            "guard": self.guard.state_dict(),
        }

    def account(self) -> None:
        """Brings time and ledger of the history up to date."""
        ledger = self.target.evaluations
        self.history.energy = ledger.energy - self.ledger_start[0]
        self.history.gradient = ledger.gradient - self.ledger_start[1]
        self.history.seconds = self.budget.seconds
        self.history.skipped, self.history.taken_back = self.learner.skipped, self.guard.taken_back
        if self.compilation is not None:
            self.history.compiled = self.compilation.how

    @property
    def spent(self) -> float:
        """Share of the budget that is spent, of what compilation had left of it."""
        assert self.first_step is not None
        return (self.budget.fraction - self.first_step) / (1.0 - self.first_step)

    @property
    def settled(self) -> bool:
        """Whether the cold temperature was reached before this round."""
        return self.cold_start is not None

    @property
    def finished(self) -> bool:
        """Whether the budget is spent, and the cold temperature was reached all the same."""
        return self.settled and self.budget.fraction >= 1

    def run(self, autosave: Autosave) -> None:
        self.budget.tick()
        self.account()
        if self.first_step is None:
            self.first_step = min(self.budget.fraction, 0.9)
        if not self.hot_done:
            self.begin(autosave)
            self.hot_done = True
            self.learner.start_phase()
        while not self.finished:
            settled = self.settled
            state = self.state_dict()
            constant = {name: state.pop(name) for name in self.constant}
            self.round_start = {**copy.deepcopy(state), **constant}
            log_w = self.round(autosave)
            if settled:
                self.guard.look(log_w, self.learner, self.round_start["learner"])
            self.account()
            self.round_start = None
            autosave()
        self.guard.finish(self.learner)
        self.account()
        autosave.finish()

    def learn(self, loss: Tensor, rate: float, autosave: Autosave) -> None:
        """A step of a round, at a share of the learning rate."""
        message = in_words(self.history.rounds[-1]) if self.history.rounds else "first draws"
        decay = self.cold_decay if self.settled else self.decay
        self.step(loss, rate * self.learning_rate * self.fall(), decay, message)
        autosave()

    def step(self, loss: Tensor, rate: float, decay: float, message: str = "") -> None:
        taken = len(self.history.losses)
        self.history.losses.append(self.learner.step(loss, rate, decay=min(decay, (taken + 1) / (taken + 10))))
        self.budget.spent_steps += 1
        self.budget.tick()
        hot = f"{self.temperature:.0f} K" if self.target.temperature != 1 else f"T {self.temperature:.3g}"
        words = [hot, f"loss {self.history.losses[-1]:.3g}", *([message] if message else [])]
        words += [f"{self.learner.skipped} skipped"] * bool(self.learner.skipped)
        words += [f"taken back {self.history.taken_back} times"] * bool(self.history.taken_back)
        self.show(min(self.budget.fraction, 0.999), ", ".join(words), count=len(self.history.losses))
        if self.compilation is not None and self.hot_done:  # a pause would count as time of the first stage
            self.compilation.look()
        self.account()
        self.watch(self.history)

    def begin(self, autosave: Autosave) -> None:
        """The first stage: reverse KL at the hot temperature, or forward KL on the data."""
        target = self.target.at(self.hot)
        while (spent := self.spent / HOT_SHARE) < 1:
            k = len(self.history.losses)
            noise = keyed_generator(self.seed, 0, k)
            if self.data is None:
                loss = reverse_kl(self.first, target, HOT_BATCH, soften=SOFTEN, generator=noise)
                self.history.training_samples += HOT_BATCH
            else:
                rows = torch.randint(len(self.data), (BATCH,), generator=noise)
                loss = forward_kl(self.first, self.data[rows])
                self.history.training_samples += BATCH
            rate = self.learning_rate * min(1.0, (k + 1) / 100) * cosine(spent)
            self.step(loss, rate, DECAY)
            autosave()

    def round(self, autosave: Autosave) -> Tensor:
        """One buffer, the choice of the next temperature, and the fit to it.

        Returns the log-weights of the draws that are the flow's own, at the temperature before.
        """
        index = len(self.history.rounds)
        x, log_q, log_w, potential = self.buffer(index, autosave)
        following, to_learn = self.lesson(log_q, log_w, potential)
        self.note(log_w, following, BUFFER)
        self.temperature = following
        self.fit(x, torch.softmax(to_learn, 0), keyed_generator(self.seed, 1, index), autosave)
        self.arrive()
        return log_w

    def note(self, log_w: Tensor, following: float, draws: int) -> None:
        """Enters a round in the history, by the log-weights of the flow's own draws at its temperature."""
        ess, kl = effective_fraction(log_w), float(estimated_divergence(log_w, 0.0))
        self.history.rounds.append(Round(self.temperature, ess, following, draws, self.budget.seconds, kl))

    def fit(
        self, x: Tensor, share: Tensor, noise: torch.Generator, autosave: Autosave, *, context: Tensor | None = None
    ) -> None:
        """Forward KL on rows taken as often as their share says, `PASSES` times as many as there are."""
        chosen = torch.multinomial(share.cpu(), PASSES * len(x), replacement=True, generator=noise)
        for rows in chosen.to(x.device).view(-1, BATCH):
            loss = forward_kl(self.flow, x[rows], context=None if context is None else context[rows])
            self.history.training_samples += BATCH
            self.learn(loss, RATE, autosave)

    def lesson(self, log_q: Tensor, log_w: Tensor, potential: Tensor) -> tuple[float, Tensor]:
        """The next temperature, and log-weights of the draws by which the flow learns the law it shall have there."""
        following = self.next_temperature(log_w, potential)
        log_w = log_w + (1.0 - self.temperature / following) * potential
        return following, raised(log_w, trusted(log_w, STEP_ESS))

    def arrive(self) -> None:
        """Notes when the cold temperature was reached, from where on the learning rate falls."""
        if not self.settled and self.temperature <= self.cold:
            self.cold_start = min(self.budget.fraction, 0.99)

    def fall(self) -> float:
        """What is left of the learning rate."""
        if self.cold_start is None:
            return 1.0
        return self.guard.pace * cosine((self.budget.fraction - self.cold_start) / (1.0 - self.cold_start))

    @torch.no_grad()
    def buffer(self, index: int, autosave: Autosave) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draws (m, *event), log q, and log-weights and potential at the present temperature; weight 0 if they fail."""
        target, parts = self.target.at(self.temperature), []
        seed = keyed_generator(self.seed, 2, index).initial_seed()

        def rows(block: int, mine: slice) -> tuple[Tensor, ...]:
            x, log_q = self.flow.sample_blocks(seed, [block], rows=mine)
            target.evaluations.energy += BLOCK - len(x)  # those of the other processes
            u, _, potential = target.evaluate(x)
            return x, log_q.double(), (-u - log_q).double(), potential.double()

        with self.learner.averaged():
            for block in range(BUFFER // BLOCK):
                parts.append(ranks().shared(partial(rows, block), BLOCK))
                autosave()
        x, log_q, log_w, potential = (torch.cat(part) for part in zip(*parts, strict=True))
        return x, log_q, *self.usable(log_w, potential)

    def usable(self, log_w: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
        """Both without what is not finite: such draws have no weight. Refused if none has any, (n,) or (levels, n)."""
        good = torch.isfinite(log_w) & torch.isfinite(potential)
        log_w = torch.where(good, log_w, -torch.inf)
        require_weight(log_w if log_w.ndim == 1 else log_w[0], self.temperature)
        return log_w, torch.where(good, potential, 0.0)

    def next_temperature(self, log_w: Tensor, potential: Tensor) -> float:
        """The lowest temperature at which the buffer keeps its effective sample fraction, within bounds."""

        def kept(temperature: float) -> bool:
            return effective_fraction(log_w + (1.0 - self.temperature / temperature) * potential) >= STEP_ESS

        lowest = boundary(kept, self.temperature, self.cold)
        return max(self.cold, min(lowest, self.on_path()))

    def on_path(self) -> float:
        """The temperature that the geometric path from hot to cold has reached by now."""
        first, last = self.ladder
        share = min(max((self.spent - first) / (last - first), 0.0), 1.0)
        return self.hot * math.exp(share * math.log(self.cold / self.hot)) if share < 1 else self.cold


def require_weight(log_w: Tensor, temperature: float) -> Tensor:
    """The log-weights again, refused if every weight is zero."""
    if log_w.isneginf().all():
        raise EnergyError(
            f"some draws of the flow must have a finite energy; got none of {len(log_w)} at {temperature:g} K: "
            "start hotter, train longer, or start from data with forward_kl"
        )
    return log_w


def in_words(last: Round) -> str:
    """What a round has seen of the flow."""
    return f"ESS {100 * last.ess:.1f} %, KL {last.kl:.3g}"
