"""Invertible maps of a few dimensions whose parameters come from outside."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..arguments import numbers, positive_counts, positive_numbers
from ..errors import InputError
from .spline import Floors, rational_quadratic_spline

__all__ = [
    "Additive",
    "Affine",
    "BoundedSpline",
    "CircularSpline",
    "Mixed",
    "Rotation",
    "Spline",
    "Transformer",
]


class Transformer(nn.Module, ABC):
    """An invertible map x = f(z; θ) of m dimensions, the identity (or a fixed rotation) at θ = 0.

    A subclass calls `super().__init__(dim, sizes)` and writes `forward(z, *theta) → (x, log_det)` and
    `inverse(x, *theta) → (z, log_det)`, log_det of the call made. The batch is the LAST dimension: z and x are (m, n),
    θ is one tensor (size, n) for each of `sizes`, log_det is (n,).

    Attributes:
        dim: number of dimensions m.
        sizes: number of rows of each tensor of parameters.
        circular: which of the dimensions are angles.
    """

    def __init__(self, dim: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.dim = dim
        self.sizes = tuple(sizes)
        self.circular = (False,) * dim

    @abstractmethod
    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        """x and log |det ∂x/∂z|."""

    @abstractmethod
    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        """z and log |det ∂z/∂x|."""

    def owners(self) -> list[Tensor]:
        """For each tensor of parameters, the dimension to whose map each of its rows belongs.

        Raises:
            InputError: if the dimensions of the map depend on one another.
        """
        return [torch.arange(size) % self.dim for size in self.sizes]

    def forward_one(self, i: int, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` of dimension i alone, of z (1, n) and the rows of θ that belong to it.

        Most maps of single dimensions take the number of them from the tensors they get; one that holds constants of
        each dimension overrides this.
        """
        return self.forward(z, *theta)

    def extra_repr(self) -> str:
        """The constants that shape the map."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, (int, float))}
        shown = {name: value for name, value in plain.items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={value}" for name, value in (shown | vars(self).get("_floors", {})).items())


class Additive(Transformer):
    """A translation x = z + μ (NICE).

    References:
        Dinh, Krueger, Bengio (2015), NICE.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, [dim])

    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        return z + theta[0], z.new_zeros(z.shape[1])

    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        return x - theta[0], x.new_zeros(x.shape[1])


class Rotation(Additive):
    """A translation of angles, x = z + μ modulo 2π."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.circular = (True,) * dim

    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = super().forward(z, *theta)
        return _wrapped(x), log_det

    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().inverse(x, *theta)
        return _wrapped(z), log_det


class Affine(Transformer):
    """A translation and a scaling, x = μ + exp(σ) z with |σ| below `max_log_scale` (RealNVP).

    References:
        Dinh, Sohl-Dickstein, Bengio (2017), Density estimation using Real NVP.
    """

    def __init__(self, dim: int, *, max_log_scale: float = 5.0) -> None:
        super().__init__(dim, [dim, dim])
        (self.max_log_scale,) = positive_numbers(max_log_scale=max_log_scale)

    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = _bounded(theta[1], self.max_log_scale)
        return theta[0] + log_scale.exp() * z, log_scale.sum(0)

    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = _bounded(theta[1], self.max_log_scale)
        return (-log_scale).exp() * (x - theta[0]), -log_scale.sum(0)


class BoundedSpline(Transformer):
    """A rational-quadratic spline of the interval [low, high] onto itself, the identity beyond.

    Between a `Uniform` base of that interval and x it makes laws on a box.

    Arguments:
        dim: number of dimensions m.
        low, high: the ends of the interval, of every dimension.
        bins: number of bins K.
        min_width, min_height, min_derivative: floors; see `rational_quadratic_spline`.

    Raises:
        InputError: unless low < high, both finite, or if a floor leaves nothing to the bins.

    References:
        Müller et al. (2019), Neural importance sampling; Durkan, Bekasov, Murray, Papamakarios (2019).
    """

    def __init__(
        self,
        dim: int,
        *,
        low: float = 0.0,
        high: float = 1.0,
        bins: int = 8,
        min_width: float = 1e-3,
        min_height: float = 1e-3,
        min_derivative: float = 1e-3,
    ) -> None:
        positive_counts(bins=bins)
        super().__init__(dim, [2 * bins * dim, (bins + 1) * dim])
        self._floors = _floors(bins, min_width, min_height, min_derivative)
        self.bins = bins
        self.low, self.high = numbers(low=low, high=high)
        if not 0 < self.high - self.low < math.inf:
            raise InputError(f"low must be less than high, both finite; got {low} and {high}: pass e.g. low=0, high=1")

    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        x, step = self._spline(z, theta[0], theta[1], inverse=False)
        return self._within(x, z), step.sum(0)

    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        z, step = self._spline(x, theta[0], theta[1], inverse=True)
        return self._within(z, x), step.sum(0)

    def _within(self, y: Tensor, v: Tensor) -> Tensor:
        """y(v), where rounding carried it out of the interval, at the end."""
        return torch.where((v > self.low) & (v < self.high), y.clamp(self.low, self.high), v)

    def _spline(self, v: Tensor, bins: Tensor, derivatives: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """The spline's value and the logarithm of its derivative, dimension by dimension."""
        width = self.high - self.low
        offset = -self.low / width
        y, step = rational_quadratic_spline(
            v / width + offset,
            bins.view(2, self.bins, *v.shape),
            derivatives.view(self.bins + 1, *v.shape),
            inverse=inverse,
            **self._floors,
        )
        inside = (v - (self.low + self.high) / 2).abs() < width / 2
        return torch.where(inside, (y - offset) * width, v), torch.where(inside, step, 0.0)


class Spline(BoundedSpline):
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
        reach, max_log_scale = positive_numbers(reach=reach, max_log_scale=max_log_scale)
        super().__init__(
            dim,
            low=-reach,
            high=reach,
            bins=bins,
            min_width=min_width,
            min_height=min_height,
            min_derivative=min_derivative,
        )
        self.sizes = (*self.sizes, 2 * dim)
        self.reach, self.max_log_scale = reach, max_log_scale

    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self._affine(theta[2])
        x, step = self._spline(z, theta[0], theta[1], inverse=False)
        return mean + log_scale.exp() * x, (step + log_scale).sum(0)

    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self._affine(theta[2])
        z, step = self._spline((-log_scale).exp() * (x - mean), theta[0], theta[1], inverse=True)
        return z, (step - log_scale).sum(0)

    def theta_of(
        self, widths: Tensor, heights: Tensor, derivatives: Tensor, mean: Tensor, scale: Tensor
    ) -> list[Tensor]:
        """The parameters θ, as `sizes` has them, of given splines, as near as the floors and bounds allow.

        Arguments:
            widths, heights: of the bins, (K, m); only their proportions matter.
            derivatives: at the knots, (K + 1, m).
            mean, scale: of the affine map that follows, (m,).
        """
        sides = [(widths, self._floors["min_width"]), (heights, self._floors["min_height"])]
        excess = [((side / side.sum(0) - floor) / (1 - self.bins * floor)).clamp_min(1e-6) for side, floor in sides]
        bound = -math.log(self._floors["min_derivative"])
        soft = (derivatives.log() / bound).clamp(-0.99, 0.99)
        log_scale = (scale.log() / self.max_log_scale).clamp(-0.99, 0.99)
        return [
            torch.cat(excess).log().flatten(),
            (bound * soft / (1 - soft.abs())).flatten(),
            torch.cat([mean, self.max_log_scale * log_scale.atanh()]),
        ]

    def _affine(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = theta.chunk(2)
        return mean, _bounded(log_scale, self.max_log_scale)


class CircularSpline(Transformer):
    """A rational-quadratic spline of an angle onto the circle, smooth at ±π, followed by a rotation.

    The rotation moves the seam, where the spline's ends meet, so that it can differ from layer to layer.

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
        positive_counts(bins=bins)
        super().__init__(dim, [2 * bins * dim, bins * dim])
        self.circular = (True,) * dim
        self._floors = _floors(bins, min_width, min_height, min_derivative)
        self.bins = bins
        shift = torch.zeros(dim) if shift is None else shift
        if tuple(shift.shape) != (dim,):
            raise InputError(f"shift must have shape ({dim},); got {tuple(shift.shape)}: give one angle per dimension")
        if isinstance(shift, nn.Parameter):
            self.shift = shift
        else:
            self.register_buffer("shift", shift.detach().clone())

    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        return self._shifted(z, theta, self.shift)

    def forward_one(self, i: int, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        return self._shifted(z, theta, self.shift[i : i + 1])

    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        z, step = self._spline(_wrapped(x - self.shift[:, None]), *theta, inverse=True)
        return z, step.sum(0)

    def _shifted(self, z: Tensor, theta: Sequence[Tensor], shift: Tensor) -> tuple[Tensor, Tensor]:
        y, step = self._spline(_wrapped(z), *theta, inverse=False)
        return _wrapped(y + shift[:, None]), step.sum(0)

    def _spline(self, v: Tensor, bins: Tensor, derivatives: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        scale = 2 * math.pi
        y, step = rational_quadratic_spline(
            v / scale + 0.5,
            bins.view(2, self.bins, *v.shape),
            derivatives.view(self.bins, *v.shape),
            inverse=inverse,
            **self._floors,
        )
        return (y - 0.5) * scale, step


class Mixed(Transformer):
    """Two transformers side by side, e.g. one for linear dimensions and one for the angles that follow them.

    Arguments:
        first, second: the transformers, of m₁ and m₂ dimensions.
    """

    def __init__(self, first: Transformer, second: Transformer) -> None:
        super().__init__(first.dim + second.dim, first.sizes + second.sizes)
        self.first, self.second = first, second
        self.circular = first.circular + second.circular

    def forward(self, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        cut, m = len(self.first.sizes), self.first.dim
        x1, step1 = self.first(z[:m], *theta[:cut])
        x2, step2 = self.second(z[m:], *theta[cut:])
        return torch.cat([x1, x2]), step1 + step2

    def inverse(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        cut, m = len(self.first.sizes), self.first.dim
        z1, step1 = self.first.inverse(x[:m], *theta[:cut])
        z2, step2 = self.second.inverse(x[m:], *theta[cut:])
        return torch.cat([z1, z2]), step1 + step2

    def owners(self) -> list[Tensor]:
        return self.first.owners() + [self.first.dim + owner for owner in self.second.owners()]

    def forward_one(self, i: int, z: Tensor, *theta: Tensor) -> tuple[Tensor, Tensor]:
        m = self.first.dim
        return self.first.forward_one(i, z, *theta) if i < m else self.second.forward_one(i - m, z, *theta)


def _bounded(value: Tensor, bound: float) -> Tensor:
    """The value itself near zero, never beyond ±bound."""
    return bound * torch.tanh(value / bound)


def _wrapped(angle: Tensor) -> Tensor:
    """The angle's representative in [−π, π); unchanged, bit for bit, if it lies there."""
    turned = angle - 2 * math.pi * torch.floor((angle + math.pi) / (2 * math.pi))
    return turned.clamp(-math.pi, math.pi)  # rounding can carry it past the ends


def _floors(bins: int, min_width: float, min_height: float, min_derivative: float) -> Floors:
    for name, value, limit in (
        ("min_width", min_width, 1 / bins),
        ("min_height", min_height, 1 / bins),
        ("min_derivative", min_derivative, 1.0),
    ):
        if not 1e-6 <= value < limit:
            raise InputError(f"{name} must lie between 1e-6 and {limit:g}; got {value}: pass e.g. {name}=1e-3")
    return {"min_width": min_width, "min_height": min_height, "min_derivative": min_derivative}
