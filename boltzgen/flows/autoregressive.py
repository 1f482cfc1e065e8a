"""The layer in which dimensions are transformed one after the other, each given all those before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import instances
from ..errors import InputError
from .bijection import Bijection
from .masked import MaskedConditioner
from .separate import SeparateConditioner
from .transformer import Transformer

__all__ = ["Autoregressive"]


class Autoregressive(Bijection):
    """A masked autoregressive layer (MAF): x_i = f(z_i; θ_i(x_j before x_i, context)), log_det = Σ_i log ∂x_i/∂z_i.

    `inverse`, hence the density of a given x, takes one pass of the network. `forward`, hence sampling, is SEQUENTIAL:
    a pass for each dimension, one after the other. `Inverse(Autoregressive(…))` is an inverse autoregressive layer
    (IAF): it samples in one pass, with its density, and takes a pass for each dimension for the density of another x.
    Both start where θ = 0.

    Arguments:
        dim: number of dimensions d.
        transformer: the map f of the m dimensions transformed, linear ones before circular ones, each kind in ascending
            order.
        order: the dimensions transformed, in the order of the autoregression; 0 … d − 1 if None. Others pass through,
            and are not seen.
        circular: which of the d dimensions are angles, (d,); none if None.
        hidden: widths of the hidden layers of the network; of a shared one, m − 1 or more units see everything.
        separate: whether every dimension has a network of its own, of these widths (`SeparateConditioner`), rather than
            its rows of one that all share (`MaskedConditioner`). A pass for one dimension is then one through its own
            network alone.
        context: length of the context.
        generator: source of the initial weights; the default generator of torch if None.

    Attributes:
        transformed: the dimensions transformed, in their order.
        given: empty: nothing but those transformed is seen.

    Raises:
        InputError: if the order is empty, repeats or names no such dimension, if the transformer does not fit or mixes
            its dimensions, or if separate networks cannot have its rows.

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
    _kept: Tensor
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
        separate: bool = False,
        context: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(dim, context_size=context)
        instances(transformer=(transformer, Transformer))
        order = list(range(dim)) if order is None else [int(i) for i in order]
        angle = [False] * dim if circular is None else [bool(c) for c in circular]
        if not order or len(set(order)) != len(order) or not set(order) <= set(range(dim)) or len(angle) != dim:
            raise InputError(
                f"order must name some of {dim} dimensions once, and circular have an entry for each; got {order} and "
                f"{angle}: leave out order for all, as they come"
            )
        layout = sorted(order, key=lambda i: (angle[i], i))
        kept = [i for i in range(dim) if i not in set(order)]
        if tuple(angle[i] for i in layout) != transformer.circular:
            raise InputError(
                f"the transformer must fit the dimensions; got {type(transformer).__name__} with circular "
                f"{list(transformer.circular)} for {[angle[i] for i in layout]}: "
                "use CircularSpline or Rotation for angles, and Mixed for both kinds"
            )
        self.transformed = order
        self.given: list[int] = []
        self._n_linear = sum(not angle[i] for i in order)
        self._sequence = [layout.index(i) for i in order]
        self.register_buffer("circular", torch.tensor(angle), persistent=False)
        self.register_buffer("_kept", torch.tensor(kept, dtype=torch.long), persistent=False)
        self.register_buffer("_layout", torch.tensor(layout), persistent=False)
        self.register_buffer("_back", torch.tensor(kept + layout).argsort(), persistent=False)
        self.register_buffer("_places", torch.arange(len(order)), persistent=False)
        self.transformer = transformer
        self.conditioner = (SeparateConditioner if separate else MaskedConditioner)(
            [order.index(i) for i in layout],
            len(order) - self._n_linear,
            context,
            transformer.owners(),
            hidden=hidden,
            generator=generator,
        )

    def extra_repr(self) -> str:
        """The order, which no weight tells."""
        return f"order={self.transformed}"

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        v = z.T.index_select(0, self._layout)
        x, log_det = torch.zeros_like(v), z.new_zeros(len(z))
        for i in self._sequence:
            theta = self.conditioner(x[: self._n_linear], x[self._n_linear :], context, i)
            row, step = self.transformer.forward_one(i, v[i : i + 1], *theta)
            x, log_det = x.index_copy(0, self._places[i : i + 1], row), log_det + step
        return self._joined(z, x), log_det

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        v = x.T.index_select(0, self._layout)
        theta = self.conditioner(v[: self._n_linear], v[self._n_linear :], context)
        z, log_det = self.transformer.inverse(v, *theta)
        return self._joined(x, z), log_det

    def _joined(self, before: Tensor, transformed: Tensor) -> Tensor:
        """The dimensions kept, as they were, and those transformed, (m, n), in their places."""
        kept = before.T.index_select(0, self._kept)
        return torch.cat([kept, transformed]).index_select(0, self._back).T
