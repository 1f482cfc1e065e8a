"""A network for each dimension of an autoregressive flow, all of them evaluated side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from .conditioner import Dense, check_widths, circular_features
from .masked import degrees_of_inputs

__all__ = ["SeparateConditioner"]


class SeparateConditioner(nn.Module):
    """A multilayer perceptron for each dimension, θ_i = θ_i(v_j with p_j < p_i, context), which starts at θ = 0.

    Unlike the rows of a `MaskedConditioner`, networks share nothing. The matrices of one layer lie in one tensor, so
    that a pass through all networks takes as many operations as one through a single network. Weights for what a
    network does not see are masked; they count as parameters. The batch is the last dimension.

    Arguments:
        positions, circular, context, owners: as for `MaskedConditioner`; each of the tensors of parameters must have
            the rows of its dimensions in turn, (0, 1, 2, 0, 1, 2, …).
        hidden: widths of the hidden layers of each network.
        generator: source of the initial weights; the default generator of torch if None.

    Raises:
        InputError: if a width is not positive, or rows are in another order.
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
        before, of_inputs = p < p[:, None], degrees_of_inputs(p, circular, context) < p[:, None]
        for i in range(d):
            self.register_buffer(f"_linear_{i}", before[i, : d - circular].nonzero()[:, 0], persistent=False)
            self.register_buffer(f"_angles_{i}", before[i, d - circular :].nonzero()[:, 0], persistent=False)
            self.register_buffer(f"_inputs_{i}", of_inputs[i].nonzero()[:, 0], persistent=False)
        seen = [of_inputs, *(torch.ones(d, width, dtype=torch.bool) for width in hidden)]
        self._networks = d
        self.hidden = nn.ModuleList(
            _Stack(range(d), width, of, 1.0, generator) for width, of in zip(hidden, seen, strict=False)
        )
        self.heads = nn.ModuleList()
        for owner in owners:
            dims = sorted(set(owner.tolist()))
            if owner.tolist() != dims * (len(owner) // len(dims)):
                raise InputError(
                    "each tensor of parameters must have the rows of its dimensions in turn; got rows of dimensions "
                    f"{owner.tolist()}: use separate=False"
                )
            self.heads.append(_Stack(dims, len(owner) // len(dims), seen[-1], 0.0, generator))

    def forward(self, linear: Tensor, angles: Tensor, context: Tensor | None, only: int | None = None) -> list[Tensor]:
        """θ as tensors (size, n), from the dimensions (linear, n), (circular, n) and the context (n, c).

        With `only`, the rows that belong to that dimension and no others, of the tensors that have any.
        """
        inputs = None
        if only is not None:
            linear = linear.index_select(0, self.get_buffer(f"_linear_{only}"))
            angles = angles.index_select(0, self.get_buffer(f"_angles_{only}"))
            inputs = self.get_buffer(f"_inputs_{only}")
        h = torch.cat([linear, circular_features(angles), *([] if context is None else [context.T])])
        h = h.expand(self._networks if only is None else 1, *h.shape)
        for layer in self.hidden:
            h, inputs = functional.silu(layer(h, only, inputs)), None
        heads = [head for head in cast(list[_Stack], list(self.heads)) if only is None or only in head.dims]
        return [head(h, only, inputs).transpose(0, 1).flatten(0, 1) for head in heads]


class _Stack(Dense):
    """y_i = W_i x_i + b_i on columns, (m, inputs, n) → (m, outputs, n), for the networks i of `dims`.

    The rows of W and b are those of each network in turn.

    Arguments:
        dims: the networks that have such a layer.
        outputs: of each.
        seen: which inputs each of all networks sees, (d, inputs); the initial law is that of `nn.Linear` of these.
        gain, generator: as for `Dense`.
    """

    mask: Tensor | None
    _dims: Tensor

    def __init__(
        self, dims: Sequence[int], outputs: int, seen: Tensor, gain: float, generator: torch.Generator | None
    ) -> None:
        seen = seen[list(dims)]
        super().__init__(seen.shape[1], outputs * len(dims), gain, generator)
        self.dims = list(dims)
        self.register_buffer("_dims", torch.tensor(self.dims), persistent=False)
        wider = (seen.shape[1] / seen.sum(1).clamp_min(1)).sqrt().repeat(outputs)
        with torch.no_grad():
            self.weight.mul_(wider[:, None])
            self.bias.mul_(wider)
        mask = None if seen.all() else seen.to(self.weight.dtype).repeat(outputs, 1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, only: int | None = None, inputs: Tensor | None = None) -> Tensor:
        """With `only`, that network alone, perhaps with no other inputs than those it sees."""
        m = len(self.dims)
        weight, bias = self.weight.view(-1, m, self.weight.shape[1]), self.bias.view(-1, m)
        if only is not None:
            k = self.dims.index(only)
            weight, bias = weight[:, k : k + 1], bias[:, k : k + 1]
        elif m < len(x):
            x = x.index_select(0, self._dims)
        if inputs is not None:
            weight = weight.index_select(2, inputs)
        elif self.mask is not None:
            weight = weight * self.mask.view_as(weight)
        return torch.baddbmm(bias.T[:, :, None], weight.transpose(0, 1), x)
