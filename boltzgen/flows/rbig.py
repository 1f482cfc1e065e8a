"""A flow read off data without training: marginals made normal and rotated, again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import counts, instances, positive_counts
from ..errors import InputError
from .bases import Normal
from .bijection import Bijection, Composition
from .coupling import Coupling
from .flow import Flow
from .mixing import Householder
from .transformer import Spline

__all__ = ["gaussianization"]

_WITHIN = 2.5  # standard deviations that hold the inner knots: beyond, quantiles of a few thousand points are noise


def gaussianization(x: Tensor, *, layers: int = 16, bins: int = 16, seed: int = 0) -> Flow:
    """A flow fitted to data by rotation-based iterative Gaussianization: seconds, no gradient, no local minimum.

    From x to z, every layer sends each dimension through Φ⁻¹ ∘ F̂, with F̂ its empirical distribution function as a
    spline through quantiles, and then turns all of them by a random rotation. Each layer takes the sum of the marginal
    divergences from the normal law off the divergence of the data, so that many bring any law near the normal one:
    soon in few dimensions, late in many. Splines and rotations are ordinary layers, which can be trained further.

    Arguments:
        x: independent draws of the law, (n, d), linear dimensions only; thousands of them.
        layers: number of pairs of splines and rotations.
        bins: of each spline.
        seed: of the rotations; the global random state is not touched.

    Returns:
        The flow, of the dtype of torch's default.

    Raises:
        InputError: if x has another shape, fewer than 10 rows per bin, or a dimension that is constant or not finite.

    Example:
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)).exp()
        >>> gaussianization(x, layers=2).event_shape
        torch.Size([2])

    References:
        Chen, Gopinath (2000), Gaussianization; Laparra, Camps-Valls, Malo (2011), Iterative Gaussianization: from ICA
        to random rotations.
    """
    positive_counts(layers=layers, bins=bins)
    instances(x=(x, Tensor))
    x = x.detach().to(torch.get_default_dtype())
    if x.ndim != 2 or len(x) < 10 * bins:
        raise InputError(f"x must have shape (n, d) with n at least {10 * bins}; got {tuple(x.shape)}: draw more")
    if not bool(x.isfinite().all() and (x.std(0) > 0).all()):
        raise InputError("x must be finite and vary in every dimension; got data that do not: leave those out")
    generator = torch.Generator().manual_seed(*counts(seed=seed))
    y, dim = x, x.shape[1]
    inwards: list[Bijection] = []  # in the order of inverse, from x to z
    for k in range(layers):
        if k and dim > 1:
            inwards.append(Householder(dim, generator=generator))
            y = _pulled(y, inwards[-1])
        inwards.append(_marginals(y, bins))
        y = _pulled(y, inwards[-1])
    return Flow(Normal(dim), Composition(inwards[::-1]))


@torch.no_grad()
def _pulled(y: Tensor, layer: Bijection) -> Tensor:
    return layer.inverse(y)[0]


@torch.no_grad()
def _marginals(x: Tensor, bins: int) -> Coupling:
    """The layer whose inverse makes every dimension of these data normal, x → Φ⁻¹(F̂(x))."""
    dim = x.shape[1]
    spline = Spline(dim, bins=bins)
    layer = Coupling(dim, range(dim), [], spline)
    mean, std = x.mean(0), x.std(0)
    inner = torch.linspace(-_WITHIN, _WITHIN, bins - 1, dtype=x.dtype) if bins > 2 else x.new_zeros(bins - 1)
    quantiles = ((x - mean) / std).quantile(torch.special.ndtr(inner), dim=0).clamp(-spline.reach, spline.reach)
    ends = x.new_full((1, dim), spline.reach)
    widths = torch.cat([-ends, inner[:, None].expand(-1, dim), ends]).diff(dim=0)
    heights = torch.cat([-ends, quantiles, ends]).diff(dim=0).clamp_min(1e-3)
    slopes = heights / widths
    between = (widths[1:] + widths[:-1]) / (widths[1:] / slopes[1:] + widths[:-1] / slopes[:-1])
    derivatives = torch.cat([torch.ones_like(ends), between, torch.ones_like(ends)])
    theta = spline.theta_of(widths, heights, derivatives, mean, std)
    for head, values in zip(layer.conditioner.heads, theta, strict=True):
        head.get_parameter("bias").copy_(values)
    return layer
