"""One gradient step at a time: Adam, clipping by the running median, skipped steps, averaged weights."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import EnergyError, InputError
from ..processes import ranks

if TYPE_CHECKING:
    from ..flows import Flow

__all__ = ["Learner"]


class Learner:
    """The optimiser of a flow and everything it must remember between steps.

    A step whose loss or gradient is not finite changes nothing (weights, moments and average stay as they were) and is
    counted; `patience` of them in a row end the training with advice.

    Arguments:
        flow: the flow, changed in place.
        clip: a gradient longer than this times the median of the last 200 is shortened to it.
        patience: consecutive skipped steps after which training stops.
        weight_decay: what the matrices of networks lose in a step at a learning rate of one, apart from its gradient.
            Noise makes them grow, and a network of large ones changes abruptly with what it is given.

    Attributes:
        steps, skipped: steps taken and steps skipped.
        gradient_norm: of the last step, before clipping.

    References:
        Loshchilov & Hutter (2019), Decoupled weight decay regularization, for `weight_decay`.
    """

    def __init__(self, flow: Flow, *, clip: float = 1.5, patience: int = 100, weight_decay: float = 0.0) -> None:
        self.flow = flow
        self.clip = clip
        self.patience = patience
        self.weight_decay = weight_decay
        self.parameters = [p for p in flow.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError(
                "flow must have parameters to train; got none: flow.requires_grad_() thaws those of a frozen one"
            )
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimiser = torch.optim.Adam(self.parameters, betas=(0.9, 0.99), fused=True)
        self.norms: deque[float] = deque(maxlen=200)
        self.steps = 0
        self.skipped = 0
        self.gradient_norm = math.nan
        self._skipped_in_a_row = 0

    def step(self, loss: Tensor, learning_rate: float, *, decay: float) -> float:
        """Follows the gradient of `loss` once; returns the loss, NaN if the step was skipped.

        Arguments:
            loss: a scalar computed from the flow.
            learning_rate: of Adam.
            decay: of the running average of the weights, 0 for no averaging.

        Raises:
            InputError: if the loss is not one number, or has no gradient.
            EnergyError: after `patience` skipped steps in a row.
        """
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(f"the loss must be one number, a tensor of shape (); got {got}: take its mean")
        value = float(loss.detach())
        self.gradient_norm = math.nan
        if math.isfinite(value):
            if not loss.requires_grad:
                raise InputError(
                    "the loss must depend on the parameters of the flow; got one without a gradient: use rsample or "
                    "log_prob, since sample gives none"
                )
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            ranks().average_gradients(self.parameters)
            usual = float(np.median(self.norms)) if len(self.norms) >= 20 else 0.0
            limit = self.clip * usual if usual > 0 else math.inf  # none is usual yet, or gradients vanish
            self.gradient_norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, limit))
        if not (math.isfinite(value) and math.isfinite(self.gradient_norm)):
            return self._skip()
        self.norms.append(self.gradient_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        if self.weight_decay:
            matrices = [p.detach() for p in self.parameters if p.grad is not None and p.dim() > 1]
            torch._foreach_mul_(matrices, 1.0 - self.weight_decay * learning_rate)
        self.optimiser.step()
        self.steps += 1
        self._skipped_in_a_row = 0
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1.0 - decay)
        return value

    def _skip(self) -> float:
        self.gradient_norm = math.nan
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= self.patience:
            raise EnergyError(
                f"the loss and its gradient must be finite; got {self._skipped_in_a_row} steps in a row that were not: "
                "lower the learning rate, soften the energy (soften=20.0), or start from data with forward_kl"
            )
        return math.nan

    def start_phase(self) -> None:
        """Forgets the gradient norms: a new loss has its own scale."""
        self.norms.clear()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the flow has the averaged weights."""
        kept = [p.detach().clone() for p in self.parameters]
        self.keep(self.average)
        try:
            yield
        finally:
            self.keep(kept)

    def keep_average(self) -> None:
        """Leaves the flow with the averaged weights."""
        self.keep(self.average)

    def keep(self, weights: list[Tensor]) -> None:
        """Leaves the flow with these weights."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, weights, strict=True):
                parameter.copy_(value)

    def go_back(self, state: dict[str, Any]) -> None:
        """Weights, their average and all that the optimiser remembers as they were; the steps taken since count."""
        now = {"steps": self.steps, "skipped": self.skipped, "skipped_in_a_row": 0}
        self.load_state_dict(copy.deepcopy(state) | now)  # the optimiser would go on in tensors of the state

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which `load_state_dict` continues to the same bits."""
        return {
            "flow": self.flow.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "norms": list(self.norms),
            "steps": self.steps,
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.flow.load_state_dict(state["flow"])
        self.optimiser.load_state_dict(state["optimiser"])
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
        self.norms = deque(state["norms"], maxlen=200)
        self.steps, self.skipped = state["steps"], state["skipped"]
        self._skipped_in_a_row = state["skipped_in_a_row"]
