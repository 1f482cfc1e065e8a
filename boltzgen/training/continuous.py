"""Rounds of reverse KL along a temperature that falls all the time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..autosave import Autosave
from ..flows.noise import keyed_generator
from .fresh_draws import mean_of_finite, rowwise
from .rounds import HOT_BATCH, HOT_SHARE, SOFTEN, Rounds, require_weight

__all__ = ["ContinuousRounds"]

STEPS = 8
"""of a round, in which the temperature does not change: few enough for a path of hundreds of rounds."""
RATE = 0.1
"""of the learning rate; at the cold temperature it falls from there."""
PATH = (HOT_SHARE, 0.7)
"""shares of the budget between which the temperature falls, by the same factor in equal times."""


class ContinuousRounds(Rounds):
    """Rounds of reverse KL on fresh draws, along its whole gradient: by forces alone."""

    ladder = PATH
    kind = "by forces"

    def round(self, autosave: Autosave) -> Tensor:
        index, parts = len(self.history.rounds), []
        self.temperature = self.following()
        target = self.target.at(self.temperature)
        for k in range(STEPS):
            loss = rowwise(self.flow, target, HOT_BATCH, generator=keyed_generator(self.seed, 1, index, k))
            parts.append(torch.where(loss.isfinite(), -loss, -torch.inf).detach().double())
            self.history.training_samples += HOT_BATCH
            self.learn(mean_of_finite(loss, SOFTEN), RATE, autosave)
        log_w = require_weight(torch.cat(parts), self.temperature)
        self.note(log_w, self.following(), len(log_w))
        self.arrive()
        return log_w

    def following(self) -> float:
        """What the path says, but never hotter than before, also after more time was given."""
        return self.cold if self.settled else min(self.temperature, self.on_path())
