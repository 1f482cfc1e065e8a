"""The law nearest to the target that a flow can be led to in one step, by its dual."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .trust import boundary

__all__ = ["Intermediate", "intermediate"]


class Intermediate(NamedTuple):
    """A law between q and p, by draws of q.

    Attributes:
        log_w: log-weights of the draws, (n,), normalised; −inf where p is zero.
        trust, entropy: the multipliers λ of the trust region and η of the entropy bound, 0 where one does not bind.
    """

    log_w: Tensor
    trust: float
    entropy: float


def intermediate(log_q: Tensor, log_w: Tensor, *, trust: float, fall: float) -> Intermediate:
    """The law r nearest to the target p within a trust region of q and a bound on the fall of the entropy:

        min KL(r‖p)   such that   KL(r‖q) ≤ ε,   H(q) − H(r) ≤ δ.

    With multipliers λ, η ≥ 0, L = KL(r‖p) + λ (KL(r‖q) − ε) + η (H(q) − H(r) − δ) is (1 + λ + η) E_r[log r] less
    E_r[log p + λ log q] and constants. By Gibbs' inequality the r ∝ q^(λ/(1+λ+η)) p^(1/(1+λ+η)) has the least, so that

        g(λ, η) = −(1+λ+η) log ∫ q^(λ/(1+λ+η)) p^(1/(1+λ+η)) dx − λ ε + η (H(q) − δ)

    is the dual, concave, with the gradient (KL(r‖q) − ε, H(q) − H(r) − δ). Since r = q meets both constraints with room
    to spare, its maximum is the minimum looked for. The trust region alone gives a geometric path from q to p, the
    bound on the entropy alone a temperature 1 + η, independent of q.

    Here all three are laws of the draws x_k of q, with log-densities log q(x_k) + log n r_k, r_k the weight of a draw:
    then all of this holds exactly, for the averages over these draws. In terms of t = (1+η)/(1+λ+η) and v = η/(1+η)

        log r_k = t ((1−v) log w_k − v log q(x_k)) + constant,   w = p/q,

    where KL(r‖q) grows with t, and H(q) − H(r), at the t farthest along, falls with v: two bisections in [0, 1].

    Arguments:
        log_q: log q(x_k), (n,), float64.
        log_w: log p(x_k)/q(x_k) up to a constant, (n,), float64; −inf where p is zero, draws that are left out of q
            too.
        trust: ε > 0, in nats.
        fall: δ > 0, in nats.

    References:
        von Klitzing, Blessing, Schopmans, Friederich, Neumann (2025), "Learning Boltzmann generators via constrained
        mass transport".
    """
    good = log_w.isfinite()
    log_q, log_p = log_q[good], log_w[good]
    log_n = math.log(len(log_q))

    def law(v: float, t: float) -> Tensor:
        return torch.log_softmax(t * ((1.0 - v) * log_p - v * log_q), 0)

    def farthest(v: float) -> float:
        def near(t: float) -> bool:
            log_r = law(v, t)
            return float(log_r.exp() @ log_r) + log_n <= trust

        return boundary(near, 0.0, 1.0)

    def wide(v: float) -> bool:
        log_r = law(v, farthest(v))
        return float(log_r.exp() @ (log_r + log_q)) + log_n - float(log_q.mean()) <= fall

    v = boundary(wide, 1.0, 0.0)
    t = farthest(v)
    entropy = v / (1.0 - v) if v < 1 else math.inf
    return Intermediate(
        torch.full_like(log_w, -torch.inf).masked_scatter(good, law(v, t)),
        (1.0 + entropy) * (1.0 - t) / t if t > 0 else math.inf,
        entropy,
    )
