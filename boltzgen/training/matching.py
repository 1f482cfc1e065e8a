"""Learning a velocity from the straight lines between draws of the base and configurations."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import instances
from ..errors import InputError
from ..flows.continuous import Continuous
from ..flows.flow import Flow
from ..processes import ranks
from .objectives import one_per_row, weights

__all__ = ["flow_matching"]


def flow_matching(
    flow: Flow, x: Tensor, log_w: Tensor | None = None, *, generator: torch.Generator | None = None
) -> Tensor:
    """Σ w̄ E |v((1 − t) z + t x, t) − (x − z)|², w̄ ∝ exp(log_w), z of the base and t uniform: flow matching.

    The velocity that makes it least carries the base to the law of x. Nothing is integrated, so that a step costs one
    pass of the velocity; and nothing says how far the flow is from the law, which `forward_kl` of some rows does.

    A velocity with symmetries may have a method `nearest(z, x)`, which brings each z next to its x by one of them, as
    `ParticleVelocity` has: the lines then cross less, and fewer steps follow them.

    Arguments:
        flow: a flow whose bijection is `Continuous`.
        x: (n, d), in the flow's dtype.
        log_w: (n,) log-weights; equal ones if None. Rows with log_w = −inf do not count.
        generator: source of z and t; the default generator of torch if None.

    Returns:
        A scalar ≥ 0, differentiable with respect to the velocity's parameters.

    Raises:
        InputError: if the flow is no continuous one, or shapes do not fit.

    Example:
        >>> from boltzgen.flows import Continuous, Flow, Normal
        >>> flow = Flow(Normal(2), Continuous(2, steps=8))
        >>> x = torch.tensor([1.0, 0.0]) + 0.1 * torch.randn(500, 2)
        >>> history = train(flow, lambda q: flow_matching(q, x), steps=50, progress=False)

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le (2023), "Flow matching for generative modeling". Klein, Krämer, Noé (2023),
        "Equivariant flow matching", for lines between nearest copies.
    """
    instances(flow=(flow, Flow))
    layer = flow.bijection
    if not isinstance(layer, Continuous) or layer.context_size:
        raise InputError(
            f"flow must have a Continuous bijection without context; got {type(layer).__name__}: use forward_kl, or "
            "Flow(Normal(d), Continuous(d))"
        )
    flow._check(x)
    one_per_row(len(x), log_w=log_w)
    w = weights(torch.zeros(len(x)) if log_w is None else log_w).to(x)
    x, w = x[w > 0], w[w > 0]
    z = flow.base.sample(len(x), generator)
    t = torch.rand(len(x), generator=generator).to(x)
    nearest = getattr(layer.velocity, "nearest", None)
    if nearest is not None:
        z = nearest(z, x)

    def rows(mine: slice) -> tuple[Tensor, ...]:
        share = t[mine, None]
        v = layer.velocity((1 - share) * z[mine] + share * x[mine], t[mine], None)
        return ((v - (x[mine] - z[mine])).square().sum(1),)

    (difference,) = ranks().shared(rows, len(x))
    return (w * difference).sum()
