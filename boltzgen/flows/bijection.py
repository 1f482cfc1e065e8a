"""The contract of every invertible map: a value and the log-determinant of the call just made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..arguments import counts, instances, positive_counts
from ..errors import InputError

__all__ = ["Bijection", "Composition", "Given", "Inverse"]


class Bijection(nn.Module, ABC):
    """An invertible, differentiable map z ↦ x of batches of configurations.

    `forward(z) → (x, log_det)` and `inverse(x) → (z, log_det)`: log_det, of shape (n,), is always
    log |det ∂output/∂input| of the call made, so the two cancel on a round trip.

    A subclass calls `super().__init__(in_shape, out_shape)` and writes `_forward` and `_inverse`;
    the public methods check shapes first.

    Attributes:
        in_shape, out_shape: shape of one z and of one x.
        context_size: length c of the `context` (n, c) every call must be given; 0 for none.
    """

    def __init__(
        self, in_shape: int | Sequence[int], out_shape: int | Sequence[int] | None = None, *, context_size: int = 0
    ) -> None:
        super().__init__()
        self.in_shape = _shape(in_shape)
        self.out_shape = self.in_shape if out_shape is None else _shape(out_shape)
        (self.context_size,) = counts(context=context_size)

    @abstractmethod
    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(x, log |det ∂x/∂z|) of checked input."""

    @abstractmethod
    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(z, log |det ∂z/∂x|) of checked input."""

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x and log |det ∂x/∂z|, (n, *in_shape) → (n, *out_shape), (n,).

        Raises:
            InputError: if z or context has another shape.
        """
        _check("z", z, self.in_shape)
        self._check_context(context, len(z))
        return self._forward(z, context)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z and log |det ∂z/∂x|, (n, *out_shape) → (n, *in_shape), (n,).

        Raises:
            InputError: if x or context has another shape.
        """
        _check("x", x, self.out_shape)
        self._check_context(context, len(x))
        return self._inverse(x, context)

    def _check_context(self, context: Tensor | None, n: int) -> None:
        if self.context_size == 0 and context is not None:
            raise InputError("context must be None for an unconditional map; got a tensor: build it with context=c")
        shape = context.shape if isinstance(context, Tensor) else None
        if self.context_size and shape != (n, self.context_size):
            got = type(context).__name__ if shape is None else str(tuple(shape))
            raise InputError(f"context must have shape ({n}, {self.context_size}); got {got}: pass one row per sample")


def _check(name: str, value: Any, shape: torch.Size) -> None:
    if not isinstance(value, Tensor) or value.shape[1:] != shape or value.ndim != 1 + len(shape):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        expected = "(n, " + ", ".join(map(str, shape)) + ")"
        raise InputError(f"{name} must have shape {expected}; got {got}: pass a batch, one configuration per row")


def _shape(sizes: int | Sequence[int]) -> torch.Size:
    return torch.Size(
        n for dim in (sizes if isinstance(sizes, Sequence) else [sizes]) for n in positive_counts(dim=dim)
    )


class Composition(Bijection):
    """Bijections applied one after the other: x = f_K(… f_1(z)).

    Arguments:
        bijections: f_1 … f_K in the order of `forward`; at least one.
    """

    def __init__(self, bijections: Sequence[Bijection]) -> None:
        if not bijections:
            raise InputError("bijections must hold at least one Bijection; got none: pass a list such as [a, b]")
        for bijection in bijections:
            instances(bijection=(bijection, Bijection))
        context_size = max(b.context_size for b in bijections)
        super().__init__(bijections[0].in_shape, bijections[-1].out_shape, context_size=context_size)
        for first, second in pairwise(bijections):
            if first.out_shape != second.in_shape:
                raise InputError(
                    f"consecutive bijections must fit; got {tuple(first.out_shape)} -> {tuple(second.in_shape)}: "
                    "check the dimensions they were built with"
                )
        self.bijections = nn.ModuleList(bijections)

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(len(z))
        for bijection in self.steps():
            z, step = bijection._forward(z, context if bijection.context_size else None)
            log_det = log_det + step
        return z, log_det

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(len(x))
        for bijection in reversed(self.steps()):
            x, step = bijection._inverse(x, context if bijection.context_size else None)
            log_det = log_det + step
        return x, log_det

    def steps(self) -> list[Bijection]:
        """f_1 … f_K."""
        return cast(list[Bijection], list(self.bijections))


class Inverse(Bijection):
    """A bijection run backwards: `forward` is the other's `inverse`."""

    def __init__(self, bijection: Bijection) -> None:
        instances(bijection=(bijection, Bijection))
        super().__init__(bijection.out_shape, bijection.in_shape, context_size=bijection.context_size)
        self.bijection = bijection

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.bijection._inverse(z, context)

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.bijection._forward(x, context)


class Given(Bijection):
    """A conditional bijection at one context, which every row then has; its parameters are shared, not copied.

    Arguments:
        bijection: a map that needs a context.
        context: its c numbers, (c,).
    """

    context: Tensor

    def __init__(self, bijection: Bijection, context: Tensor | Sequence[float]) -> None:
        super().__init__(bijection.in_shape, bijection.out_shape)
        like = next((p for p in bijection.parameters() if p.is_floating_point()), torch.empty(0))
        try:
            row = torch.as_tensor(context).to(like)
        except (TypeError, ValueError, RuntimeError):
            row = None
        if row is None or not bijection.context_size or row.shape != (bijection.context_size,):
            got = f"{context!r}" if row is None else f"{tuple(row.shape)}"
            raise InputError(
                f"context must have as many numbers as the map needs, ({bijection.context_size},); got {got}: pass one "
                "row, to a map built with context=c"
            )
        if not bool(row.isfinite().all()):
            raise InputError(f"context must be finite; got {row.tolist()}: pass e.g. the logarithm of a temperature")
        self.bijection = bijection
        self.register_buffer("context", row, persistent=False)  # it says which flow this is, as its structure does

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.bijection._forward(z, self.context.expand(len(z), -1))

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.bijection._inverse(x, self.context.expand(len(x), -1))
