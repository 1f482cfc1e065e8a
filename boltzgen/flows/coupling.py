"""The layer every ready-made flow is built of: some dimensions transformed, given others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import instances
from ..errors import InputError
from .bijection import Bijection
from .conditioner import Conditioner
from .transformer import Transformer

__all__ = ["Coupling"]


class Coupling(Bijection):
    """A coupling layer: x_T = f(z_T; θ(z_G, context)), and every other dimension passes through.

    T are the dimensions transformed, G those given to the network that computes the parameters θ of f. The layer
    starts where θ = 0. With one T after the other, each given those before it, couplings make an autoregressive flow.

    Arguments:
        dim: number of dimensions d.
        transformed: the dimensions T, linear ones before circular ones in the order the transformer takes them.
        given: the dimensions G, none of them in T; if there are none and no context, θ are learned constants.
        transformer: the map f of len(T) dimensions.
        circular: which of the d dimensions are angles, (d,); none if None.
        hidden: widths of the network's hidden layers.
        residual: whether hidden layers after the first add to what they are given; see `Conditioner`.
        frequencies: octaves of waves through which linear dimensions are given too; see `linear_features`.
        context: length of the context.
        generator: source of the initial weights; the default generator of torch if None.

    Attributes:
        transformed, given: as above.

    Raises:
        InputError: if dimensions overlap, repeat or do not exist, or the transformer does not fit them.

    Example:
        >>> from boltzgen.flows.transformer import Affine
        >>> layer = Coupling(2, [0], [1], Affine(1))
        >>> x, log_det = layer.forward(torch.ones(3, 2))
        >>> log_det.tolist()
        [0.0, 0.0, 0.0]

    References:
        Dinh, Krueger, Bengio (2015), NICE, section 3.2.
    """

    circular: Tensor
    _order: Tensor
    _back: Tensor

    def __init__(
        self,
        dim: int,
        transformed: Sequence[int],
        given: Sequence[int],
        transformer: Transformer,
        *,
        circular: Sequence[bool] | Tensor | None = None,
        hidden: Sequence[int] = (64, 64),
        residual: bool = False,
        frequencies: int = 0,
        context: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(dim, context_size=context)
        instances(transformer=(transformer, Transformer))
        transformed, given = [int(i) for i in transformed], [int(i) for i in given]
        angle = [False] * dim if circular is None else [bool(c) for c in circular]
        used = transformed + given
        if len(set(used)) != len(used) or not all(0 <= i < dim for i in used) or len(angle) != dim:
            raise InputError(
                f"transformed and given must be distinct dimensions below {dim}; got {transformed} and {given}: "
                "name each dimension once"
            )
        if tuple(angle[i] for i in transformed) != transformer.circular:
            raise InputError(
                f"the transformer must fit the dimensions transformed; got {type(transformer).__name__} with circular "
                f"{list(transformer.circular)} for {[angle[i] for i in transformed]}: "
                "use CircularSpline or Rotation for angles, and Mixed for both kinds"
            )
        linear, angles = [i for i in given if not angle[i]], [i for i in given if angle[i]]
        ignored = [i for i in range(dim) if i not in set(used)]
        order = torch.tensor(ignored + linear + angles + transformed)
        self.transformed, self.given = transformed, given
        self._sizes = [dim - len(transformed), len(transformed)]
        self._linear = slice(len(ignored), len(ignored) + len(linear))
        self._angles = slice(len(ignored) + len(linear), dim - len(transformed))
        self.register_buffer("circular", torch.tensor(angle), persistent=False)
        self.register_buffer("_order", order)
        self.register_buffer("_back", order.argsort())
        self.transformer = transformer
        self.conditioner = Conditioner(
            len(linear),
            len(angles),
            context,
            transformer.sizes,
            hidden=hidden,
            residual=residual,
            frequencies=frequencies,
            generator=generator,
        )

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        kept, v, theta = self._split(z, context)
        x, log_det = self.transformer(v, *theta)
        return torch.cat([kept, x]).index_select(0, self._back).T, log_det

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        kept, v, theta = self._split(x, context)
        z, log_det = self.transformer.inverse(v, *theta)
        return torch.cat([kept, z]).index_select(0, self._back).T, log_det

    def _split(self, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The dimensions kept, those transformed, and the parameters of their map; batch last."""
        kept, transformed = v.T.index_select(0, self._order).split_with_sizes(self._sizes)
        theta = self.conditioner(kept[self._linear], kept[self._angles], context)
        return kept, transformed, theta
