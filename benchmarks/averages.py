"""A running average of a flow's weights, kept beside a training from outside, and looked at while it goes on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from boltzgen import Flow

__all__ = ["RunningAverage"]


class RunningAverage:
    """The average of a flow's parameters over its last steps, as trainings keep one for themselves.

    Arguments:
        flow: whose parameters change; call `update` after every step.
        decay: of the average; what it starts from is forgotten faster, as in a training.
    """

    def __init__(self, flow: Flow, decay: float = 0.998) -> None:
        self.parameters, self.decay, self.steps = list(flow.parameters()), decay, 0
        self.values = self.now()

    def now(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters]

    def update(self) -> None:
        decay = min(self.decay, (self.steps + 1) / (self.steps + 10))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1.0 - decay)
        self.steps += 1

    def copy(self) -> list[Tensor]:
        return copy.deepcopy(self.values)

    @contextmanager
    def within(self, values: list[Tensor]) -> Iterator[None]:
        """The flow has these weights meanwhile."""
        kept = self.now()
        self.set(values)
        try:
            yield
        finally:
            self.set(kept)

    def set(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)
