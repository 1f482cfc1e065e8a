"""The law within a trust region and an entropy bound: by brute force, and by the theory of its dual."""

import math

import pytest
import torch

from boltzgen.training.dual import intermediate

LOG_Q = torch.tensor([0.3, -1.1, 0.9], dtype=torch.float64)
LOG_W = torch.tensor([-0.4, 1.2, 2.0], dtype=torch.float64)
BOUNDS = {  # which constraints bind: trust region, entropy
    (False, False): (0.9, 2.0),
    (True, False): (0.05, 2.0),
    (False, True): (0.9, 0.05),
    (True, True): (0.1, 0.12),
}
CLOSE = 1e-7
"""What bisection leaves of a constraint, in nats."""


def divergence(r):
    """KL(r‖q) of weights r of the draws of q, the last axis."""
    return torch.xlogy(r, r).sum(-1) + math.log(r.shape[-1])


def fall(r, log_q):
    """H(q) − H(r)."""
    return divergence(r) + r @ log_q - log_q.mean()


def gap(r, log_w):
    """KL(r‖p), log-weights p/q not normalised."""
    return divergence(r) - r @ log_w


def dual(trust, entropy, log_q, log_w, eps, delta):
    """g(λ, η): ∫ q^(λ/(1+λ+η)) p^(1/(1+λ+η)) is a mean over the draws of q."""
    total = 1 + trust + entropy
    log_z = ((log_w - entropy * log_q) / total).logsumexp(0) - math.log(len(log_q))
    return -total * log_z - trust * eps - entropy * (log_q.mean() + delta)


def grid(n):
    """All weights of three draws in steps of 1/n."""
    a, b = torch.meshgrid(*[torch.arange(n + 1, dtype=torch.float64) / n] * 2, indexing="ij")
    inside = a + b <= 1
    return torch.stack([a[inside], b[inside], (1 - a - b)[inside].clamp_min(0)], -1)


@pytest.mark.parametrize("binding", BOUNDS)
def test_no_weights_of_three_draws_are_nearer_to_the_target(binding):
    eps, delta = BOUNDS[binding]
    found = intermediate(LOG_Q, LOG_W, trust=eps, fall=delta)
    best = float(gap(found.log_w.exp(), LOG_W))
    r = grid(1000)
    allowed = (divergence(r) <= eps) & (fall(r, LOG_Q) <= delta)
    assert 0.005 < allowed.double().mean() < 1, "both kinds are tried"
    least = float(gap(r[allowed], LOG_W).min())
    assert best - 1e-9 < least < best + 5e-3
    nearest = r[allowed][gap(r[allowed], LOG_W).argmin()]
    assert nearest == pytest.approx(found.log_w.exp(), abs=0.02)
    assert (found.trust > 0, found.entropy > 0) == binding


@pytest.mark.parametrize("binding", BOUNDS)
def test_each_constraint_holds_with_equality_or_its_multiplier_is_zero(binding):
    eps, delta = BOUNDS[binding]
    found = intermediate(LOG_Q, LOG_W, trust=eps, fall=delta)
    r = found.log_w.exp()
    for multiplier, slack in ((found.trust, eps - divergence(r)), (found.entropy, delta - fall(r, LOG_Q))):
        assert slack > -CLOSE
        assert multiplier == 0 or slack < CLOSE
    total = 1 + found.trust + found.entropy
    law = torch.softmax((LOG_W - found.entropy * LOG_Q) / total, 0)
    assert r == pytest.approx(law, abs=1e-9), "q^(λ/(1+λ+η)) p^(1/(1+λ+η)), in terms of the draws of q"


@pytest.mark.parametrize("binding", BOUNDS)
def test_the_dual_has_its_maximum_there_and_it_is_the_primal_minimum(binding):
    eps, delta = BOUNDS[binding]
    found = intermediate(LOG_Q, LOG_W, trust=eps, fall=delta)
    highest = float(dual(found.trust, found.entropy, LOG_Q, LOG_W, eps, delta))
    assert highest == pytest.approx(float(gap(found.log_w.exp(), LOG_W)), abs=1e-6)
    for trust in torch.linspace(0, 10, 60):
        for entropy in torch.linspace(0, 10, 60):
            assert dual(trust, entropy, LOG_Q, LOG_W, eps, delta) <= highest + 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_a_buffer_of_draws_meets_the_same_conditions(seed):
    generator = torch.Generator().manual_seed(seed)
    log_q = 2 * torch.randn(4096, dtype=torch.float64, generator=generator)
    log_w = 10 * torch.randn(4096, dtype=torch.float64, generator=generator) + 2 * log_q
    log_w[: 100 * seed] = -torch.inf
    eps, delta = [(0.4, 1e9), (0.4, 0.3), (3.0, 0.3)][seed % 3]
    found = intermediate(log_q, log_w, trust=eps, fall=delta)
    good = log_w.isfinite()
    assert found.log_w[~good].isneginf().all()
    log_q, log_w, r = log_q[good], log_w[good], found.log_w[good].exp()
    assert float(r.sum()) == pytest.approx(1.0)
    assert (found.trust > 0, found.entropy > 0) == [(True, False), (True, True), (False, True)][seed % 3]
    for multiplier, slack in ((found.trust, eps - divergence(r)), (found.entropy, delta - fall(r, log_q))):
        assert slack > -CLOSE
        assert multiplier == 0 or slack < CLOSE
    highest = float(dual(found.trust, found.entropy, log_q, log_w, eps, delta))
    assert highest == pytest.approx(float(gap(r, log_w)), abs=1e-5)


def test_a_gaussian_is_led_to_a_gaussian_as_far_as_theory_says():
    """q = N(0, 1), p = N(0, s²): the law between has the precision of both, shared out."""
    x = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    log_q, log_w = -0.5 * x.square(), (0.5 - 0.5 / 0.01) * x.square()
    for eps, delta in ((0.1, 1e9), (1e9, 0.2)):
        found = intermediate(log_q, log_w, trust=eps, fall=delta)
        sigma = float((found.log_w.exp() @ x.square()).sqrt())
        expected = (sigma**2 - 1) / 2 - math.log(sigma) if delta > 1 else -math.log(sigma)
        assert expected == pytest.approx(min(eps, delta), rel=1e-3)
        precision = (found.trust + 100) / (1 + found.trust + found.entropy)
        assert sigma == pytest.approx(precision**-0.5, rel=1e-3)
    assert found.trust == 0, "the bound on the entropy alone is a temperature, 1 + η"
    assert sigma == pytest.approx(0.1 * (1 + found.entropy) ** 0.5, rel=1e-3)


def test_a_target_within_all_bounds_is_taken_as_it_is():
    found = intermediate(LOG_Q, LOG_W, trust=5.0, fall=5.0)
    assert (found.trust, found.entropy) == (0.0, 0.0)
    assert torch.equal(found.log_w, torch.log_softmax(LOG_W, 0))
    one = intermediate(LOG_Q, torch.tensor([-math.inf, 3.0, -math.inf], dtype=torch.float64), trust=0.1, fall=0.1)
    assert one.log_w.tolist() == [-math.inf, 0.0, -math.inf]
