"""The layer in which every dimension is transformed given all those before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import instances
from ..errors import InputError
from .bijection import Bijection
from .masked import MaskedConditioner
from .transformer import Transformer

__all__ = ["Autoregressive"]


class Autoregressive(Bijection):
    """A masked autoregressive layer (MAF): x_i = f(z_i; θ_i(x_j before x_i, context)), log_det = Σ_i log ∂x_i/∂z_i.

    `inverse`, hence the density of a given x, takes one pass of the network. `forward`, hence sampling, is SEQUENTIAL:
    d passes, one dimension after the other. `Inverse(Autoregressive(…))` is an inverse autoregressive layer (IAF):
    it samples in one pass, with its density, and takes d passes for the density of another x. Both start where θ = 0.

    Arguments:
        dim: number of dimensions d.
        transformer: the map f of d dimensions, linear ones before circular ones, each kind in ascending order.
        order: the dimensions in the order of the autoregression; 0 … d − 1 if None.
        circular: which of the d dimensions are angles, (d,); none if None.
        hidden: widths of the hidden layers of the network, `MaskedConditioner`; d − 1 or more units see everything.
        context: length of the context.
        generator: source of the initial weights; the default generator of torch if None.

    Raises:
        InputError: if the order is no permutation, or the transformer does not fit or mixes its dimensions.

    Example:
        >>> from boltzgen.flows import Affine
        >>> x, log_det = Autoregressive(3, Affine(3)).forward(torch.ones(2, 3))
        >>> log_det.tolist()
        [0.0, 0.0]

    References:
        Papamakarios, Pavlakou, Murray (2017), Masked autoregressive flow; Kingma et al. (2016), Improving variational
        inference with inverse autoregressive flow.
    """

    circular: Tensor
    _layout: Tensor
    _back: Tensor
    _places: Tensor

    def __init__(
        self,
        dim: int,
        transformer: Transformer,
        *,
        order: Sequence[int] | None = None,
        circular: Sequence[bool] | Tensor | None = None,
        hidden: Sequence[int] = (64, 64),
        context: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(dim, context_size=context)
        instances(transformer=(transformer, Transformer))
        order = list(range(dim)) if order is None else [int(i) for i in order]
        angle = [False] * dim if circular is None else [bool(c) for c in circular]
        if sorted(order) != list(range(dim)) or len(angle) != dim:
            raise InputError(
                f"order and circular must have one entry for each of {dim} dimensions; got {order} and {angle}: "
                "name each dimension once"
            )
        layout = [i for i in range(dim) if not angle[i]] + [i for i in range(dim) if angle[i]]
        if tuple(angle[i] for i in layout) != transformer.circular:
            raise InputError(
                f"the transformer must fit the dimensions; got {type(transformer).__name__} with circular "
                f"{list(transformer.circular)} for {[angle[i] for i in layout]}: "
                "use CircularSpline or Rotation for angles, and Mixed for both kinds"
            )
        self._n_linear = angle.count(False)
        self._sequence = [layout.index(i) for i in order]
        self.register_buffer("circular", torch.tensor(angle), persistent=False)
        self.register_buffer("_layout", torch.tensor(layout), persistent=False)
        self.register_buffer("_back", torch.tensor(layout).argsort(), persistent=False)
        self.register_buffer("_places", torch.arange(dim), persistent=False)
        self.transformer = transformer
        self.conditioner = MaskedConditioner(
            [order.index(i) for i in layout],
            angle.count(True),
            context,
            transformer.owners(),
            hidden=hidden,
            generator=generator,
        )

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        v = z.T.index_select(0, self._layout)
        x, log_det = torch.zeros_like(v), z.new_zeros(len(z))
        for i in self._sequence:
            theta = self.conditioner(x[: self._n_linear], x[self._n_linear :], context, i)
            row, step = self.transformer.at(i)(v[i : i + 1], *theta)
            x, log_det = x.index_copy(0, self._places[i : i + 1], row), log_det + step
        return x.index_select(0, self._back).T, log_det

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        v = x.T.index_select(0, self._layout)
        theta = self.conditioner(v[: self._n_linear], v[self._n_linear :], context)
        z, log_det = self.transformer.inverse(v, *theta)
        return z.index_select(0, self._back).T, log_det
