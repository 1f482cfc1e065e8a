"""Invertible maps of a few dimensions whose parameters come from outside."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..errors import InputError
from .spline import rational_quadratic_spline

__all__ = [
    "Additive",
    "Affine",
    "CircularSpline",
    "Mixed",
    "Rotation",
    "Spline",
    "Transformer",
    "TriangularAffine",
]


class Transformer(nn.Module, ABC):
    """An invertible map x = f(z; θ) of m dimensions, the identity (or a fixed rotation) at θ = 0.

    A subclass writes `forward(z, theta) → (x, log_det)` and `inverse(x, theta) → (z, log_det)`, log_det of the call
    made, (n,). θ has shape (n, size).

    Attributes:
        dim: number of dimensions m.
        size: number of parameters of one row of θ.
        circular: which of the dimensions are angles.
    """

    def __init__(self, dim: int, size: int, circular: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.size = size
        self.circular = (circular,) * dim

    @abstractmethod
    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """x and log |det ∂x/∂z|."""

    @abstractmethod
    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """z and log |det ∂z/∂x|."""


class Additive(Transformer):
    """A translation x = z + θ (NICE).

    References:
        Dinh, Krueger, Bengio (2015), NICE.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim)

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return z + theta, z.new_zeros(len(z))

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return x - theta, x.new_zeros(len(x))


class Rotation(Transformer):
    """A translation of angles, x = z + θ modulo 2π."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, circular=True)

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return _wrapped(z + theta), z.new_zeros(len(z))

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return _wrapped(x - theta), x.new_zeros(len(x))


class Affine(Transformer):
    """A translation and a scaling, x = μ + z exp(σ), |σ| ≤ `max_log_scale` (RealNVP).

    References:
        Dinh, Sohl-Dickstein, Bengio (2017), Density estimation using Real NVP.
    """

    def __init__(self, dim: int, *, max_log_scale: float = 5.0) -> None:
        super().__init__(dim, 2 * dim)
        self.max_log_scale = max_log_scale

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self._unpack(theta)
        return mean + z * log_scale.exp(), log_scale.sum(-1)

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self._unpack(theta)
        return (x - mean) * (-log_scale).exp(), -log_scale.sum(-1)

    def _unpack(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = theta.chunk(2, -1)
        return mean, _bounded(log_scale, self.max_log_scale)


class TriangularAffine(Transformer):
    """A full conditional covariance, x = μ + (1 + N) exp(σ) z with N strictly lower triangular.

    It has m(m − 1)/2 + 2m parameters: dear beyond a hundred dimensions.

    Arguments:
        dim: number of dimensions m.
        max_log_scale: bound of |σ|.
        gain: N = gain · θ_N; small, because a row of N sums many terms.
    """

    _entries: Tensor

    def __init__(self, dim: int, *, max_log_scale: float = 5.0, gain: float = 0.1) -> None:
        row, column = torch.tril_indices(dim, dim, -1)
        super().__init__(dim, 2 * dim + len(row))
        self.max_log_scale = max_log_scale
        self.gain = gain
        self.register_buffer("_entries", row * dim + column, persistent=False)

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale, lower = self._unpack(theta)
        v = z * log_scale.exp()
        return mean + v + (lower @ v[..., None])[..., 0], log_scale.sum(-1)

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale, lower = self._unpack(theta)
        unit = lower + torch.eye(self.dim, dtype=x.dtype, device=x.device)
        v = torch.linalg.solve_triangular(unit, (x - mean)[..., None], upper=False, unitriangular=True)[..., 0]
        return v * (-log_scale).exp(), -log_scale.sum(-1)

    def _unpack(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m = self.dim
        mean, log_scale, entries = theta.split_with_sizes([m, m, self.size - 2 * m], -1)
        lower = theta.new_zeros(len(theta), m * m).index_copy(1, self._entries, self.gain * entries)
        return mean, _bounded(log_scale, self.max_log_scale), lower.view(-1, m, m)


class Spline(Transformer):
    """A rational-quadratic spline on [−reach, reach], the identity beyond, followed by a translation and a scaling.

    Arguments:
        dim: number of dimensions m.
        bins: number of bins K.
        reach: half the width of the spline's interval.
        max_log_scale: bound of the scaling's logarithm.
        min_width, min_height, min_derivative: floors; see `rational_quadratic_spline`.
    """

    def __init__(
        self,
        dim: int,
        *,
        bins: int = 8,
        reach: float = 5.0,
        max_log_scale: float = 5.0,
        min_width: float = 1e-3,
        min_height: float = 1e-3,
        min_derivative: float = 1e-3,
    ) -> None:
        super().__init__(dim, dim * (3 * bins + 3))
        self._floors = _floors(bins, min_width, min_height, min_derivative)
        self.bins, self.reach, self.max_log_scale = bins, reach, max_log_scale

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        w, h, d, mean, log_scale = self._unpack(theta)
        x, step = self._spline(z, w, h, d, inverse=False)
        return mean + x * log_scale.exp(), (step + log_scale).sum(-1)

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        w, h, d, mean, log_scale = self._unpack(theta)
        z, step = self._spline((x - mean) * (-log_scale).exp(), w, h, d, inverse=True)
        return z, (step - log_scale).sum(-1)

    def _spline(self, v: Tensor, w: Tensor, h: Tensor, d: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        scale = 2 * self.reach
        y, step = rational_quadratic_spline(v / scale + 0.5, w, h, d, inverse=inverse, **self._floors)
        inside = v.abs() < self.reach
        return torch.where(inside, (y - 0.5) * scale, v), torch.where(inside, step, 0.0)

    def _unpack(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        K = self.bins
        w, h, d, affine = theta.view(len(theta), self.dim, -1).split_with_sizes([K, K, K + 1, 2], -1)
        return w, h, d, affine[..., 0], _bounded(affine[..., 1], self.max_log_scale)


class CircularSpline(Transformer):
    """A rational-quadratic spline of an angle onto the circle, smooth at ±π, followed by a rotation.

    The rotation moves the seam, where the spline's ends meet, so that it differs from layer to layer.

    Arguments:
        dim: number of angles m.
        bins: number of bins K.
        shift: the rotation in radians, (m,); learned if it is an `nn.Parameter`, none if None.
        min_width, min_height, min_derivative: floors; see `rational_quadratic_spline`.

    References:
        Rezende et al. (2020), Normalizing flows on tori and spheres, section 2.1.1.
    """

    shift: Tensor

    def __init__(
        self,
        dim: int,
        *,
        bins: int = 8,
        shift: Tensor | None = None,
        min_width: float = 1e-3,
        min_height: float = 1e-3,
        min_derivative: float = 1e-3,
    ) -> None:
        super().__init__(dim, dim * 3 * bins, circular=True)
        self._floors = _floors(bins, min_width, min_height, min_derivative)
        self.bins = bins
        shift = torch.zeros(dim) if shift is None else shift
        if tuple(shift.shape) != (dim,):
            raise InputError(f"shift must have shape ({dim},); got {tuple(shift.shape)}: give one angle per dimension")
        if isinstance(shift, nn.Parameter):
            self.shift = shift
        else:
            self.register_buffer("shift", shift.detach().clone())

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        y, step = self._spline(_wrapped(z), theta, inverse=False)
        return _wrapped(y + self.shift), step

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return self._spline(_wrapped(x - self.shift), theta, inverse=True)

    def _spline(self, v: Tensor, theta: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        w, h, d = theta.view(len(theta), self.dim, -1).chunk(3, -1)
        d = torch.cat([d, d[..., :1]], -1)
        scale = 2 * math.pi
        y, step = rational_quadratic_spline(v / scale + 0.5, w, h, d, inverse=inverse, **self._floors)
        return (y - 0.5) * scale, step.sum(-1)


class Mixed(Transformer):
    """Two transformers side by side: the first dimensions go through `linear`, the others through `circular`.

    Arguments:
        first, second: the transformers, of m₁ and m₂ dimensions.
    """

    def __init__(self, first: Transformer, second: Transformer) -> None:
        super().__init__(first.dim + second.dim, first.size + second.size)
        self.first, self.second = first, second
        self.circular = first.circular + second.circular

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        (z1, z2), (theta1, theta2) = self._split(z, theta)
        (x1, step1), (x2, step2) = self.first(z1, theta1), self.second(z2, theta2)
        return torch.cat([x1, x2], -1), step1 + step2

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        (x1, x2), (theta1, theta2) = self._split(x, theta)
        (z1, step1), (z2, step2) = self.first.inverse(x1, theta1), self.second.inverse(x2, theta2)
        return torch.cat([z1, z2], -1), step1 + step2

    def _split(self, v: Tensor, theta: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (
            v.split_with_sizes([self.first.dim, self.second.dim], -1),
            theta.split_with_sizes([self.first.size, self.second.size], -1),
        )


def _bounded(value: Tensor, bound: float) -> Tensor:
    """The value itself near zero, never beyond ±bound."""
    return bound * torch.tanh(value / bound)


def _wrapped(angle: Tensor) -> Tensor:
    """The angle's representative in [−π, π)."""
    return angle - 2 * math.pi * torch.floor((angle + math.pi) / (2 * math.pi))


def _floors(bins: int, min_width: float, min_height: float, min_derivative: float) -> dict[str, float]:
    if bins < 1:
        raise InputError(f"bins must be at least 1; got {bins}: pass e.g. bins=8")
    for name, value, limit in (
        ("min_width", min_width, 1 / bins),
        ("min_height", min_height, 1 / bins),
        ("min_derivative", min_derivative, 1.0),
    ):
        if not 1e-12 <= value < limit:
            raise InputError(f"{name} must lie between 1e-12 and {limit:g}; got {value}: pass e.g. {name}=1e-3")
    return {"min_width": min_width, "min_height": min_height, "min_derivative": min_derivative}
