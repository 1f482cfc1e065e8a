"""Learning from forces on samples: the slope of log q against that of log p."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import instances
from ..errors import InputError
from ..flows.flow import Flow
from ..processes import ranks
from .objectives import all_finite, one_per_row, weights

__all__ = ["force_matching"]


def force_matching(flow: Flow, x: Tensor, forces: Tensor, log_w: Tensor | None = None) -> Tensor:
    """Σ w̄ |∇ log q(x) − f(x)|², w̄ ∝ exp(log_w): the mean squared difference of the flow's forces and those given.

    Each configuration tells d numbers, of which `forward_kl` sees none: where data are few, forces say how wide a well
    is. How much one well weighs against another they do not say, and barely any term sees a well without data; add
    `forward_kl`. Rows with log_w = −inf do not count.

    The gradient takes second derivatives of the flow, and about three times the time of `forward_kl`. Take a flow that
    is smooth: `coupling_flow(d, transform="logistic")` or "affine". Splines have continuous first derivatives only, so
    that their forces jump where two bins meet: no loss will be small there.

    Arguments:
        flow: the flow q.
        x: (n, *event_shape), in the flow's dtype.
        forces: −∂u/∂x at x, in kT per unit of x, of the same shape; those in kJ/mol must be divided by kT. For a
            `Pullback` these are the forces along its coordinates, of the Jacobian too:
            `-torch.autograd.grad(target.energy(x).sum(), x)[0]` of an x that requires a gradient.
        log_w: (n,) log-weights; equal ones if None.

    Returns:
        A scalar ≥ 0, differentiable with respect to the flow's parameters.

    Raises:
        InputError: if shapes do not fit, or a force that counts is not finite.

    References:
        Köhler, Krämer & Noé (2021), "Smooth normalizing flows", NeurIPS 34, section 4. Hyvärinen (2005), J. Mach.
        Learn. Res. 6, 695, for the divergence.
    """
    instances(flow=(flow, Flow))
    flow._check(x)
    if not isinstance(forces, Tensor) or forces.shape != x.shape:
        got = tuple(forces.shape) if isinstance(forces, Tensor) else type(forces).__name__
        raise InputError(f"forces must be a tensor of the shape of x, {tuple(x.shape)}; got {got}: one for each number")
    one_per_row(len(x), log_w=log_w)
    w = weights(torch.zeros(len(x)) if log_w is None else log_w).to(x)
    x, forces, w = x[w > 0], forces[w > 0], w[w > 0]
    all_finite("x and forces", x, forces)

    def rows(mine: slice) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            some = x[mine].detach().requires_grad_()
            (slope,) = torch.autograd.grad(
                flow.log_prob(some).sum() + 0.0 * some.sum(), some, create_graph=True
            )  # also of a law that is the same everywhere
        return ((slope - forces[mine]).square().flatten(1).sum(1),)

    (difference,) = ranks().shared(rows, len(x))
    return (w * difference).sum()
