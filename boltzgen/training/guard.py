"""Takes a flow back that falls apart at the temperature it is to end at."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from .fresh_draws import mean_of_finite
from .learner import Learner

__all__ = ["Guard"]

_FALL = 1.0
"""kT by which the evidence may be below the best, less that round's KL(q‖p)."""
_PATIENCE = 4
"""rounds in a row that it may be."""
_SLOWER = 0.5
"""what the learning rate is multiplied by each time that a flow is taken back."""
_SOFTEN = 20.0
"""kT below the median of log w from which a draw counts logarithmically: a few bad ones are no fall."""


class Guard:
    """Where the flow was best, and how much slower it learns since it fell from there.

    Large steps sometimes throw a flow out of what it had learnt, which it then learns anew for a good part of its
    budget. So the state of the round with the highest evidence is kept, and taken up again after four rounds in a row
    with an evidence below the best one less KL(q‖p), that of the best round, less one kT.

    The evidence, E[log w] ≤ log Z of fresh draws, tells a fall from a discovery: a well that was missing lowers the
    effective sample size when it is found, since log Z rises, but not the evidence by as much.

    Attributes:
        pace: to multiply the learning rate by.
        taken_back: how often the flow was.
    """

    def __init__(self) -> None:
        self.pace, self.taken_back = 1.0, 0
        self._best, self._least, self._low = -math.inf, -math.inf, 0
        self._kept: dict[str, Any] | None = None

    def look(self, log_w: Tensor, learner: Learner, before: dict[str, Any]) -> None:
        """After every round at the final temperature; takes the learner back if it must be.

        Arguments:
            log_w: log-weights of the flow's own draws in the round.
            learner: as it is after the round.
            before: its state before.
        """
        finite = log_w.isfinite().double().mean()
        evidence = float(finite.log() - mean_of_finite(-log_w, _SOFTEN))
        if evidence >= self._best:
            divergence = float(log_w.logsumexp(0)) - math.log(len(log_w)) - evidence
            self._best, self._least, self._kept = evidence, evidence - divergence - _FALL, before
        self._low = self._low + 1 if evidence < self._least else 0
        if self._low >= _PATIENCE:
            self._go_back(learner)

    def finish(self, learner: Learner) -> None:
        """At the end: a fall that has just begun is one all the same."""
        if self._low:
            self._go_back(learner)

    def _go_back(self, learner: Learner) -> None:
        assert self._kept is not None
        learner.go_back(self._kept)
        self._low, self.pace, self.taken_back = 0, _SLOWER * self.pace, self.taken_back + 1

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
