"""Losses a flow learns from: functions of (flow, something) that return one scalar and add up with + and *."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..arguments import instances, numbers, positive_counts
from ..energies.energy import Energy
from ..errors import InputError
from ..flows.flow import Flow
from ..processes import ranks
from .fresh_draws import Draws, mean_of_finite, pathwise, rowwise
from .trust import raised, trusted

__all__ = [
    "alpha_divergence",
    "coordinate_entropy",
    "cross_entropy",
    "divergence",
    "estimated_divergence",
    "forward_kl",
    "log_variance",
    "one_per_row",
    "reverse_kl",
    "weights",
]


def reverse_kl(
    flow: Flow,
    target: Energy,
    n: int,
    *,
    soften: float | None = None,
    path_gradient: bool = False,
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
        path_gradient: whether the gradient leaves out the score ∂ log q/∂θ, whose mean is zero. What remains flows
            through x alone and vanishes draw by draw where q = p, while the noise of the full gradient does not; it
            costs an inverse pass. Value and mean gradient are the same, but for draws that rounding does not let back
            through the flow, which are left out.
        generator: source of the noise; the default generator of torch if None.

    Returns:
        A scalar, differentiable with respect to the flow's parameters.

    References:
        Noé, Olsson, Köhler, Wu (2019), Science 365, eaaw1147, "training by energy".
        Roeder, Wu, Duvenaud (2017), "Sticking the landing"; Vaitl, Nicoli, Nakajima, Kessel (2022), for flows.
    """
    instances(flow=(flow, Flow), target=(target, Energy))
    positive_counts(n=n)
    if soften is not None and not soften > 0:
        raise InputError(f"soften must be a positive number of kT; got {soften!r}: pass e.g. 20.0, or None")
    if path_gradient:
        loss = pathwise(flow, target, n, generator=generator).loss
    else:
        loss = rowwise(flow, target, n, generator=generator)
    return mean_of_finite(loss, soften)


def alpha_divergence(
    flow: Flow,
    target: Energy,
    n: int,
    *,
    alpha: float = 1.0,
    trust: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """α-divergence D = log E_q[(p/q)^α] / (α(α−1)) from n fresh draws, by its path gradient.

    α → 0 is the reverse Kullback-Leibler divergence KL(q‖p), α → 1 the forward one KL(p‖q), and α = 2 is −½ log of the
    effective sample fraction. The higher α, the more a region counts where the flow has too little. No samples of the
    target are needed, but a flow that covers it: weights do not see what is never drawn. For every α the gradient is

        ∂D/∂θ = Σ w̄ ∂/∂x [u(x) + log q(x)] · ∂x/∂θ,   w̄ ∝ (p/q)^α, Σ w̄ = 1,

    with x = f(z; θ). It vanishes draw by draw where q = p: near the target it has far less noise than a gradient
    through log q at given x, as that of `forward_kl`. But it follows forces: that a well as a whole weighs too much
    shows only in the rare draws between wells. Where there are wells, add `forward_kl` on weighted draws. The gradient
    is biased by O(1/n), since w̄ is normalised over the draws.

    Draws where u = +inf have weight zero for α > 0, and are left out for α = 0; if all are, the loss is NaN, which
    `train` skips and counts.

    Arguments:
        flow: the flow q.
        target: the energy u, in kT; p ∝ exp(−u).
        n: number of draws.
        alpha: α ≥ 0.
        trust: if positive, α is lowered as far as the weights need to keep this effective sample fraction. With β for
            the lowered α, the gradient is then that towards q^(1−β) p^β, as far as the draws can tell.
        generator: source of the noise; the default generator of torch if None.

    Returns:
        The divergence as the draws estimate it, p normalised by them too: a scalar ≥ 0, differentiable with respect to
        the flow's parameters.

    References:
        Amari (1985); Midgley, Stimper, Simm, Schölkopf & Hernández-Lobato (2023) for α = 2 in Boltzmann generators.
        Vaitl, Nicoli, Nakajima & Kessel (2022), "Gradients should stay on path", for KL(q‖p) and KL(p‖q). For all α:
        the path gradient of E_q[h(p/q)] is E_q[(p/q)² h''(p/q) ∂ₓ(u + log q) · ∂x/∂θ].
    """
    instances(flow=(flow, Flow), target=(target, Energy))
    positive_counts(n=n)
    alpha, trust = numbers(alpha=alpha, trust=trust)
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise InputError(f"alpha must be a number not below 0; got {alpha!r}: pass e.g. 1.0")
    if not 0 <= trust < 1:
        raise InputError(f"trust must lie in [0, 1); got {trust!r}: pass e.g. 0.5")
    return divergence(pathwise(flow, target, n, generator=generator), alpha=alpha, trust=trust)


def divergence(draws: Draws, *, alpha: float, trust: float) -> Tensor:
    """What `alpha_divergence` gives, from its draws."""
    loss, log_w = draws.loss, draws.log_w
    finite = torch.isfinite(loss)
    if not finite.any():
        return torch.full_like(loss.sum(), torch.nan)
    power = trusted(log_w, trust, alpha)
    w = torch.softmax(raised(log_w, power), 0).to(loss.dtype)
    moved = torch.where(finite, w * loss, torch.zeros_like(loss)).sum()
    return moved - moved.detach() + estimated_divergence(log_w, power).to(loss.dtype)


def estimated_divergence(log_w: Tensor, alpha: float) -> Tensor:
    """The α-divergence of draws with these log-weights; its limits at 0, without those of weight zero, and 1."""
    if alpha < 1e-6:
        log_w = log_w[log_w.isfinite()]
    log_w = log_w - log_w.logsumexp(0) + math.log(len(log_w))
    if alpha < 1e-6:
        return -log_w.mean()
    if abs(alpha - 1) < 1e-6:
        return torch.xlogy(log_w.exp(), log_w.exp()).mean()
    return ((alpha * log_w).logsumexp(0) - math.log(len(log_w))) / (alpha * (alpha - 1))


def forward_kl(
    flow: Flow,
    x: Tensor,
    log_w: Tensor | None = None,
    *,
    context: Tensor | None = None,
    drawn_log_q: Tensor | None = None,
) -> Tensor:
    """Forward Kullback-Leibler divergence up to the data's entropy: −Σ w̄ log q(x), w̄ ∝ exp(log_w).

    Maximum likelihood on samples of the target, or on weighted samples of something near it. It is mode-covering, and
    can only learn what the samples hold. Rows with log_w = −inf do not count.

    If the rows were drawn from a flow q₀ near this one, such as an earlier state of it, its log-density takes the noise
    of sampling out of the gradient: since E_q[∇ log q] = 0, the gradient −Σ (w̄ − s̄) ∇ log q(x) with s̄ ∝ q/q₀ has the
    same mean, and it vanishes row by row, not only on average, where q is the target.

    Arguments:
        flow: the flow q.
        x: (n, *event_shape), in the flow's dtype.
        log_w: (n,) log-weights; equal ones if None.
        context: (n, c), for a conditional flow: the density is that of each x given its row.
        drawn_log_q: (n,) log q₀(x).

    Returns:
        A scalar, differentiable with respect to the flow's parameters.

    References:
        Noé et al. (2019), "training by example"; Müller et al. (2019), ACM Trans. Graph. 38, 145, for the weights.
    """
    instances(flow=(flow, Flow))
    flow._check_context(context, len(x))
    one_per_row(len(x), log_w=log_w, drawn_log_q=drawn_log_q)

    def rows(mine: slice) -> tuple[Tensor, ...]:
        return (flow.log_prob(x[mine], None if context is None else context[mine]),)

    (log_q,) = ranks().shared(rows, len(x))
    loss = cross_entropy(log_q, log_w)
    if drawn_log_q is None:
        return loss
    log_ratio = log_q.detach() - drawn_log_q
    ratio = torch.softmax(torch.where(torch.isfinite(log_ratio), log_ratio, -torch.inf), 0)
    score = torch.where(ratio > 0, ratio * log_q, torch.zeros_like(log_q)).sum()
    return loss + (score - score.detach())


def cross_entropy(log_q: Tensor, log_w: Tensor | None) -> Tensor:
    """−Σ w̄ log q."""
    if log_w is None:
        return -log_q.mean()
    w = weights(log_w).to(log_q.dtype)
    return -torch.where(w > 0, w * log_q, torch.zeros_like(log_q)).sum()


def weights(log_w: Tensor) -> Tensor:
    """w̄ in float64, of which some must be positive."""
    if bool(log_w.isnan().any() | log_w.isposinf().any() | log_w.isneginf().all()):
        raise InputError(
            f"log_w must be finite or -inf, and not -inf throughout; got {int(log_w.isnan().sum())} NaN, "
            f"{int(log_w.isposinf().sum())} +inf and {int(log_w.isneginf().sum())} -inf of {len(log_w)}: "
            "give rows that cannot be evaluated log_w = -inf"
        )
    return torch.softmax(log_w.detach().double(), 0)


def all_finite(names: str, *given: Tensor) -> None:
    """Refuses tensors with rows that are not finite, all of which count."""
    lost = int((~torch.stack([value.isfinite().flatten(1).all(1) for value in given]).all(0)).sum())
    if lost:
        raise InputError(
            f"{names} must be finite; got NaN or infinity in {lost} rows of {len(given[0])} that count: leave these "
            "out, or give them log_w = -inf"
        )


def one_per_row(n: int, **given: Tensor | None) -> None:
    """Refuses what is given, by name, and no tensor of shape (n,)."""
    for name, value in given.items():
        if value is not None and (not isinstance(value, Tensor) or value.shape != (n,)):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"{name} must be a tensor of shape ({n},); got {got}: one per row")


def log_variance(flow: Flow, target: Energy, n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Variance of log q(x) + u(x) over n fresh draws of the flow, through which no gradient flows.

    It vanishes, and its gradient with it, draw by draw, where q ∝ exp(−u). Its mean gradient is twice that of
    `reverse_kl`, but it needs no gradient of the energy. Draws where u = +inf are left out; NaN if fewer than two
    remain.

    Arguments:
        flow: the flow q.
        target: the energy u, in kT.
        n: number of draws.
        generator: source of the noise; the default generator of torch if None.

    Returns:
        A scalar, differentiable with respect to the flow's parameters.

    References:
        Richter, Boustati, Nüsken, Ruiz, Akyildiz (2020), "VarGrad", NeurIPS 33.
    """
    instances(flow=(flow, Flow), target=(target, Energy))
    positive_counts(n=n)

    def rows(mine: slice) -> tuple[Tensor, ...]:
        with torch.no_grad():
            x, _ = flow.rsample(n, generator=generator, rows=mine)
            u = target.energy(x)
        target.evaluations.energy += n - len(x)  # those of the other processes
        return flow.log_prob(x), u

    log_q, u = ranks().shared(rows, n)
    good = torch.isfinite(u)
    if good.sum() < 2:
        return torch.full((), torch.nan, dtype=u.dtype, device=u.device)
    return (log_q[good] + u[good]).var()


def coordinate_entropy(
    flow: Flow,
    coordinate: Callable[[Tensor], Tensor],
    n: int,
    *,
    width: float,
    period: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Entropy −∫ p(r) ln p(r) dr of a reaction coordinate r(x) over the flow's draws, p by a Gaussian kernel.

    Subtracted from a loss it spreads the draws along r: `reverse_kl(q, target, n) - 0.1 * coordinate_entropy(...)`
    crosses barriers that reverse KL alone does not. The kernel widens p, so the entropy is a little high.

    Arguments:
        flow: the flow q.
        coordinate: x (n, *event_shape) ↦ r (n,), differentiable.
        n: number of draws; the cost grows with n².
        width: standard deviation of the kernel, in the unit of r.
        period: of r, such as 2π for an angle; None if it has none.
        generator: source of the noise; the default generator of torch if None.

    Returns:
        A scalar, differentiable with respect to the flow's parameters.

    References:
        Noé, Olsson, Köhler, Wu (2019), "reaction-coordinate loss".
    """
    instances(flow=(flow, Flow))
    if n == 1:
        raise InputError("n must be at least 2; got 1: a draw is no witness of its own density, pass e.g. n=512")
    positive_counts(n=n)
    if not width > 0 or (period is not None and not period > 0):
        raise InputError(f"width and period must be positive; got {width!r} and {period!r}: give them in the unit of r")

    def rows(mine: slice) -> tuple[Tensor, ...]:
        x, _ = flow.rsample(n, generator=generator, rows=mine)
        r = coordinate(x)
        if r.shape != (len(x),):
            raise InputError(
                f"coordinate must give one number per draw, shape ({len(x)},); got {tuple(r.shape)}: drop a dimension"
            )
        return (r,)

    (r,) = ranks().shared(rows, n)
    apart = r[:, None] - r
    if period is not None:
        apart = apart - period * torch.round(apart / period)
    log_kernel = -0.5 * (apart / width).square() - math.log(width * math.sqrt(2 * math.pi))
    itself = torch.eye(n, dtype=torch.bool, device=r.device)  # a draw is no witness of its own density
    log_p = log_kernel.masked_fill(itself, -torch.inf).logsumexp(1) - math.log(n - 1)
    return -log_p.mean()
