"""Velocities of like particles, which do not care how these are numbered, turned or mirrored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from ..arguments import counts, positive_counts, positive_numbers
from ..errors import InputError
from .conditioner import check_widths

__all__ = ["ParticleVelocity"]

_WAVES = 6
"""waves in time that the network sees, of half periods 1 to 1/6."""
_CORE = 1e-6
"""added to squared distances, so that two particles may be in one place."""
_TURNS = 2
"""times that particles are renumbered and turned to lie close to others."""
_TYPICAL, _LEAST = 8192, 0.01
"""particles of normal draws that say how large features and sums are, and what these are taken for at least."""


class _Surroundings(NamedTuple):
    """What particles see of each other: (n, N, N, …) from the first to the second, (n, N, …) of each.

    Attributes:
        distance, unit: d_ij and its gradient (…, k) with the first, the direction from the second.
        radial, slope: e_m and its derivative (…, M + 1), zero between a particle and itself.
        pull: Σ_j (x_i − x_j) e_m, (n, N, k, M + 1).
        features: the invariants the network sees, (n, N, 2M + 1).
    """

    distance: Tensor
    unit: Tensor
    radial: Tensor
    slope: Tensor
    pull: Tensor
    features: Tensor

    @property
    def along(self) -> Tensor:
        """(x_i − x_j) · ∇d_ij, (n, N, N, 1): d_ij but for what keeps it from zero."""
        return (self.distance * self.unit.square().sum(-1))[..., None]


class ParticleVelocity(nn.Module):
    """A velocity of N like particles in k dimensions, for `Continuous`, which turns, mirrors and permutes with them.

    Particles move along the lines between them, as fast as the surroundings of both tell,

        v_i = Σ_{j≠i} (x_i − x_j) Σ_m e_m(d_ij) (c_im + c_jm),

    with e_0 = 1 and Gaussians e_1 … e_M of the distance d_ij. c_i is what a network makes of time and context, of the
    densities Σ_j e_m(d_ij) of the Gaussians, and of ln(1 + |Σ_j (x_i − x_j) e_m(d_ij)|²), which tells how one-sided
    they are. So the centroid rests, and a law with the symmetries of the particles keeps them along the flow. v is zero
    at first.

    The trace of ∂v/∂z needs no backward pass: it is a sum over pairs of derivatives of e_m and of the network, which
    are carried along with its value, M + 1 of them. Tensors of n N² (M + 1) numbers are made on the way.

    Arguments:
        basis: orthonormal columns that sum to zero, (N, N − 1): positions are x = basis z, z of shape (N − 1, k). That
            of the energy, such as `LJ13.basis`, if it has one.
        dims: number k of dimensions of space.
        reach: distance of the last Gaussian.
        radial: number M of Gaussians, as wide as they lie apart.
        hidden: widths of the network's hidden layers.
        scale: standard deviation of z, the unit of length.
        context: length of the context.
        generator: source of the initial weights; the default generator of torch if None.

    Attributes:
        dim: number (N − 1) k of coordinates z.
        context_size: length of the context.

    Raises:
        InputError: if an argument has a wrong value.

    Example:
        >>> from boltzgen.flows import Continuous, Flow, Normal
        >>> basis = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]).T / torch.tensor([2.0, 6.0]).sqrt()
        >>> velocity = ParticleVelocity(basis, 2, reach=3.0)
        >>> flow = Flow(Normal(4), Continuous(velocity.dim, velocity, steps=8))

    References:
        Köhler, Klein, Noé (2020), "Equivariant flows", for pairs that do not know of others. Daw, Baskes (1984), Phys.
        Rev. B 29, 6443, for pairs that know the densities around them.
    """

    def __init__(
        self,
        basis: Tensor,
        dims: int = 3,
        *,
        reach: float,
        radial: int = 20,
        hidden: Sequence[int] = (64, 64),
        scale: float = 1.0,
        context: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.dims, radial = positive_counts(dims=dims, radial=radial)
        reach, self.scale = positive_numbers(reach=reach, scale=scale)
        (self.context_size,) = counts(context=context)
        check_widths(hidden)
        self._exact = _checked(basis)
        self.dim = self._exact.shape[1] * self.dims
        self.width = reach / radial / self.scale
        self.basis: Tensor
        self.register_buffer("basis", self._exact.to(torch.get_default_dtype()), persistent=False)
        self.others: Tensor
        self.register_buffer("others", (1 - torch.eye(len(self._exact)))[..., None], persistent=False)
        self.centres: Tensor
        self.register_buffer("centres", self.width * torch.arange(1.0, radial + 1), persistent=False)
        rows = max(32, _TYPICAL // len(self._exact))
        seen = self._surroundings(self.scale * torch.randn(rows, self.dim, generator=torch.Generator().manual_seed(0)))
        told = 1 + 2 * _WAVES + self.context_size
        self.network = _Network(seen.features, told, hidden, seen.pull, generator)

    def extra_repr(self) -> str:
        return f"particles={len(self._exact)}, dims={self.dims}, width={self.width!r}, scale={self.scale!r}"

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.basis = self._exact.to(self.basis)  # as orthonormal as the dtype allows, whatever it was before
        return self

    def forward(self, z: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        seen = self._surroundings(z)
        return self._velocity(seen, self.network(seen.features, _told(t, context)))

    def with_trace(self, z: Tensor, t: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """v and tr ∂v/∂z, (n,)."""
        seen = self._surroundings(z)
        c, of_network = self.network.with_directions(seen.features, _told(t, context), self._directions(seen))
        apart = self.dims * seen.radial + seen.along * seen.slope
        # with the network held, both ends of a pair move apart alike
        return self._velocity(seen, c), 2 * (apart.sum(2) * c).sum((1, 2)) + of_network.sum(1)

    @torch.no_grad()
    def nearest(self, z: Tensor, x: Tensor) -> Tensor:
        """z renumbered, turned and mirrored to lie close to x, row by row: see `flow_matching`.

        Numbers are exchanged two at a time while that brings particles nearer, then the whole is turned, and so once
        more: not always the nearest of all copies.
        """
        ours, theirs = self._positions(z), self._positions(x)
        for _ in range(_TURNS):
            ours = ours.gather(1, _numbers(theirs @ ours.transpose(1, 2))[..., None].expand_as(ours))
            left, _, right = torch.linalg.svd(ours.transpose(1, 2) @ theirs)  # Kabsch (1976), mirrors allowed
            ours = ours @ (left @ right)
        return (self.basis.T @ ours).flatten(1)

    def _positions(self, z: Tensor) -> Tensor:
        return self.basis @ z.view(len(z), self.basis.shape[1], self.dims)

    def _surroundings(self, z: Tensor) -> _Surroundings:
        x = self._positions(z / self.scale)
        between = x[:, :, None] - x[:, None]
        distance = (between.square().sum(-1) + _CORE).sqrt()
        offset = (distance[..., None] - self.centres) / self.width
        bumps = torch.exp(-0.5 * offset.square()) * self.others
        slope = -offset / self.width * bumps
        radial = torch.cat([self.others.expand_as(bumps[..., :1]), bumps], -1)
        slope = torch.cat([torch.zeros_like(slope[..., :1]), slope], -1)
        pull = between.transpose(2, 3) @ radial
        features = torch.cat([bumps.sum(2), torch.log1p(pull.square().sum(2))], -1)
        return _Surroundings(distance, between / distance[..., None], radial, slope, pull, features)

    def _velocity(self, seen: _Surroundings, c: Tensor) -> Tensor:
        strength = (seen.radial @ c[..., None])[..., 0] + (seen.radial * c[:, None]).sum(-1)
        v = ((strength * seen.distance)[:, :, None] @ seen.unit)[:, :, 0]
        return self.scale * (self.basis.T @ v).flatten(1)

    def _directions(self, seen: _Surroundings) -> Tensor:
        """Σ_j (∂f_il/∂x_j) · (∂v_j/∂c_im − ∂v_i/∂c_im), (n, N, M + 1, 2M + 1), whose part for l meets ∂c_im/∂f_il.

        A feature is the same wherever its particle is if all others move along, hence the difference.
        """
        distance, unit, radial, slope, pull = seen.distance[..., None], *seen[1:5]
        toward = unit @ pull  # (n, N, N, M + 1)
        moved = (seen.along * radial + toward).transpose(2, 3)
        turned = moved @ (distance * slope * toward)
        turned = turned + (distance * radial).transpose(2, 3) @ (radial * toward)
        turned = turned + (pull.transpose(2, 3) @ pull) * radial.sum(2)[:, :, None]
        lengths = 1 + pull.square().sum(2)
        return torch.cat([moved @ slope[..., 1:], turned * (2 / lengths)[:, :, None]], 3)


class _Network(nn.Module):
    """A multilayer perceptron from features (n, N, f) and what all are told (n, g) to (n, N, m), zero at first.

    Typical features have mean 0 and variance 1 for its layers, and what comes out of these is divided by the size of
    what it multiplies, typical (n, N, k, m).
    """

    def __init__(
        self, features: Tensor, told: int, hidden: Sequence[int], multiplied: Tensor, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", features.mean((0, 1)))
        self.std: Tensor
        self.register_buffer("std", features.std((0, 1)) + _LEAST)
        self.size: Tensor
        self.register_buffer("size", multiplied.square().sum(2).mean((0, 1)).sqrt() + _LEAST)
        widths = [len(self.std) + told, *hidden, len(self.size)]
        layers = [_linear(*sizes, generator) for sizes in pairwise(widths)]
        nn.init.zeros_(layers[-1].weight)
        self.hidden, self.last = nn.ModuleList(layers[:-1]), layers[-1]

    def forward(self, features: Tensor, told: Tensor) -> Tensor:
        h = self._inputs(features, told)
        for layer in self.hidden:
            h = nn.functional.silu(layer(h))
        out: Tensor = self.last(h) / self.size
        return out

    def with_directions(self, features: Tensor, told: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The value c, and Σ_lm (∂c_m/∂f_l) g_ml, (n, N), of a direction (m, f) for each output, (n, N, m, f)."""
        h, tangents = self._inputs(features, told), directions / self.std
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            a = layer(h)
            sigmoid = torch.sigmoid(a)
            h = a * sigmoid
            moved = tangents @ layer.weight[:, : tangents.shape[-1]].T
            tangents = moved * (sigmoid + h * (1 - sigmoid))[:, :, None]
        slopes = self.last.weight[:, : tangents.shape[-1]] / self.size[:, None]
        return self.last(h) / self.size, tangents.flatten(2) @ slopes.flatten()

    def _inputs(self, features: Tensor, told: Tensor) -> Tensor:
        white = (features - self.mean) / self.std
        return torch.cat([white, told[:, None].expand(-1, white.shape[1], -1)], -1)


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """With the initial law of `nn.Linear`, and biases of zero; the global random state is not touched."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _told(t: Tensor, context: Tensor | None) -> Tensor:
    """What the network of every particle is told, (n, g): the time, waves in it, and the context."""
    phases = math.pi * torch.arange(1, _WAVES + 1, dtype=t.dtype, device=t.device) * t[:, None]
    return torch.cat([t[:, None], phases.sin(), phases.cos(), *([] if context is None else [context])], 1)


def _numbers(gain: Tensor) -> Tensor:
    """Which column each row gets, (n, N), for a sum of gain (n, N, N) that no exchange of two makes larger."""
    rows = torch.arange(len(gain), device=gain.device)
    number = torch.arange(gain.shape[1], device=gain.device).repeat(len(gain), 1)
    while True:
        chosen = gain.gather(2, number[:, None].expand_as(gain))  # of row i what row j has now
        now = chosen.diagonal(dim1=1, dim2=2)
        better = chosen + chosen.transpose(1, 2) - now[:, :, None] - now[:, None]
        most, which = better.flatten(1).max(1)
        swap = most > 1e-6 * now.abs().sum(1)
        if not swap.any():
            return number
        i, j = which // gain.shape[1], which % gain.shape[1]
        first, second = number[rows, i], number[rows, j]
        number[rows, i], number[rows, j] = torch.where(swap, second, first), torch.where(swap, first, second)


def _checked(basis: Tensor) -> Tensor:
    """The basis, or the one nearest to it that is orthonormal to double precision."""
    if not isinstance(basis, Tensor) or basis.ndim != 2 or not basis.shape[0] == basis.shape[1] + 1 > 1:
        got = tuple(basis.shape) if isinstance(basis, Tensor) else type(basis).__name__
        raise InputError(f"basis must be a tensor (N, N − 1); got {got}: pass that of the energy, such as LJ13.basis")
    basis = basis.detach().to("cpu", torch.float64, copy=True)
    off = max((basis.T @ basis - torch.eye(basis.shape[1], dtype=torch.float64)).abs().max(), basis.sum(0).abs().max())
    if not off < 1e-5:
        raise InputError(
            f"basis must have orthonormal columns that sum to zero; got some that are off by {off:.2g}: pass that of "
            "the energy, such as LJ13.basis"
        )
    left, _, right = torch.linalg.svd(basis - basis.mean(0), full_matrices=False)
    exact: Tensor = left @ right
    return exact
