"""From a hot temperature, where no well is lost, down to the one wanted, by fits to the flow's own weighted draws."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import EnergyError, InputError
from ..flows.noise import BLOCK, keyed_generator
from ..progress import Show, show, silent
from ..units import positive_temperature
from .budget import Budget
from .checkpoint import checkpoint_exists, load_checkpoint, save_checkpoint
from .compilation import Compile, compiled
from .history import History, Round
from .learner import Learner
from .loop import cosine
from .objectives import forward_kl, reverse_kl

if TYPE_CHECKING:
    from ..energies import Energy
    from ..flows import Flow

__all__ = ["anneal"]

HOT_BATCH = 512
BATCH = 1024
HOT_SHARE = 0.2
"""of the budget, for reverse KL at the hot temperature."""
ROUND_SHARE = 0.045
"""of the budget, for one buffer and its fit."""
STEP_ESS = 0.45
"""effective sample fraction of a buffer at the next temperature."""
SMALLEST_STEP = 0.97
"""least cooling of a round, as a factor, however bad the flow."""
IMPROVEMENT = 1.1
"""factor by which a flow short of that must get better in a round to stay at its temperature."""
OVERRUN = 1.5
"""times the budget after which the rest of the way to the cold temperature is taken in one step."""
PASSES = 2.0
"""times a fit sees its buffer."""
BUFFER_LIMIT = 2**18
CLIPPED_SHARE = 1e-4
"""of a buffer's weights, the largest, cut to the least of them: in the loss only."""
SOFTEN = 20.0
"""kT above the batch's median from which the hot loss is logarithmic."""
_COMPILATION_PAYS_AFTER = (3600.0, 30_000)  # seconds, steps: compiling takes minutes, and so does its trial
_CHECKPOINT_SECONDS = 60.0


def anneal(
    flow: Flow,
    target: Energy,
    *,
    hot: float | None = None,
    cold: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    learning_rate: float = 2e-3,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    fingerprint: str = "",
    compile: Compile = "auto",
    progress: bool = True,
) -> History:
    """Trains a flow on an energy alone, from hot to cold; the flow is changed in place.

    1. Reverse KL at `hot`, where the barriers are low and the flow finds every well.
    2. Rounds: draw a buffer from the flow, weight it to the next lower temperature, fit the flow to it by weighted
       forward KL. The next temperature is the lowest at which the buffer keeps an effective sample fraction of 0.45.
       No gradient of the energy is needed, and a well once found keeps its weight.
    3. At `cold` the rounds go on while the learning rate falls, until the budget is spent.

    Buffers are drawn from the running average of the weights, which the flow ends with. In a fit the largest 1e-4 of
    the weights are cut; like the softening of the hot loss this never touches an estimate.

    Arguments:
        flow: the flow; for molecules one made by `molecular_flow` with scales of the hot temperature.
        target: the energy; `target.at(T)` is the same potential at another temperature.
        hot: temperature to start from, K; four times the cold one if None.
        cold: temperature to reach, K; the target's own if None.
        steps: budget in gradient steps: the result is then a function of the arguments alone; or
        minutes: budget in wall-clock minutes, compilation included.
        learning_rate: of the hot stage; the rounds use half of it.
        seed: of all noise.
        checkpoint: a file written at least once a round; if it exists, training goes on from it.
        fingerprint: of what is trained, kept in the checkpoint and compared.
        compile: "auto", "always" or "never"; see `compiled`.
        progress: whether to show progress on standard error.

    Returns:
        The record of the training, rounds and ledger included.

    Raises:
        EnergyError: if 100 steps in a row are not finite, or a buffer holds no draw that can be evaluated.
        CheckpointError: if the checkpoint is damaged or another run's.

    References:
        Schopmans & Friederich (2025), temperature-annealed Boltzmann generators (TA-BG); the ladder by effective
        sample size: Del Moral, Doucet, Jasra (2012).
    """
    cold = target.temperature if cold is None else positive_temperature(cold)
    hot = 4.0 * cold if hot is None else positive_temperature(hot)
    if hot < cold:
        raise InputError(f"hot must not be below cold; got hot={hot:g}, cold={cold:g}: pass hot=4 * cold or more")
    if flow.event_shape != target.event_shape:
        raise InputError(
            f"flow and target must have the same event shape; got {tuple(flow.event_shape)} and "
            f"{tuple(target.event_shape)}: build the flow for this target"
        )
    Budget(steps=steps, minutes=minutes)  # refuses a wrong budget before any work
    annealing = _Annealing(flow, target, hot, cold, learning_rate, seed, checkpoint, fingerprint)
    annealing.resume(steps, minutes)
    pays = (minutes or 0) * 60 >= _COMPILATION_PAYS_AFTER[0] or (steps or 0) >= _COMPILATION_PAYS_AFTER[1]
    if annealing.budget.fraction < 1:
        with (
            show("training", visible=progress) as annealing.show,
            compiled(flow, target, rows=(HOT_BATCH, BATCH), compile=compile, pays=pays) as how,
        ):
            annealing.history.compiled = how
            annealing.run()
    annealing.learner.keep_average()
    return annealing.history


class _Annealing:
    """The state of one annealing: what `run` changes and a checkpoint holds."""

    def __init__(
        self,
        flow: Flow,
        target: Energy,
        hot: float,
        cold: float,
        learning_rate: float,
        seed: int,
        checkpoint: str | os.PathLike[str] | None,
        fingerprint: str,
    ) -> None:
        fingerprint = f"{fingerprint} anneal {hot!r} {cold!r} {learning_rate!r} {seed}"
        self.flow, self.target, self.hot, self.cold = flow, target, hot, cold
        self.learning_rate, self.seed = learning_rate, seed
        self.checkpoint, self.fingerprint = checkpoint, fingerprint
        self.learner = Learner(flow)
        self.history = History()
        self.temperature = hot
        self.hot_done = False
        self.seconds_per_step = 0.0
        self.cold_start: float | None = None
        self.show: Show = silent

    def resume(self, steps: int | None, minutes: float | None) -> None:
        """Takes up the checkpoint if there is one, and opens the budget."""
        if self.checkpoint is not None and checkpoint_exists(self.checkpoint):
            state = load_checkpoint(self.checkpoint, fingerprint=self.fingerprint)
            self.learner.load_state_dict(state["learner"])
            self.history = History.from_state(state["history"])
            self.temperature, self.hot_done = state["temperature"], state["hot_done"]
            self.seconds_per_step, self.cold_start = state["seconds_per_step"], state["cold_start"]
        self.budget = Budget(
            steps=steps,
            minutes=minutes,
            spent_steps=self.learner.steps + self.learner.skipped,
            spent_seconds=self.history.seconds,
        )
        ledger = self.target.evaluations
        self.ledger_start = (ledger.energy - self.history.energy, ledger.gradient - self.history.gradient)

    def save(self) -> None:
        ledger = self.target.evaluations
        self.history.energy = ledger.energy - self.ledger_start[0]
        self.history.gradient = ledger.gradient - self.ledger_start[1]
        self.history.seconds = self.budget.seconds
        self.history.skipped = self.learner.skipped
        self.last_save = time.monotonic()
        if self.checkpoint is not None:
            state = {
                "learner": self.learner.state_dict(),
                "history": self.history.state_dict(),
                "temperature": self.temperature,
                "hot_done": self.hot_done,
                "seconds_per_step": self.seconds_per_step,
                "cold_start": self.cold_start,
            }
            save_checkpoint(self.checkpoint, state, fingerprint=self.fingerprint)

    def run(self) -> None:
        self.last_save = time.monotonic()
        if not self.hot_done:
            self.heat()
            self.hot_done = True
            self.learner.start_phase()
            self.save()
        while self.temperature > self.cold or self.budget.fraction < 1:
            self.round()
            self.save()

    def step(self, loss: Tensor, rate: float, decay: float, message: str) -> None:
        taken = len(self.history.losses)
        self.history.losses.append(self.learner.step(loss, rate, decay=min(decay, (taken + 1) / (taken + 10))))
        self.budget.spent_steps += 1
        skipped = f", {self.learner.skipped} skipped" if self.learner.skipped else ""
        self.show(min(self.budget.fraction, 0.999), f"{self.temperature:.0f} K, {message}{skipped}")

    def heat(self) -> None:
        """Reverse KL at the hot temperature."""
        target = self.target.at(self.hot)
        begin, first = time.monotonic(), len(self.history.losses)
        while (spent := self.budget.fraction / HOT_SHARE) < 1:
            k = len(self.history.losses)
            noise = keyed_generator(self.seed, 0, k)
            loss = reverse_kl(self.flow, target, HOT_BATCH, soften=SOFTEN, generator=noise)
            rate = self.learning_rate * min(1.0, (k + 1) / 100) * cosine(spent)
            self.step(loss, rate, 0.99, f"loss {float(loss.detach()):.2f}")
            self.history.training_samples += HOT_BATCH
            if k == first + 2:
                begin = time.monotonic()  # compilation is over
            elif k > first + 2:
                self.seconds_per_step = 1.5 * (time.monotonic() - begin) / (k - first - 2)
            if time.monotonic() - self.last_save > _CHECKPOINT_SECONDS:
                self.save()

    def round(self) -> None:
        """One buffer, the choice of the next temperature, and the fit to it."""
        index, begin = len(self.history.rounds), time.monotonic()
        share = min(ROUND_SHARE, max(1.0 - self.budget.fraction, 0.01))
        fit = min(self.budget.steps_left(share, self.seconds_per_step), int(PASSES * BUFFER_LIMIT / BATCH))
        rows = BLOCK * math.ceil(fit * BATCH / PASSES / BLOCK)
        x, log_w, potential = self.buffer(rows, index)
        ess = _fraction(log_w, rows)
        at_cold = self.temperature <= self.cold
        following = self.next_temperature(log_w, potential, ess, rows)
        self.history.rounds.append(Round(self.temperature, ess, following, rows, self.budget.seconds))
        log_w = _trusted(_clip(log_w + (1.0 - self.temperature / following) * potential), rows)
        noise = keyed_generator(self.seed, 1, index)
        chosen = torch.multinomial(torch.softmax(log_w, 0), fit * BATCH, replacement=True, generator=noise)
        if at_cold and self.cold_start is None:
            self.cold_start = min(self.budget.fraction, 0.99)
        self.temperature = following
        self.learner.start_phase()
        for k, rows_k in enumerate(chosen.view(fit, BATCH)):
            if at_cold and k and self.budget.fraction >= 1:
                break
            fraction = k / fit
            if self.cold_start is not None:
                fraction = (self.budget.fraction - self.cold_start) / (1.0 - self.cold_start)
            rate = 0.5 * self.learning_rate * (cosine(fraction) if at_cold else 1.0 - 0.5 * fraction)
            loss = forward_kl(self.flow, x[rows_k])
            self.step(loss, rate, 0.998 if at_cold else 0.99, f"effective samples {100 * ess:.1f} %")
            self.history.training_samples += BATCH
        self.seconds_per_step = (time.monotonic() - begin) / fit

    @torch.no_grad()
    def buffer(self, rows: int, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draws that can be evaluated, (m, *event), and their log-weights and potential at the present temperature."""
        target, parts = self.target.at(self.temperature), []
        seed = keyed_generator(self.seed, 2, index).initial_seed()
        with self.learner.averaged():
            for block in range(rows // BLOCK):
                x, log_q = self.flow.sample_blocks(seed, [block])
                u, _, potential = target.evaluate(x)
                parts.append((x, (-u - log_q).double(), potential.double()))
        x, log_w, potential = (torch.cat(part) for part in zip(*parts, strict=True))
        good = torch.isfinite(log_w) & torch.isfinite(potential)
        if not good.any():
            raise EnergyError(
                f"some draws of the flow must have a finite energy; got none of {rows} at {self.temperature:g} K: "
                "start hotter, train longer, or start from data with forward_kl"
            )
        return x[good], log_w[good], potential[good]

    def next_temperature(self, log_w: Tensor, potential: Tensor, ess: float, rows: int) -> float:
        """The lowest temperature, not below the cold one, at which the buffer keeps its effective sample fraction.

        A flow that has not reached that fraction where it is stays there as long as it gets better.
        """

        def fraction(temperature: float) -> float:
            return _fraction(_clip(log_w + (1.0 - self.temperature / temperature) * potential), rows)

        if self.budget.fraction >= OVERRUN:
            return self.cold
        before = [r.ess for r in self.history.rounds[-1:] if r.next_temperature == r.temperature == self.temperature]
        improving = ess > IMPROVEMENT * before[0] if before else True
        if self.temperature <= self.cold or (fraction(self.temperature) < STEP_ESS and improving):
            return self.temperature
        if fraction(self.cold) >= STEP_ESS:
            return self.cold
        low, high = self.cold, self.temperature
        for _ in range(30):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if fraction(middle) < STEP_ESS else (low, middle)
        return max(self.cold, min(high, SMALLEST_STEP * self.temperature))


def _fraction(log_w: Tensor, rows: int) -> float:
    """Effective sample size as a fraction of the rows drawn."""
    w = torch.softmax(log_w, 0)
    return float(1.0 / w.square().sum()) / rows


def _clip(log_w: Tensor) -> Tensor:
    """The largest weights cut to the least of their share."""
    largest = log_w.topk(max(1, math.ceil(CLIPPED_SHARE * len(log_w)))).values
    return log_w.clamp_max(largest[-1])


def _trusted(log_w: Tensor, rows: int) -> Tensor:
    """The weights to the highest power not above 1 that keeps the effective sample fraction of a step.

    A fit to w^β draws the flow q towards q^(1−β) p^β: as far as its own draws can tell.
    """
    if _fraction(log_w, rows) >= STEP_ESS:
        return log_w
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _fraction(middle * log_w, rows) >= STEP_ESS else (low, middle)
    return low * log_w
