"""The network of autoregressive flows: parameters of every dimension at once, each a function of those before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .conditioner import Dense, check_widths, circular_features

__all__ = ["MaskedConditioner"]


class MaskedConditioner(nn.Module):
    """A masked multilayer perceptron (MADE), θ_i = θ_i(v_j with p_j < p_i, context), which starts at θ = 0.

    Every unit has a degree, the last position it may see; weights that would lead from later positions to earlier ones
    are masked out. Hidden degrees are spread evenly, so that with d − 1 units or more in every layer each θ_i sees
    all before it; in narrower layers some miss those just before them. The batch is the last dimension, as in
    `Conditioner`.

    Arguments:
        positions: p, the place of each dimension in the order, a permutation of 0 … d − 1; linear dimensions first.
        circular: how many of the dimensions, the last ones, are angles, which enter through `circular_features`.
        context: length of the context, which every parameter sees.
        owners: for each tensor of parameters, the dimension i each of its rows belongs to.
        hidden: widths of the hidden layers.
        generator: source of the initial weights; the default generator of torch if None.

    Raises:
        InputError: if a width is not positive.

    References:
        Germain, Gregor, Murray, Larochelle (2015), MADE, eqs. 11-13.
    """

    def __init__(
        self,
        positions: Sequence[int],
        circular: int,
        context: int,
        owners: Sequence[Tensor],
        *,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_widths(hidden)
        d, p = len(positions), torch.tensor([int(i) for i in positions])
        first = -1 if context else 0  # units of degree -1 see the context alone
        degrees = degrees_of_inputs(p, circular, context)
        degrees = degrees[: len(degrees) if d > 1 or context else 0]  # one dimension alone depends on nothing
        self._inputs = len(degrees)
        self.hidden = nn.ModuleList()
        for width in hidden if self._inputs else ():
            of_layer = torch.linspace(first, d - 2, width).round()
            self.hidden.append(_MaskedDense(of_layer[:, None] >= degrees, 1.0, generator))
            degrees = of_layer
        self.heads = nn.ModuleList(_MaskedDense(p[owner][:, None] > degrees, 0.0, generator) for owner in owners)
        self._heads_of: list[list[int]] = []  # the heads that have rows of a dimension, and which rows these are
        for i in range(d):
            self._heads_of.append([k for k, owner in enumerate(owners) if (owner == i).any()])
            for k in self._heads_of[i]:
                self.register_buffer(f"_rows_{i}_{k}", (owners[k] == i).nonzero()[:, 0], persistent=False)

    def forward(self, linear: Tensor, angles: Tensor, context: Tensor | None, only: int | None = None) -> list[Tensor]:
        """θ as tensors (size, n), from the dimensions (linear, n), (circular, n) and the context (n, c).

        With `only`, the rows that belong to that dimension and no others, of the tensors that have any.
        """
        h = torch.cat([linear, circular_features(angles), *([] if context is None else [context.T])])[: self._inputs]
        for layer in self.hidden:
            h = functional.silu(layer(h))
        if only is None:
            return [head(h) for head in self.heads]
        return [self.heads[k](h, self.get_buffer(f"_rows_{only}_{k}")) for k in self._heads_of[only]]


def degrees_of_inputs(positions: Tensor, circular: int, context: int) -> Tensor:
    """The place in the order of each input: one of a linear dimension, four of an angle; −1 of the context."""
    linear = len(positions) - circular
    return torch.cat([positions[:linear], positions[linear:].repeat(4), torch.full((context,), -1)])


class _MaskedDense(Dense):
    """y = (M ∘ W) x + b on columns, M a fixed matrix of zeros and ones."""

    mask: Tensor

    def __init__(self, mask: Tensor, gain: float, generator: torch.Generator | None) -> None:
        super().__init__(mask.shape[1], mask.shape[0], gain, generator)
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        wanted: list[Tensor] = [self.weight, self.mask, self.bias]
        weight, mask, bias = wanted if rows is None else [v.index_select(0, rows) for v in wanted]
        return torch.addmm(bias[:, None], weight * mask, x)
