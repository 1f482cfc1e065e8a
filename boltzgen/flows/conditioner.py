"""The network that turns the dimensions a layer is given into the parameters of its map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..arguments import counts, positive_counts
from ..errors import InputError

__all__ = ["Conditioner", "check_widths", "circular_features", "linear_features"]

_LOWEST = math.pi / 8
"""frequency of the first pair of linear features: a period is 16 standard deviations of a white input."""


def circular_features(angles: Tensor) -> Tensor:
    """cos θ, sin θ, cos 2θ and sin 2θ of angles in radians, (k, n) → (4k, n)."""
    c, s = angles.cos(), angles.sin()
    return torch.cat([c, s, 2 * c * c - 1, 2 * s * c])


def linear_features(x: Tensor, frequencies: int) -> Tensor:
    """x itself, and cos and sin of 2^j π x/8 for j = 0 … frequencies − 1, (k, n) → ((1 + 2 · frequencies) k, n).

    Perceptrons are slow to learn what changes quickly with their input (Tancik et al., 2020, Fourier features).
    """
    if not frequencies:
        return x
    phases = [_LOWEST * 2**j * x for j in range(frequencies)]
    return torch.cat([x, *(f for phase in phases for f in (phase.cos(), phase.sin()))])


def check_widths(hidden: Sequence[int]) -> None:
    """Refuses widths of hidden layers that are no sequence of positive integers.

    Raises:
        InputError: if they are not.
    """
    if not isinstance(hidden, Sequence) or isinstance(hidden, str):
        raise InputError(
            f"hidden must be a sequence of widths, one for each hidden layer; got {hidden!r}: pass e.g. hidden=(64, 64)"
        )
    for width in hidden:
        positive_counts(hidden=width)


class Conditioner(nn.Module):
    """A multilayer perceptron from given dimensions and context to parameters θ, which starts at θ = 0.

    With nothing to depend on, the parameters are learned constants. Here as in every `Transformer` the batch is the
    LAST dimension, so that elementwise operations run over long contiguous rows.

    Arguments:
        linear: number of inputs taken as they are, and through `linear_features` if there are frequencies.
        circular: number of inputs that are angles, which enter through `circular_features`.
        context: length of the context.
        sizes: number of rows of each tensor of parameters.
        hidden: widths of the hidden layers.
        residual: whether hidden layers after the first, all of one width, add to their input, h + silu(W h + b).
        frequencies: number of octaves of `linear_features`.
        generator: source of the initial weights; the default generator of torch if None.

    Raises:
        InputError: if a width is not positive, or widths differ and `residual`.
    """

    def __init__(
        self,
        linear: int,
        circular: int,
        context: int,
        sizes: Sequence[int],
        *,
        hidden: Sequence[int],
        residual: bool = False,
        frequencies: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_widths(hidden)
        if residual and len(set(hidden)) > 1:
            raise InputError(f"residual layers must be of one width; got {tuple(hidden)}: pass e.g. hidden=(64, 64)")
        self.residual = residual
        (self.frequencies,) = counts(frequencies=frequencies)
        inputs = (1 + 2 * self.frequencies) * linear + 4 * circular + context
        widths = [inputs, *hidden] if inputs else [0]
        self.hidden = nn.ModuleList(Dense(i, o, 1.0, generator) for i, o in pairwise(widths))
        self.heads = nn.ModuleList(Dense(widths[-1], size, 0.0, generator) for size in sizes)

    def forward(self, linear: Tensor, angles: Tensor, context: Tensor | None) -> list[Tensor]:
        """θ as tensors (size, n), from the dimensions (linear, n), (circular, n) and the context (n, c)."""
        given = [linear_features(linear, self.frequencies), circular_features(angles)]
        h = torch.cat([*given, *([] if context is None else [context.T])])
        for k, layer in enumerate(self.hidden):
            step = functional.silu(layer(h))
            h = h + step if self.residual and k else step
        return [head(h) for head in self.heads]


class Dense(nn.Module):
    """y = W x + b on columns, (inputs, n) → (outputs, n), with `gain` times the initial law of `nn.Linear`."""

    def __init__(self, inputs: int, outputs: int, gain: float, generator: torch.Generator | None) -> None:
        super().__init__()
        bound = gain / math.sqrt(max(inputs, 1))
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias[:, None], self.weight, x)
