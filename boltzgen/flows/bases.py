"""The laws that flows start from: easy to draw, with a density in closed form."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..arguments import instances, positive_counts
from ..errors import InputError
from .noise import BLOCK, keyed_generator

__all__ = ["Base", "MultivariateNormal", "Normal", "Product", "Uniform", "UniformTorus"]


class Base(nn.Module, ABC):
    """A normalised density on R^d or the torus.

    A subclass calls `super().__init__(dim)` and writes `sample` and `log_prob`. Noise is drawn on the CPU in the
    module's dtype and then moved to its device, so that a seed means the same everywhere.

    Attributes:
        event_shape: shape (d,) of one z.
        independent: whether the draws of one call are independent of each other.
    """

    independent = True
    _like: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.event_shape = torch.Size(positive_counts(dim=dim))
        self.register_buffer("_like", torch.zeros(()), persistent=False)  # carries dtype and device

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent draws z, (n, d)."""

    def block(self, seed: int, index: int) -> Tensor:
        """Draws 1024 · index to 1024 · index + 1023 of the one long sample that a seed stands for, (1024, d)."""
        return self.sample(BLOCK, keyed_generator(seed, index))

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z), (n, d) → (n,)."""

    def quantile(self, p: Tensor) -> Tensor:
        """The z of this law for p uniform in (0, 1), both (n, d), by the inverse of each distribution function.

        Raises:
            InputError: if the law has none that is known here.
        """
        raise InputError(
            f"a base must be normal or uniform, or a product of these, to have quantiles; got {type(self).__name__}: "
            "start from one of them"
        )

    def tempered(self, ratio: float) -> Base:
        """The base at `ratio` times its temperature, p(z)^(1/ratio), normalised.

        Raises:
            InputError: if that is no law of this kind.
        """
        raise InputError(
            f"a base must be normal, uniform or von Mises, or a product of these, to be tempered; got "
            f"{type(self).__name__}: start from one of them"
        )


class Normal(Base):
    """The normal law of mean 0 and standard deviation σ, p(z) = (2πσ²)^(−d/2) exp(−|z|²/2σ²).

    It stays as it is: `MultivariateNormal` learns.

    Arguments:
        dim: number of dimensions d.
        scale: σ.

    Example:
        >>> Normal(2).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    def __init__(self, dim: int, *, scale: float = 1.0) -> None:
        if not 0 < scale < math.inf:
            raise InputError(f"scale must be positive; got {scale}: pass e.g. scale=1.0")
        super().__init__(dim)
        self.scale = scale

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        z = torch.randn(n, *self.event_shape, generator=generator, dtype=self._like.dtype)
        return (self.scale * z).to(self._like.device)

    def log_prob(self, z: Tensor) -> Tensor:
        constant = z.shape[-1] * (0.5 * math.log(2 * math.pi) + math.log(self.scale))
        return -0.5 / self.scale**2 * z.square().sum(-1) - constant

    def quantile(self, p: Tensor) -> Tensor:
        z: Tensor = self.scale * torch.special.ndtri(p)
        return z

    def tempered(self, ratio: float) -> Normal:
        return Normal(self.event_shape[0], scale=self.scale * math.sqrt(ratio)).to(self._like)


class MultivariateNormal(Base):
    """The normal law of mean μ and covariance C Cᵀ, both trainable; draws z = μ + C ε are differentiable.

    Arguments:
        mean: the initial μ, (d,).
        factor: the initial C, lower triangular with a positive diagonal, (d, d), e.g. `torch.linalg.cholesky(cov)`.

    Attributes:
        mean: μ.
        weight: C below the diagonal, the logarithm of C on it.

    Raises:
        InputError: if the shapes do not fit or C is not such a factor.

    Example:
        >>> base = MultivariateNormal(torch.zeros(2), torch.tensor([[2.0, 0.0], [1.0, 0.5]]))
        >>> base.log_prob(torch.zeros(1, 2)).detach()
        tensor([-1.8379])
    """

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        d = len(mean)
        fits = tuple(mean.shape) == (d,) and tuple(factor.shape) == (d, d)
        finite = bool(mean.isfinite().all() and factor.isfinite().all())
        if not (fits and finite and torch.equal(factor, factor.tril()) and bool((factor.diagonal() > 0).all())):
            raise InputError(
                f"mean and factor must be finite, factor lower triangular of ({d}, {d}) with a positive diagonal; "
                f"got {tuple(factor.shape)} for a mean of shape {tuple(mean.shape)}: use torch.linalg.cholesky(cov)"
            )
        super().__init__(d)
        weight = factor.tril(-1) + factor.diagonal().log().diag()
        self.mean = nn.Parameter(mean.detach().to(torch.get_default_dtype(), copy=True))
        self.weight = nn.Parameter(weight.detach().to(torch.get_default_dtype()))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(n, *self.event_shape, generator=generator, dtype=self._like.dtype)
        return self.mean + noise.to(self._like.device) @ self._factor().T

    def quantile(self, p: Tensor) -> Tensor:
        z: Tensor = self.mean + torch.special.ndtri(p).to(self._like) @ self._factor().T
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        noise = torch.linalg.solve_triangular(self._factor(), (z - self.mean).T, upper=False)
        constant = 0.5 * z.shape[-1] * math.log(2 * math.pi) + self.weight.diagonal().sum()
        log_p: Tensor = -0.5 * noise.square().sum(0) - constant
        return log_p

    def _factor(self) -> Tensor:
        return self.weight.tril(-1) + self.weight.diagonal().exp().diag()


class Uniform(Base):
    """The uniform law of a box, p(z) = Π_i 1/(b_i − a_i) for a_i ≤ z_i ≤ b_i, and 0 outside.

    A bijection that maps the box onto itself, such as couplings with a `BoundedSpline`, makes other laws on it.

    Arguments:
        low, high: the corners a and b, (d,).

    Raises:
        InputError: unless they have one shape (d,) and low < high, all finite.

    Example:
        >>> base = Uniform(torch.tensor([0.0]), torch.tensor([2.0]))
        >>> base.log_prob(torch.tensor([[0.5], [3.0]]))
        tensor([-0.6931,    -inf])
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        instances(low=(low, Tensor), high=(high, Tensor))
        fits = low.ndim == 1 and low.shape == high.shape
        if not fits or not bool((low < high).all() and (high - low).isfinite().all()):
            raise InputError(
                f"low and high must be finite, of one shape (d,), and low less than high; got {low} and {high}: give "
                "the ends of an interval for every dimension"
            )
        super().__init__(len(low))
        self.register_buffer("low", low.detach().to(torch.get_default_dtype(), copy=True))
        self.register_buffer("high", high.detach().to(torch.get_default_dtype(), copy=True))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        p = torch.rand(n, *self.event_shape, generator=generator, dtype=self._like.dtype)
        return self.quantile(p.to(self._like.device))

    def log_prob(self, z: Tensor) -> Tensor:
        inside = ((z >= self.low) & (z <= self.high)).all(-1)
        return torch.where(inside, -(self.high - self.low).log().sum(), -torch.inf)

    def quantile(self, p: Tensor) -> Tensor:
        return torch.lerp(self.low.to(p), self.high.to(p), p)

    def tempered(self, ratio: float) -> Uniform:
        return self


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

    def quantile(self, p: Tensor) -> Tensor:
        return (2 * p - 1) * math.pi

    def tempered(self, ratio: float) -> UniformTorus:
        return self


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
        self.independent = all(base.independent for base in bases)
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

    def quantile(self, p: Tensor) -> Tensor:
        parts = p[:, self._order].split_with_sizes(self._sizes, -1)
        found = [base.quantile(part) for base, part in zip(self._factors(), parts, strict=True)]
        return torch.cat(found, -1)[:, self._back]

    def tempered(self, ratio: float) -> Product:
        dims = self._order.split_with_sizes(self._sizes)
        return Product([base.tempered(ratio) for base in self._factors()], [part.tolist() for part in dims]).to(
            self._like
        )

    def _factors(self) -> list[Base]:
        return cast(list[Base], list(self.bases))
