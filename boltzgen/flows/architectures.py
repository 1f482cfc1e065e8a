"""Ready-made flows: couplings or autoregressive layers for any density, and one for molecules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..arguments import counts, positive_counts, positive_numbers
from ..errors import InputError
from .autoregressive import Autoregressive
from .bases import Base, Normal, Product, UniformTorus
from .bijection import Bijection, Composition, Inverse
from .coupling import Coupling
from .flow import Flow
from .linear import Whitening, Widening
from .logistic import LogisticMixture
from .transformer import (
    Additive,
    Affine,
    CircularSpline,
    Mixed,
    Rotation,
    Spline,
    Transformer,
)
from .triangular import TriangularAffine

__all__ = ["coupling_flow", "iaf", "maf", "molecular_flow"]

Transform = Literal["affine", "spline", "additive", "logistic"]
_OF_LINEAR: dict[str, Callable[[int], Transformer]] = {
    "affine": Affine,
    "additive": Additive,
    "logistic": LogisticMixture,
}

_NARROWEST = 0.1
"""least width of a bin of x in a molecular flow, of an equal share."""
_TORSION_SLOPE, _STIFF_SLOPE = 0.005, 0.02
"""least dx/dz at the ends of a bin there."""


def coupling_flow(
    dim: int,
    *,
    layers: int = 8,
    transform: Transform = "spline",
    masks: Literal["random", "alternating", "reversed"] | Sequence[Sequence[int]] = "random",
    bins: int = 8,
    hidden: Sequence[int] = (64, 64),
    residual: bool = False,
    frequencies: int = 0,
    scale: float = 1.0,
    circular: Sequence[bool] | Tensor | None = None,
    context: int = 0,
    temperature: float | None = None,
    seed: int = 0,
) -> Flow:
    """A flow of couplings between halves of the dimensions, which starts at its base.

    The base is normal; on circular dimensions uniform. Halves come in complementary pairs, so that two layers
    transform every dimension. Circular dimensions always have circular splines ("additive": rotations).

    Arguments:
        dim: number of dimensions d.
        layers: number of couplings.
        transform: the map of the linear dimensions; "logistic" starts near the base only.
        masks: the dimensions a layer transforms given the others: "random" halves and their complements, "alternating"
            even and odd ones, "reversed" the first half and the second by turns, or a list for each layer, which starts
            anew when it is used up.
        bins: of the splines; each keeps at least 0.008 / bins of an interval.
        hidden: widths of the hidden layers of each coupling's network.
        residual: whether these layers add to what they are given; see `Conditioner`.
        frequencies: octaves of waves through which linear dimensions are given to the networks too; a few of them where
            a density of few dimensions has many modes. See `linear_features`.
        scale: that the linear dimensions are in units of, about the standard deviation of what shall be modelled.
        circular: which dimensions are angles, (d,).
        context: length of the context.
        temperature: if given, a flow for every temperature T, see `Flow.at`: at this one it starts at its base, at any
            other with linear dimensions √(T/temperature) times as wide.
        seed: of the initial weights, halves and seams; the global random state is not touched.

    Raises:
        InputError: if an argument has a wrong value.

    Example:
        >>> x, log_q = coupling_flow(2).sample(5, seed=1)
        >>> x.shape, log_q.shape
        (torch.Size([5, 2]), torch.Size([5]))

    References:
        Dinh et al. (2015; 2017, section 3.4 for the masks); Durkan et al. (2019); Rezende et al. (2020).
    """
    dim, layers = _checked(dim, layers, transform)
    if layers < min(dim, 2):
        raise InputError(f"layers must be at least 2 to transform {dim} dimensions; got {layers}: add layers")
    positive_counts(bins=bins)
    (scale,) = positive_numbers(scale=scale)
    angle, context = _mask(circular, dim), _context(context, temperature)
    generator = torch.Generator().manual_seed(*counts(seed=seed))
    couplings: list[Bijection] = []
    pairs = _halves(list(range(dim)), layers, generator) if masks == "random" else _pairs(masks, dim, layers)
    for transformed, given in pairs:
        transformed = sorted(transformed, key=lambda i: angle[i])
        n_circular = sum(angle[i] for i in transformed)
        transformer = _transformer(transform, len(transformed) - n_circular, n_circular, generator, bins)
        couplings.append(
            Coupling(
                dim,
                transformed,
                given,
                transformer,
                circular=angle,
                hidden=hidden,
                residual=residual,
                frequencies=frequencies,
                context=context,
                generator=generator,
            )
        )
    linear = [i for i in range(dim) if not angle[i]]
    if temperature is not None and linear:
        couplings.append(Widening(dim, linear))
    if scale != 1 and linear:
        couplings.append(Whitening(dim, linear, torch.zeros(len(linear)), scale * torch.eye(len(linear))))
    return Flow(_base(angle), Composition(couplings), temperature=temperature)


def maf(
    dim: int,
    *,
    layers: int = 4,
    transform: Transform = "affine",
    hidden: Sequence[int] = (64, 64),
    circular: Sequence[bool] | Tensor | None = None,
    context: int = 0,
    seed: int = 0,
) -> Flow:
    """A masked autoregressive flow, which starts at its base: the density in one pass, SAMPLES in d passes per layer.

    The layers run through the dimensions in ascending and descending order by turns. Fit it to samples with
    `forward_kl`, whose gradient takes one pass.

    Arguments:
        dim: number of dimensions d.
        layers: number of `Autoregressive` layers.
        transform: as for `coupling_flow`.
        hidden: widths of the hidden layers of each network; d − 1 or more units let it see everything.
        circular: which dimensions are angles, (d,).
        context: length of the context.
        seed: of the initial weights and seams; the global random state is not touched.

    Raises:
        InputError: if an argument has a wrong value.

    Example:
        >>> maf(3).log_prob(torch.zeros(1, 3)).detach()
        tensor([-2.7568])

    References:
        Papamakarios, Pavlakou, Murray (2017), Masked autoregressive flow for density estimation.
    """
    angle, bijections = _autoregressive(dim, layers, transform, hidden, circular, context, seed)
    return Flow(_base(angle), Composition(bijections))


def iaf(
    dim: int,
    *,
    layers: int = 4,
    transform: Transform = "affine",
    hidden: Sequence[int] = (64, 64),
    circular: Sequence[bool] | Tensor | None = None,
    context: int = 0,
    seed: int = 0,
) -> Flow:
    """An inverse autoregressive flow, which starts at its base: samples and their density in one pass, the DENSITY OF
    GIVEN POINTS in d passes per layer.

    Its layers are those of `maf` run backwards. Fit it to an energy with `reverse_kl`, whose gradient takes one pass.

    Arguments:
        dim, layers, transform, hidden, circular, context, seed: as for `maf`.

    Raises:
        InputError: if an argument has a wrong value.

    Example:
        >>> x, log_q = iaf(3).sample(5, seed=1)
        >>> x.shape, log_q.shape
        (torch.Size([5, 3]), torch.Size([5]))

    References:
        Kingma et al. (2016), Improving variational inference with inverse autoregressive flow.
    """
    angle, bijections = _autoregressive(dim, layers, transform, hidden, circular, context, seed)
    return Flow(_base(angle), Composition([Inverse(layer) for layer in bijections]))


def molecular_flow(
    circular: Sequence[bool] | Tensor,
    mean: Tensor,
    factor: Tensor,
    *,
    order: Sequence[int] | None = None,
    torsion_bins: int = 24,
    torsion_hidden: Sequence[int] = (64, 64),
    torsion_floor: float = 1e-4,
    stiff_layers: int = 4,
    stiff_bins: int = 8,
    stiff_hidden: Sequence[int] = (96, 96),
    stiff_floor: float = 1e-3,
    triangular: bool = False,
    context: int = 0,
    temperature: float | None = None,
    seed: int = 0,
) -> Flow:
    """A flow for the internal coordinates of a molecule: torsions first, then everything stiff given the torsions.

    z → torsions, one after the other, by circular splines → stiff dimensions by spline couplings, a conditional
    full-covariance affine map if wanted, and the fixed map x = mean + factor z. It starts as uniform torsions times the
    normal law of that mean and covariance: the harmonic approximation.

    Arguments:
        circular: which of the d dimensions are torsions, (d,); the others are stiff.
        mean: of the k stiff dimensions, (k,).
        factor: lower Cholesky factor of their covariance, (k, k).
        order: the circular dimensions in the order of the autoregression; as they come if None.
        torsion_bins, torsion_hidden: splines of the torsions and the networks that compute them.
        torsion_floor: least probability of a bin. A bin also keeps a tenth of an equal share of the circle, and slopes
            at its ends lie between 0.005 and 200: floors without which spikes can form that single precision cannot
            find the way back from, and a training near its end falls apart; see `rational_quadratic_spline`.
        stiff_layers, stiff_bins, stiff_hidden, stiff_floor: the same for the couplings of the stiff dimensions, with
            slopes between 0.02 and 50.
        triangular: whether to have the conditional full covariance; its cost grows as k².
        context: length of the context.
        temperature: of mean and factor; if given, a flow for every one, harmonic at the start: see `Flow.at`.
        seed: of the initial weights, halves and seams; the global random state is not touched.

    Raises:
        InputError: if shapes do not fit.

    Example:
        >>> flow = molecular_flow([False, True], torch.tensor([2.0]), torch.tensor([[0.1]]))
        >>> flow.event_shape
        torch.Size([2])
    """
    angle, context = _mask(circular, len(circular)), _context(context, temperature)
    dim = len(angle)
    torsions, stiff = [i for i in range(dim) if angle[i]], [i for i in range(dim) if not angle[i]]
    order = torsions if order is None else [int(i) for i in order]
    if sorted(order) != torsions:
        raise InputError(f"order must name each circular dimension once, {torsions}; got {order}: permute them")
    generator = torch.Generator().manual_seed(*counts(seed=seed))

    shared: dict[str, Any] = {"circular": angle, "context": context, "generator": generator}
    bijections: list[Bijection] = []
    if order:
        spline = CircularSpline(
            len(order),
            bins=torsion_bins,
            shift=_seams(len(order), generator),
            min_width=torsion_floor,
            min_height=_NARROWEST / torsion_bins,
            min_derivative=_TORSION_SLOPE,
        )
        bijections.append(Autoregressive(dim, spline, order=order, hidden=torsion_hidden, separate=True, **shared))
    for transformed, given in _halves(stiff, stiff_layers if stiff else 0, generator):
        spline_ = Spline(
            len(transformed),
            bins=stiff_bins,
            min_width=stiff_floor,
            min_height=_NARROWEST / stiff_bins,
            min_derivative=_STIFF_SLOPE,
        )
        bijections.append(Coupling(dim, transformed, given + torsions, spline_, hidden=stiff_hidden, **shared))
    if stiff and triangular:
        affine = TriangularAffine(len(stiff))
        bijections.append(Coupling(dim, stiff, torsions, affine, hidden=stiff_hidden, **shared))
    if temperature is not None:
        bijections.append(Widening(dim, stiff))
    bijections.append(Whitening(dim, stiff, mean, factor))
    return Flow(_base(angle), Composition(bijections), leading=1 if order and stiff else 0, temperature=temperature)


def _halves(dims: list[int], layers: int, generator: torch.Generator) -> list[tuple[list[int], list[int]]]:
    """(transformed, given) of each layer: random halves, every second layer the complement of the one before."""
    pairs: list[tuple[list[int], list[int]]] = []
    while len(pairs) < layers:
        shuffled = [dims[i] for i in torch.randperm(len(dims), generator=generator).tolist()]
        cut = (len(dims) + 1) // 2
        first, second = sorted(shuffled[:cut]), sorted(shuffled[cut:])
        pairs += [(first, second), (second, first)] if second else [(first, second)]
    return pairs[:layers]


def _pairs(masks: str | Sequence[Sequence[int]], dim: int, layers: int) -> list[tuple[list[int], list[int]]]:
    """(transformed, given) of each layer, for masks other than random."""
    cut = (dim + 1) // 2
    named = {"alternating": [range(0, dim, 2), range(1, dim, 2)], "reversed": [range(cut), range(cut, dim)]}
    parts = named[masks][:dim] if isinstance(masks, str) and masks in named else masks
    listed = hasattr(parts, "__len__") and all(hasattr(part, "__len__") for part in parts)
    cycle = [[int(i) for i in part] for part in parts] if listed and not isinstance(parts, str) else []
    if not cycle or not all(part and set(part) <= set(range(dim)) for part in cycle):
        raise InputError(
            f"masks must be 'random', 'alternating', 'reversed' or lists of dimensions below {dim}; got {masks!r}: "
            "name the dimensions each layer transforms"
        )
    chosen = [cycle[k % len(cycle)] for k in range(layers)]
    return [(part, [i for i in range(dim) if i not in part]) for part in chosen]


def _autoregressive(
    dim: int,
    layers: int,
    transform: Transform,
    hidden: Sequence[int],
    circular: Sequence[bool] | Tensor | None,
    context: int,
    seed: int,
) -> tuple[list[bool], list[Bijection]]:
    """Which dimensions are angles, and the layers of `maf`."""
    dim, layers = _checked(dim, layers, transform)
    angle = _mask(circular, dim)
    generator = torch.Generator().manual_seed(*counts(seed=seed))
    bijections: list[Bijection] = []
    for k in range(layers):
        transformer = _transformer(transform, angle.count(False), angle.count(True), generator)
        order = range(dim) if k % 2 == 0 else range(dim - 1, -1, -1)
        bijections.append(
            Autoregressive(
                dim, transformer, order=order, circular=angle, hidden=hidden, context=context, generator=generator
            )
        )
    return angle, bijections


def _checked(dim: int, layers: int, transform: str) -> list[int]:
    sizes = positive_counts(dim=dim, layers=layers)
    if transform not in get_args(Transform):
        raise InputError(
            f"transform must be one of {', '.join(get_args(Transform))}; got {transform!r}: check the name"
        )
    return sizes


def _context(context: int, temperature: float | None) -> int:
    """Length of the context: one number if it stands for the temperature."""
    if context and temperature is not None:
        raise InputError(f"context must be 0 where the context is a temperature; got {context}: leave it out")
    return context if temperature is None else 1


def _transformer(
    transform: Transform, linear: int, circular: int, generator: torch.Generator, bins: int = 8
) -> Transformer:
    parts: list[Transformer] = []
    least = 0.008 / bins
    if linear and transform == "spline":
        parts.append(Spline(linear, bins=bins, min_width=least, min_height=least))
    elif linear:
        parts.append(_OF_LINEAR[transform](linear))
    if circular and transform == "additive":
        parts.append(Rotation(circular))
    elif circular:
        seams = _seams(circular, generator)
        parts.append(CircularSpline(circular, bins=bins, shift=seams, min_width=least, min_height=least))
    return parts[0] if len(parts) == 1 else Mixed(*parts)


def _seams(n: int, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(n, generator=generator) - 1) * math.pi


def _mask(circular: Sequence[bool] | Tensor | None, dim: int) -> list[bool]:
    if circular is None:
        return [False] * dim
    if not hasattr(circular, "__len__") or len(circular) != dim:
        got = len(circular) if hasattr(circular, "__len__") else repr(circular)
        raise InputError(f"circular must have length {dim}; got {got}: give one boolean per dimension")
    return [bool(c) for c in circular]


def _base(angle: list[bool]) -> Base:
    torsions, stiff = [i for i, a in enumerate(angle) if a], [i for i, a in enumerate(angle) if not a]
    if not torsions:
        return Normal(len(stiff))
    if not stiff:
        return UniformTorus(len(torsions))
    return Product([Normal(len(stiff)), UniformTorus(len(torsions))], [stiff, torsions])
