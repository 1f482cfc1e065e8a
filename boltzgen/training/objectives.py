"""Losses a flow learns from: functions of (flow, something) that return one scalar and add up with + and *."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    from ..energies import Energy
    from ..flows import Flow

__all__ = ["forward_kl", "reverse_kl"]


def reverse_kl(
    flow: Flow,
    target: Energy,
    n: int,
    *,
    soften: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Reverse Kullback-Leibler divergence up to −log Z: E_q[u(x) + log q(x)] over n fresh draws.

    It needs no data. It is mode-seeking: a flow that misses a well is not told. Draws where u = +inf (atoms on top of
    each other, outside the chart) carry no gradient and are left out of the mean; if all do, the loss is NaN, which
    `train` skips and counts.

    Arguments:
        flow: the flow q.
        target: the energy u, in kT.
        n: number of draws.
        soften: if given, a loss more than this many kT above the batch's median counts logarithmically. A training
            aid that bounds the gradient of clashes; it changes the loss only, never a weight.
        generator: source of the noise; the default generator of torch if None.

    Returns:
        A scalar, differentiable with respect to the flow's parameters.

    References:
        Noé, Olsson, Köhler, Wu (2019), Science 365, eaaw1147, "training by energy".
    """
    if soften is not None and not soften > 0:
        raise InputError(f"soften must be a positive number of kT; got {soften!r}: pass e.g. 20.0, or None")
    x, log_q = flow.rsample(n, generator=generator)
    loss = target.energy(x) + log_q
    finite = torch.isfinite(loss)
    loss = torch.where(finite, loss, torch.zeros_like(loss))
    if soften is not None:
        threshold = torch.where(finite, loss.detach(), torch.nan).nanmedian() + soften
        over = torch.nan_to_num(loss - threshold).clamp_min(0.0)
        loss = loss - over + torch.log1p(over)
    return torch.where(finite, loss, torch.zeros_like(loss)).sum() / finite.sum()


def forward_kl(flow: Flow, x: Tensor, log_w: Tensor | None = None) -> Tensor:
    """Forward Kullback-Leibler divergence up to the data's entropy: −Σ w̄ log q(x), w̄ ∝ exp(log_w).

    Maximum likelihood on samples of the target, or on weighted samples of something near it. It is mode-covering, and
    can only learn what the samples hold. Rows with log_w = −inf do not count.

    Arguments:
        flow: the flow q.
        x: (n, *event_shape), in the flow's dtype.
        log_w: (n,) log-weights; equal ones if None.

    Returns:
        A scalar, differentiable with respect to the flow's parameters.

    References:
        Noé et al. (2019), "training by example"; Müller et al. (2019), ACM Trans. Graph. 38, 145, for the weights.
    """
    log_q = flow.log_prob(x)
    if log_w is None:
        return -log_q.mean()
    if log_w.shape != log_q.shape:
        raise InputError(f"log_w must have shape {tuple(log_q.shape)}; got {tuple(log_w.shape)}: one weight per row")
    w = torch.softmax(log_w.detach().double(), 0).to(log_q.dtype)
    return -torch.where(w > 0, w * log_q, torch.zeros_like(log_q)).sum()
