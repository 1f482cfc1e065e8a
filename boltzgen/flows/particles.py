"""Velocities of like particles, which do not care how these are numbered, turned or mirrored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

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
_TYPICAL, _LEAST = 512, 0.01
"""draws of the normal law that say how large features and sums are, and what they are taken for at least."""


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


class ParticleVelocity(nn.Module):
    """A velocity of N like particles in k dimensions, for `Continuous`, which turns, mirrors and permutes with them.

    Particles move along the lines between them, as fast as the surroundings of both tell,

        v_i = Σ_j (x_i − x_j) Σ_m e_m(d_ij) (c_im + c_jm),    e_0 = 1, e_1 … e_M Gaussians of the distance d_ij,

    where c_i is what a network makes of time and context, of the densities Σ_j e_m(d_ij), and of
    ln(1 + |Σ_j (x_i − x_j) e_m(d_ij)|²), which tells how one-sided they are. So the centroid rests, and a law with the
    symmetries of the particles keeps them along the flow. v is zero at first.

    The trace of ∂v/∂z needs no backward pass: it is a sum over pairs of derivatives of e_m and of the network, which
    are carried along with its value.

    Arguments:
        basis: orthonormal columns that sum to zero, (N, N − 1): positions are x = basis z, z of shape (N − 1, k).
        dims: number k of dimensions of space.
        reach: distance of the last Gaussian.
        radial: number M of Gaussians, as wide as they lie apart.
        hidden: widths of the network's hidden layers.
        scale: standard deviation of z at which features and sums over neighbours are of order one.
        context: length of the context.
        generator: source of the initial weights; the default generator of torch if None.

    Raises:
        InputError: if an argument has a wrong value.

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
        reach, scale = positive_numbers(reach=reach, scale=scale)
        check_widths(hidden)
        self.basis: Tensor
        self.register_buffer("basis", _checked(basis).to(torch.get_default_dtype()))
        self.others: Tensor
        self.register_buffer("others", (1 - torch.eye(len(basis)))[..., None], persistent=False)
        self.width = reach / radial
        self.centres: Tensor
        self.register_buffer("centres", self.width * torch.arange(1.0, radial + 1), persistent=False)
        typical = scale * torch.randn(_TYPICAL, self.dim, generator=torch.Generator().manual_seed(0))
        seen = self._surroundings(typical)
        (context,) = counts(context=context)
        self.network = _Network(seen.features, 1 + 2 * _WAVES + context, hidden, seen.pull, generator)

    def extra_repr(self) -> str:
        return f"dims={self.dims}, width={self.width:g}"

    @property
    def dim(self) -> int:
        """Number (N − 1) k of coordinates z."""
        return self.basis.shape[1] * self.dims

    def forward(self, z: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        seen = self._surroundings(z)
        return self._velocity(seen, self.network(seen.features, _common(t, context)))

    def with_trace(self, z: Tensor, t: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """v and tr ∂v/∂z, (n,)."""
        distance, unit, radial, slope, pull, features = seen = self._surroundings(z)
        # that of c: Σ_i Σ_lm (∂c_im/∂f_il) Σ_j (∂f_il/∂x_j) · (∂v_j − ∂v_i)/∂c_im, f being the same wherever i is
        along = (distance * unit.square().sum(-1))[..., None]
        toward = unit @ pull  # (n, N, N, M + 1)
        moved = (along * radial + toward).transpose(2, 3)
        lengths, densities = pull.square().sum(2), radial.sum(2)
        turned = moved @ (distance[..., None] * slope * toward)
        turned = turned + (distance[..., None] * radial).transpose(2, 3) @ (radial * toward)
        turned = turned + (pull.transpose(2, 3) @ pull) * densities[:, :, None]
        by_feature = torch.cat([moved @ slope[..., 1:], turned * (2 / (1 + lengths))[:, :, None]], 3)
        c, of_network = self.network.with_directions(features, _common(t, context), by_feature)
        # that of e_m: both ends of a pair move apart
        spread = (self.dims * radial + along * slope).sum(2)
        return self._velocity(seen, c), 2 * (spread * c).sum((1, 2)) + of_network.sum(1)

    @torch.no_grad()
    def nearest(self, z: Tensor, x: Tensor) -> Tensor:
        """z renumbered, turned and mirrored to lie close to x, row by row: see `flow_matching`.

        Numbers are exchanged two at a time while that brings them nearer, and the whole turned, and so once more: close
        to the best, and seldom the best.
        """
        ours, theirs = (self.basis @ some.view(len(some), self.basis.shape[1], self.dims) for some in (z, x))
        for _ in range(_TURNS):
            ours = ours.gather(1, _numbers(theirs @ ours.transpose(1, 2))[..., None].expand_as(ours))
            left, _, right = torch.linalg.svd(ours.transpose(1, 2) @ theirs)  # Kabsch (1976), mirrors allowed
            ours = ours @ (left @ right)
        return (self.basis.T @ ours).flatten(1)

    def _surroundings(self, z: Tensor) -> _Surroundings:
        x = self.basis @ z.view(len(z), self.basis.shape[1], self.dims)
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
        moved: Tensor = self.basis.T @ v
        return moved.flatten(1)


def _numbers(gain: Tensor) -> Tensor:
    """Which column each row gets, (n, N), for a sum of gain (n, N, N) that no exchange of two makes larger."""
    rows = torch.arange(len(gain), device=gain.device)
    number = torch.arange(gain.shape[1], device=gain.device).repeat(len(gain), 1)
    while True:
        chosen = gain.gather(2, number[:, None].expand_as(gain))  # of row i what row j has now
        now = chosen.diagonal(dim1=1, dim2=2)
        better = chosen + chosen.transpose(1, 2) - now[:, :, None] - now[:, None]
        most, which = better.flatten(1).max(1)
        if not (most > 1e-6 * now.abs().sum(1)).any():
            return number
        i, j = which // gain.shape[1], which % gain.shape[1]
        swap = most > 0
        first, second = number[rows, i], number[rows, j]
        number[rows, i], number[rows, j] = torch.where(swap, second, first), torch.where(swap, first, second)


class _Network(nn.Module):
    """A multilayer perceptron from features (n, N, f) and common inputs (n, g) to (n, N, m), zero at first.

    Typical features have mean 0 and variance 1 for its layers, and what comes out of these is divided by the size of
    what it multiplies, typical (n, N, k, m).
    """

    def __init__(
        self,
        features: Tensor,
        common: int,
        hidden: Sequence[int],
        multiplied: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", features.mean((0, 1)))
        self.std: Tensor
        self.register_buffer("std", features.std((0, 1)) + _LEAST)
        self.size: Tensor
        self.register_buffer("size", multiplied.square().sum(2).mean((0, 1)).sqrt() + _LEAST)
        widths = [len(self.std) + common, *hidden, len(self.size)]
        layers = [nn.Linear(*sizes) for sizes in pairwise(widths)]
        for layer in layers:
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(layers[-1].weight)
        self.hidden, self.last = nn.ModuleList(layers[:-1]), layers[-1]

    def forward(self, features: Tensor, common: Tensor) -> Tensor:
        h = self._inputs(features, common)
        for layer in self.hidden:
            h = nn.functional.silu(layer(h))
        out: Tensor = self.last(h) / self.size
        return out

    def with_directions(self, features: Tensor, common: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The value c, and Σ_lm (∂c_m/∂f_l) g_ml, (n, N), of a direction (m, f) for each output, (n, N, m, f)."""
        h, tangents = self._inputs(features, common), directions / self.std
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            a = layer(h)
            sigmoid = torch.sigmoid(a)
            h = a * sigmoid
            moved = tangents @ layer.weight[:, : tangents.shape[-1]].T
            tangents = moved * (sigmoid + h * (1 - sigmoid))[:, :, None]
        slopes = self.last.weight[:, : tangents.shape[-1]] / self.size[:, None]
        return self.last(h) / self.size, tangents.flatten(2) @ slopes.flatten()

    def _inputs(self, features: Tensor, common: Tensor) -> Tensor:
        white = (features - self.mean) / self.std
        return torch.cat([white, common[:, None].expand(-1, white.shape[1], -1)], -1)


def _common(t: Tensor, context: Tensor | None) -> Tensor:
    """What the network of every particle is told, (n, g): the time, waves in it, and the context."""
    phases = math.pi * torch.arange(1, _WAVES + 1, dtype=t.dtype, device=t.device) * t[:, None]
    return torch.cat([t[:, None], phases.sin(), phases.cos(), *([] if context is None else [context])], 1)


def _checked(basis: Tensor) -> Tensor:
    fits = isinstance(basis, Tensor) and basis.ndim == 2 and basis.shape[0] == basis.shape[1] + 1 > 1
    if not fits or not basis.isfinite().all():
        got = tuple(basis.shape) if isinstance(basis, Tensor) else type(basis).__name__
        raise InputError(f"basis must be (N, N − 1) finite numbers; got {got}: pass that of the energy, `energy.basis`")
    wide = basis.double()
    unit = torch.eye(basis.shape[1], dtype=torch.float64, device=basis.device)
    if max((wide.T @ wide - unit).abs().max(), wide.sum(0).abs().max()) > 1e-5:
        raise InputError(
            "basis must have orthonormal columns that sum to zero; got others: pass that of the energy, `energy.basis`"
        )
    return basis
