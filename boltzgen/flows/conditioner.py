"""The network that turns the dimensions a layer is given into the parameters of its map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

__all__ = ["Conditioner", "circular_features"]


def circular_features(angles: Tensor) -> Tensor:
    """cos θ, sin θ, cos 2θ, sin 2θ of angles in radians, (n, k) → (n, 4k)."""
    c, s = angles.cos(), angles.sin()
    return torch.cat([c, s, 2 * c * c - 1, 2 * s * c], -1)


class Conditioner(nn.Module):
    """A multilayer perceptron θ(linear, angles, context) that starts at θ = 0.

    With nothing to depend on, the parameters θ are learned constants.

    Arguments:
        linear: number of inputs taken as they are.
        circular: number of inputs that are angles; they enter through `circular_features`.
        context: length of the context.
        outputs: number of parameters.
        hidden: widths of the hidden layers.
        generator: source of the initial weights; the default generator of torch if None.
    """

    def __init__(
        self,
        linear: int,
        circular: int,
        context: int,
        outputs: int,
        *,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        inputs = linear + 4 * circular + context
        if inputs == 0:
            self.constants = nn.Parameter(torch.zeros(outputs))
            self.network = None
            return
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [_linear(inputs, width, 1.0, generator), nn.SiLU()]
            inputs = width
        self.network = nn.Sequential(*layers, _linear(inputs, outputs, 0.0, generator))

    def forward(self, linear: Tensor, angles: Tensor, context: Tensor | None) -> Tensor:
        """Parameters (n, outputs) from the given dimensions (n, linear), (n, circular) and the context (n, c)."""
        if self.network is None:
            return self.constants.expand(len(linear), -1)
        inputs = [linear] if linear.shape[1] else []
        if angles.shape[1]:
            inputs.append(circular_features(angles))
        if context is not None:
            inputs.append(context)
        theta: Tensor = self.network(torch.cat(inputs, -1))
        return theta


def _linear(inputs: int, outputs: int, gain: float, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer with `gain` times the initial law of `nn.Linear`, drawn from `generator`."""
    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    bound = gain / math.sqrt(inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer
