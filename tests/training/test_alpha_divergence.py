"""The α-divergence and its path gradient, against closed forms on Gaussians."""

import math

import numpy as np
import pytest
import torch
from test_objectives import Gaussian, Wall, gaussian_flow

from boltzgen.errors import InputError
from boltzgen.training.objectives import alpha_divergence, reverse_kl

SIGMAS = 5.0


def exact(s, alpha):
    """D and dD/ds of q = N(0, e^2s) against p = N(0, 1): E_q[(p/q)^α] = e^{αs} (α e^2s + 1 − α)^{-1/2}."""
    spread = math.exp(2 * s)
    slope = (spread - 1) / (alpha * spread + 1 - alpha)
    if alpha == 0:
        return spread / 2 - s - 0.5, slope
    if alpha == 1:
        return 1 / (2 * spread) + s - 0.5, slope
    return (alpha * s - 0.5 * math.log(alpha * spread + 1 - alpha)) / (alpha * (alpha - 1)), slope


def measured(s, alpha, batches=40, n=5000):
    """Mean and standard error of D and dD/ds over batches."""
    found = []
    for seed in range(batches):
        flow = gaussian_flow(s)
        loss = alpha_divergence(flow, Gaussian(), n, alpha=alpha, generator=torch.Generator().manual_seed(seed))
        loss.backward()
        found.append((loss.item(), flow.bijection.log_scale.grad.item()))
    return np.mean(found, 0), np.std(found, 0) / math.sqrt(batches)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("s", [0.3, -0.2])
def test_value_and_gradient_on_a_gaussian(alpha, s):
    mean, error = measured(s, alpha)
    assert (np.abs(mean - exact(s, alpha)) < SIGMAS * error + 1e-3).all()  # 1e-3: normalised weights, of order 1/n
    assert (error < 0.05 * abs(exact(s, alpha)[1])).all()


def test_the_figures_of_another_order_would_be_noticed():
    mean, error = measured(0.3, 1.0)
    for other in (0.0, 0.5, 2.0):
        assert (np.abs(mean - exact(0.3, other)) > SIGMAS * error + 1e-3).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_at_the_target_value_and_gradient_vanish_draw_by_draw(alpha):
    flow = gaussian_flow(0.0)
    loss = alpha_divergence(flow, Gaussian(), 50, alpha=alpha, generator=torch.Generator().manual_seed(1))
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert abs(flow.bijection.log_scale.grad.item()) < 1e-12


@pytest.mark.parametrize("order", [0.0, 1.0])
def test_the_limits_are_the_neighbours_limits(order):
    def loss(alpha):
        return alpha_divergence(
            gaussian_flow(0.3), Gaussian(), 100, alpha=alpha, generator=torch.Generator().manual_seed(1)
        ).item()

    assert loss(order) == pytest.approx(loss(order + 1e-4), rel=1e-3)


def test_order_zero_is_the_path_gradient_of_the_reverse_divergence():
    gradients = []
    for objective in (lambda *a, **k: alpha_divergence(*a, alpha=0.0, **k), reverse_kl):
        flow = gaussian_flow(0.4)
        options = {"path_gradient": True} if objective is reverse_kl else {}
        objective(flow, Gaussian(), 100, generator=torch.Generator().manual_seed(3), **options).backward()
        gradients.append(flow.bijection.log_scale.grad.item())
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-12)


def test_order_two_is_minus_half_the_log_of_the_effective_fraction():
    flow = gaussian_flow(0.4)
    loss = alpha_divergence(flow, Gaussian(), 1000, alpha=2.0, generator=torch.Generator().manual_seed(3))
    x, log_q = flow.rsample(1000, generator=torch.Generator().manual_seed(3))
    w = torch.softmax(-Gaussian().energy(x) - log_q, 0)
    assert loss.item() == pytest.approx(0.5 * math.log(1000 * w.square().sum().item()), rel=1e-10)


def test_trust_lowers_the_order_until_enough_draws_count():
    def slope(**options):
        flow = gaussian_flow(-0.6)  # too narrow: few draws carry the weight
        loss = alpha_divergence(flow, Gaussian(), 500, generator=torch.Generator().manual_seed(4), **options)
        loss.backward()
        return flow.bijection.log_scale.grad.item()

    x, log_q = gaussian_flow(-0.6).rsample(500, generator=torch.Generator().manual_seed(4))
    log_w = -Gaussian().energy(x) - log_q

    def fraction(power):
        w = torch.softmax(power * log_w, 0)
        return 1 / (500 * w.square().sum().item())

    assert fraction(1.0) < 0.9
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fraction(middle) >= 0.9 else (low, middle)
    assert slope(trust=0.9) == pytest.approx(slope(alpha=low), rel=1e-6)
    assert slope(trust=0.9) != pytest.approx(slope(), rel=1e-2)
    assert slope(trust=fraction(1.0) - 1e-3) == slope()


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_draws_that_cannot_be_evaluated_carry_no_gradient(alpha):
    flow = gaussian_flow()
    loss = alpha_divergence(flow, Wall(), 1000, alpha=alpha, generator=torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss)
    z = flow.base.sample(1000, torch.Generator().manual_seed(0))
    inside = z[z[:, 0] >= 0, 0]
    x = inside * math.exp(0.5)
    log_w = -(x - inside.square() / 2)
    w = torch.softmax(alpha * log_w, 0)
    # d/dx (u + log q) · ∂x/∂s = (1 − x e^{-2s}) x
    expected = (w * (1 - x * math.exp(-1.0)) * x).sum().item()
    assert flow.bijection.log_scale.grad.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_draws_of_weight_zero_stay_in_the_mean(alpha):
    """q = N(0, 1), p its right half: E_q[(p/q)^α] = 2^(α − 1), and D = log 2 / α."""

    class Half(Gaussian):
        def _energy(self, x):
            return torch.where(x[:, 0] > 0, super()._energy(x), torch.inf)

    loss = alpha_divergence(gaussian_flow(0.0), Half(), 40_000, alpha=alpha, generator=torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(math.log(2) / alpha, abs=0.02)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_batch_without_any_finite_draw_gives_nan(alpha):
    class Nowhere(Gaussian):
        def _energy(self, x):
            return torch.full_like(x[:, 0], torch.inf)

    assert torch.isnan(alpha_divergence(gaussian_flow(), Nowhere(), 10, alpha=alpha))


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="flow must be a Flow; got a Gaussian: check the order of the arguments"):
        alpha_divergence(Gaussian(), gaussian_flow(), 10)
    with pytest.raises(InputError, match="n must be a positive integer"):
        alpha_divergence(gaussian_flow(), Gaussian(), 0)
    for alpha in (-0.5, math.nan, math.inf):
        with pytest.raises(InputError, match="alpha must be a number not below 0"):
            alpha_divergence(gaussian_flow(), Gaussian(), 10, alpha=alpha)
    with pytest.raises(InputError, match="alpha must be a number; got '1'"):
        alpha_divergence(gaussian_flow(), Gaussian(), 10, alpha="1")
    for trust in (-0.1, 1.0, math.nan):
        with pytest.raises(InputError, match=r"trust must lie in \[0, 1\)"):
            alpha_divergence(gaussian_flow(), Gaussian(), 10, trust=trust)
