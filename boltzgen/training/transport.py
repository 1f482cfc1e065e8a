"""Rounds by constrained mass transport: each as near to the target as a trust region and an entropy bound allow."""

from __future__ import annotations

import math

from torch import Tensor

from ..autosave import Autosave
from .dual import intermediate
from .rounds import Rounds

__all__ = ["TransportRounds"]

TRUST = 0.4
"""nats that a round may go from the flow: for log-normal weights an effective sample fraction of exp(−0.8) = 0.45."""
FALL = 0.7
"""of the entropy that a Gaussian loses when it shrinks by as much in all d dimensions: √(d · TRUST) nats."""

DECAY = 0.9
"""of the running average of the parameters: a round starts from it, so it must have learnt what the last one taught."""


class TransportRounds(Rounds):
    """Rounds on the target at the cold temperature throughout, after a first stage at the hot one.

    From its own draws the flow learns the law that `intermediate` finds between it and the target. The rate falls once
    no constraint binds, or from a share of the budget on.
    """

    kind = "by transport"
    decay = DECAY
    free = False

    def begin(self, autosave: Autosave) -> None:
        super().begin(autosave)
        self.temperature = self.cold

    def lesson(self, log_q: Tensor, log_w: Tensor, potential: Tensor) -> tuple[float, Tensor]:
        fall = FALL * math.sqrt(TRUST * self.flow.event_shape.numel())
        found = intermediate(log_q, log_w, trust=TRUST, fall=fall)
        self.free = found.trust == found.entropy == 0
        return self.cold, found.log_w

    def arrive(self) -> None:
        if self.free or self.spent >= self.ladder[1]:
            super().arrive()
