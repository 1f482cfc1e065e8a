"""The laws that flows start from: easy to draw, with a density in closed form."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import InputError

__all__ = ["Base", "Normal", "Product", "UniformTorus"]


class Base(nn.Module, ABC):
    """A normalised density on R^d or the torus.

    A subclass calls `super().__init__(dim)` and writes `sample` and `log_prob`. Noise is drawn on the CPU in the
    module's dtype and then moved to its device, so that a seed means the same everywhere.

    Attributes:
        event_shape: shape (d,) of one z.
    """

    _like: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.event_shape = torch.Size([dim])
        self.register_buffer("_like", torch.zeros(()), persistent=False)  # carries dtype and device

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent draws z, (n, d)."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z), (n, d) → (n,)."""


class Normal(Base):
    """The standard normal law, p(z) = (2π)^(−d/2) exp(−|z|²/2).

    Example:
        >>> Normal(2).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        z = torch.randn(n, *self.event_shape, generator=generator, dtype=self._like.dtype)
        return z.to(self._like.device)

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)


class UniformTorus(Base):
    """The uniform law of d angles, p(z) = (2π)^(−d); draws lie in [−π, π), any representative of an angle will do.

    Example:
        >>> UniformTorus(1).log_prob(torch.zeros(1, 1))
        tensor([-1.8379])
    """

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        z = torch.rand(n, *self.event_shape, generator=generator, dtype=self._like.dtype)
        return ((2 * z - 1) * math.pi).to(self._like.device)

    def log_prob(self, z: Tensor) -> Tensor:
        return z.new_full((len(z),), -z.shape[-1] * math.log(2 * math.pi))


class Product(Base):
    """Independent laws on disjoint dimensions, p(z) = Π_k p_k(z_{D_k}).

    Arguments:
        bases: the factors p_k.
        dims: the dimensions D_k of each, together 0 … d − 1.

    Raises:
        InputError: unless the dimensions fit the factors and cover 0 … d − 1 once.

    Example:
        >>> Product([Normal(1), UniformTorus(1)], [[1], [0]]).event_shape
        torch.Size([2])
    """

    _order: Tensor
    _back: Tensor

    def __init__(self, bases: Sequence[Base], dims: Sequence[Sequence[int]]) -> None:
        order = [int(i) for part in dims for i in part]
        sizes = [base.event_shape.numel() for base in bases]
        if sorted(order) != list(range(len(order))) or sizes != [len(part) for part in dims]:
            raise InputError(
                f"dims must cover 0 to d - 1 once, as many for each base as it has; got {[list(p) for p in dims]} for "
                f"bases of {sizes} dimensions: give every dimension to one base"
            )
        super().__init__(len(order))
        self.bases = nn.ModuleList(bases)
        self._sizes = sizes
        self.register_buffer("_order", torch.tensor(order), persistent=False)
        self.register_buffer("_back", torch.tensor(order).argsort(), persistent=False)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        parts = [base.sample(n, generator) for base in self._factors()]
        return torch.cat(parts, -1)[:, self._back]

    def log_prob(self, z: Tensor) -> Tensor:
        parts = z[:, self._order].split_with_sizes(self._sizes, -1)
        return torch.stack([base.log_prob(part) for base, part in zip(self._factors(), parts, strict=True)]).sum(0)

    def _factors(self) -> list[Base]:
        return cast(list[Base], list(self.bases))
