"""Learning a velocity from the straight lines between draws of the base and configurations."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import instances
from ..errors import InputError
from ..flows.continuous import Continuous
from ..flows.flow import Flow
from ..processes import ranks
from .objectives import all_finite, one_per_row, weights

__all__ = ["flow_matching"]


def flow_matching(
    flow: Flow,
    x: Tensor,
    log_w: Tensor | None = None,
    *,
    context: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Σ w̄ E |v((1 − t) z + t x, t) − (x − z)|², w̄ ∝ exp(log_w), z of the base and t uniform: flow matching.

    The velocity that makes it least carries the base to the law of x. Nothing is integrated, so that a step costs one
    pass of the velocity; and it does not say how far the flow is from that law: `weigh` some configurations for that.

    A velocity with symmetries may have a method `nearest(z, x)`, which brings each z next to its x by one of them, as
    `ParticleVelocity` has: the lines then cross less, and fewer steps follow them. That wants a base with the same
    symmetries, such as `Normal`; the flow then goes to the law of x and of all its copies, mirror images included.

    Arguments:
        flow: a flow whose bijection is `Continuous` and nothing else.
        x: (n, d), in the flow's dtype.
        log_w: (n,) log-weights; equal ones if None. Rows with log_w = −inf do not count.
        context: (n, c), for a conditional flow.
        generator: source of z and t; the default generator of torch if None.

    Returns:
        A scalar ≥ 0, differentiable with respect to the velocity's parameters.

    Raises:
        InputError: if the flow is no continuous one, shapes do not fit, or a row that counts is not finite.

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
    if not isinstance(layer, Continuous):
        raise InputError(
            f"flow must have a Continuous bijection alone; got {type(layer).__name__}: use forward_kl, or "
            "Flow(Normal(d), Continuous(d))"
        )
    flow._check(x)
    flow._check_context(context, len(x))
    one_per_row(len(x), log_w=log_w)
    w = weights(torch.zeros(len(x)) if log_w is None else log_w).to(x)
    x, context, w = x[w > 0], None if context is None else context[w > 0], w[w > 0]
    all_finite("x", x)
    z = flow.base.sample(len(x), generator)
    t = torch.rand(len(x), generator=generator, dtype=x.dtype).to(x.device)
    nearest = getattr(layer.velocity, "nearest", None)

    def rows(mine: slice) -> tuple[Tensor, ...]:
        end, share = x[mine], t[mine, None]
        start = z[mine] if nearest is None else nearest(z[mine], end)
        v = layer.velocity(torch.lerp(start, end, share), t[mine], None if context is None else context[mine])
        return ((v - (end - start)).square().sum(1),)

    (difference,) = ranks().shared(rows, len(x))
    return (w * difference).sum()
