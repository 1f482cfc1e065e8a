"""Evidence that a flow learns, besides its loss: looked at now and then, and its best weights kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from ..arguments import positive_counts
from ..errors import InputError
from ..flows.flow import Flow
from ..processes import ranks
from .learner import Learner

__all__ = ["Evidence"]

_EVERY = 100
"""steps between one look and the next."""


class Evidence:
    """What a flow with averaged weights is worth by a measure of it, and the weights that were worth most.

    Arguments:
        learner: whose flow is looked at.
        measure: maps the flow to one number, the higher the better; nothing is looked at if None.
        patience: steps without a higher one after which it is `over`; never if None.

    Attributes:
        looks: (step, evidence) of every look; −inf where it was not finite.
        kept: the averaged weights that had the highest one; None if none was above −inf.
    """

    def __init__(
        self, learner: Learner, measure: Callable[[Flow], Tensor | float] | None, patience: int | None
    ) -> None:
        if measure is not None and not callable(measure):
            raise InputError(
                f"evidence must be a function of the flow; got {type(measure).__name__}: pass e.g. "
                "lambda q: q.log_prob(held_out).mean()"
            )
        if patience is not None:
            (patience,) = positive_counts(patience=patience)
            if measure is None:
                raise InputError(
                    f"patience must come with evidence; got {patience} alone: pass evidence=, or no patience"
                )
        self.learner, self.measure, self.patience = learner, measure, patience
        self.looks: list[tuple[int, float]] = []
        self.kept: list[Tensor] | None = None

    def due(self, step: int, last: int) -> bool:
        """Whether to look after this step, of so many: every 100 and in the end, once."""
        seen = self.looks[-1][0] if self.looks else 0
        return self.measure is not None and step > seen and (step % _EVERY == 0 or step == last)

    def look(self, step: int) -> None:
        """Measures the flow with its averaged weights, and keeps these if they are the best."""
        assert self.measure is not None
        with torch.no_grad(), self.learner.averaged():
            found = self.measure(self.learner.flow)
        if not isinstance(found, Tensor | Real) or (isinstance(found, Tensor) and found.numel() != 1):
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"the evidence must be one number; got {got}: take its mean, or its value")
        value = ranks().highest(float(found) if math.isfinite(float(found)) else -math.inf)
        if value > self.best[1]:
            self.kept = [p.clone() for p in self.learner.average]
        self.looks.append((step, value))

    @property
    def best(self) -> tuple[int, float]:
        """Step and evidence of the first look at the highest."""
        return max(self.looks, key=lambda look: look[1], default=(0, -math.inf))

    def over(self) -> bool:
        """Whether it has not risen for `patience` steps."""
        return self.patience is not None and bool(self.looks) and self.looks[-1][0] - self.best[0] >= self.patience
