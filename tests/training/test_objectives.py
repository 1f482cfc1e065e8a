"""Objectives: values and gradients against closed forms on Gaussians."""

import math

import numpy as np
import pytest
import torch

from boltzgen.energies.energy import Energy
from boltzgen.energies.toys import DoubleWell
from boltzgen.errors import InputError
from boltzgen.flows import Flow, coupling_flow
from boltzgen.flows.bases import Normal
from boltzgen.flows.bijection import Bijection
from boltzgen.training.fresh_draws import pathwise
from boltzgen.training.loop import train
from boltzgen.training.objectives import coordinate_entropy, divergence, forward_kl, log_variance, reverse_kl

SIGMAS = 5.0


class Scale(Bijection):
    """x = exp(s) z in one dimension."""

    def __init__(self, log_scale):
        super().__init__(1)
        self.log_scale = torch.nn.Parameter(torch.tensor(log_scale, dtype=torch.float64))

    def _forward(self, z, context):
        return z * self.log_scale.exp(), self.log_scale.expand(len(z))

    def _inverse(self, x, context):
        return x / self.log_scale.exp(), -self.log_scale.expand(len(x))


class Gaussian(Energy):
    def __init__(self):
        super().__init__(1)

    def _energy(self, x):
        return 0.5 * x[:, 0].square()


class Wall(Energy):
    """+inf on the left half."""

    def __init__(self):
        super().__init__(1)

    def _energy(self, x):
        return torch.where(x[:, 0] < 0, torch.inf, x[:, 0])


def gaussian_flow(log_scale=0.5):
    return Flow(Normal(1).double(), Scale(log_scale))


@pytest.mark.parametrize("soften", [None, 1e6])
def test_reverse_kl_and_its_gradient_on_a_gaussian(soften):
    s, n = 0.5, 200_000
    flow = gaussian_flow(s)
    loss = reverse_kl(flow, Gaussian(), n, soften=soften, generator=torch.Generator().manual_seed(1))
    loss.backward()
    # E[u + log q] = e^2s/2 − s − 1/2 − ln(2π)/2, derivative e^2s − 1; u has standard deviation e^2s/√2
    exact = 0.5 * math.exp(2 * s) - s - 0.5 - 0.5 * math.log(2 * math.pi)
    noise = math.exp(2 * s) / math.sqrt(2 * n)
    assert abs(loss.item() - exact) < SIGMAS * noise
    assert abs(flow.bijection.log_scale.grad.item() - (math.exp(2 * s) - 1)) < SIGMAS * 2 * noise


def test_forward_kl_and_its_gradient_with_weights():
    flow = gaussian_flow(0.3)
    x = torch.tensor([[0.0], [1.0], [2.0], [50.0]], dtype=torch.float64)
    log_w = torch.tensor([0.0, 0.0, math.log(2.0), -math.inf], dtype=torch.float64)
    loss = forward_kl(flow, x, log_w)
    loss.backward()
    second_moment = (0 + 1 + 2 * 4) / 4
    exact = 0.3 + 0.5 * math.log(2 * math.pi) + 0.5 * second_moment * math.exp(-0.6)
    assert loss.item() == pytest.approx(exact, rel=1e-12)
    assert flow.bijection.log_scale.grad.item() == pytest.approx(1 - second_moment * math.exp(-0.6), rel=1e-12)
    assert forward_kl(flow, x[:3]).item() == pytest.approx(forward_kl(flow, x[:3], torch.zeros(3)).item(), rel=1e-12)


def test_draws_that_cannot_be_evaluated_carry_no_gradient():
    flow = gaussian_flow()
    loss = reverse_kl(flow, Wall(), 1000, generator=torch.Generator().manual_seed(0))
    loss.backward()
    z = flow.base.sample(1000, torch.Generator().manual_seed(0))
    inside = z[z[:, 0] >= 0]
    assert 400 < len(inside) < 600
    x = inside[:, 0] * math.exp(0.5)
    log_q = flow.base.log_prob(inside) - 0.5
    assert loss.item() == pytest.approx((x + log_q).mean().item(), rel=1e-12)
    assert flow.bijection.log_scale.grad.item() == pytest.approx((x - 1).mean().item(), rel=1e-12)


def test_a_batch_without_any_finite_draw_gives_nan():
    class Nowhere(Gaussian):
        def _energy(self, x):
            return torch.full_like(x[:, 0], torch.nan)

    assert torch.isnan(reverse_kl(gaussian_flow(), Nowhere(), 10))


def test_softening_bounds_the_gradient_of_clashes_and_leaves_the_rest():
    class Clash(Gaussian):
        def _energy(self, x):
            return 0.5 * x[:, 0].square() + 1e6 * (x[:, 0] > 2.5) * x[:, 0]

    hard, soft = gaussian_flow(0.0), gaussian_flow(0.0)
    reverse_kl(hard, Clash(), 4096, generator=torch.Generator().manual_seed(0)).backward()
    reverse_kl(soft, Clash(), 4096, soften=20.0, generator=torch.Generator().manual_seed(0)).backward()
    assert hard.bijection.log_scale.grad.abs() > 1e3
    assert soft.bijection.log_scale.grad.abs() < 1.0


def test_energies_of_1e30_kt_do_not_overflow_the_softened_loss():
    class Huge(Gaussian):
        def _energy(self, x):
            return torch.where(x[:, 0] > 0, 1e30, 0.0)

    assert torch.isfinite(reverse_kl(gaussian_flow(), Huge(), 100, soften=20.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", range(1, 9))
def test_a_clash_at_any_distance_gives_a_finite_softened_loss_and_gradient(exponent, dtype):
    class Repulsion(Gaussian):
        """A Gaussian, but draws on the right are two atoms 10^-exponent nm apart, times exp(s)."""

        def _energy(self, x):
            r = 10.0**-exponent * x[:, 0].abs()
            return torch.where(x[:, 0] < 0, 0.5 * x[:, 0].square(), (0.3 / r) ** 12)

    flow = gaussian_flow(0.1).to(dtype)
    loss = reverse_kl(flow, Repulsion(), 1000, soften=20.0, generator=torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss)
    gradient = flow.bijection.log_scale.grad
    assert torch.isfinite(gradient)
    assert gradient != 0
    assert gradient.abs() < 1e3


def test_the_path_gradient_has_the_same_value_and_mean():
    s, n = 0.5, 200_000
    total, path = gaussian_flow(s), gaussian_flow(s)
    losses = [
        reverse_kl(flow, Gaussian(), n, path_gradient=how, generator=torch.Generator().manual_seed(1))
        for flow, how in ((total, False), (path, True))
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    losses[1].backward()
    # d/ds of u + log q along x = e^s z is (e^2s - 1) z², whose standard deviation is sqrt(2) (e^2s - 1)
    exact = math.exp(2 * s) - 1
    assert abs(path.bijection.log_scale.grad.item() - exact) < SIGMAS * math.sqrt(2 / n) * exact
    assert path.bijection.log_scale.requires_grad


def test_the_path_gradient_sticks_the_landing_and_the_full_one_does_not():
    path, full = gaussian_flow(0.0), gaussian_flow(0.0)
    for flow, how in ((path, True), (full, False)):
        reverse_kl(flow, Gaussian(), 100, path_gradient=how, generator=torch.Generator().manual_seed(1)).backward()
    assert path.bijection.log_scale.grad.abs() < 1e-12
    assert full.bijection.log_scale.grad.abs() > 1e-3


def test_log_variance_and_its_gradient_on_a_gaussian():
    s, n = 0.3, 400_000
    flow = gaussian_flow(s)
    loss = log_variance(flow, Gaussian(), n, generator=torch.Generator().manual_seed(2))
    loss.backward()
    # log q + u = (e^2s - 1) z²/2 + const: variance (e^2s - 1)²/2; gradient 2 Cov(score, log q + u) = 2 (e^2s - 1)
    spread = math.exp(2 * s) - 1
    assert loss.item() == pytest.approx(spread**2 / 2, rel=SIGMAS * math.sqrt(14 / n))
    assert flow.bijection.log_scale.grad.item() == pytest.approx(2 * spread, rel=SIGMAS * math.sqrt(20 / n))


def test_log_variance_vanishes_at_the_target_and_leaves_failed_draws_out():
    flow = gaussian_flow(0.0)
    loss = log_variance(flow, Gaussian(), 50, generator=torch.Generator().manual_seed(1))
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert flow.bijection.log_scale.grad.abs() < 1e-12
    assert torch.isfinite(log_variance(flow, Wall(), 100, generator=torch.Generator().manual_seed(1)))

    class Nowhere(Gaussian):
        def _energy(self, x):
            return torch.full_like(x[:, 0], torch.inf)

    assert torch.isnan(log_variance(flow, Nowhere(), 10))


@pytest.mark.parametrize("period", [None, 40.0])
def test_the_entropy_of_a_coordinate_is_that_of_a_gaussian_and_grows_with_its_width(period):
    s, width, n = 0.4, 0.1, 2000
    flow = gaussian_flow(s)
    entropy = coordinate_entropy(
        flow, lambda x: x[:, 0], n, width=width, period=period, generator=torch.Generator().manual_seed(1)
    )
    entropy.backward()
    exact = 0.5 * math.log(2 * math.pi * math.e * math.exp(2 * s))
    # standard deviation of log p is 1/√2 a draw; the kernel and its noise cost of order 1e-2
    assert abs(entropy.item() - exact) < SIGMAS * math.sqrt(0.5 / n) + 0.02
    assert flow.bijection.log_scale.grad.item() == pytest.approx(1.0, abs=0.05)


def test_an_angle_has_no_seam():
    flow = gaussian_flow(-1.0)

    def entropy(shift, period):
        def angle(x):
            turned = x[:, 0] + shift
            return turned - 2 * math.pi * torch.floor(turned / (2 * math.pi))

        noise = torch.Generator().manual_seed(1)
        return coordinate_entropy(flow, angle, 500, width=0.1, period=period, generator=noise).item()

    assert entropy(0.0, 2 * math.pi) == pytest.approx(entropy(2.0, 2 * math.pi), rel=1e-9)
    assert entropy(0.0, None) != pytest.approx(entropy(2.0, None), abs=1e-3)


def test_objectives_add_up():
    flow = gaussian_flow()
    x = torch.randn(10, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = 0.5 * forward_kl(flow, x) + 2 * reverse_kl(flow, Gaussian(), 10)
    assert loss.shape == ()


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="soften must be a positive number of kT"):
        reverse_kl(gaussian_flow(), Gaussian(), 10, soften=-1.0)
    with pytest.raises(InputError, match="width and period must be positive"):
        coordinate_entropy(gaussian_flow(), lambda x: x[:, 0], 10, width=0.0)
    with pytest.raises(InputError, match=r"one number per draw, shape \(10,\); got \(10, 1\)"):
        coordinate_entropy(gaussian_flow(), lambda x: x, 10, width=1.0)
    with pytest.raises(InputError, match="log_w must be a tensor of shape"):
        forward_kl(gaussian_flow(), torch.zeros(3, 1, dtype=torch.float64), torch.zeros(2))
    with pytest.raises(InputError, match=r"log_w must be a tensor of shape \(3,\); got list"):
        forward_kl(gaussian_flow(), torch.zeros(3, 1, dtype=torch.float64), [0.0, 0.0, 0.0])


@pytest.mark.parametrize("bad", [[math.nan, 0.0, 0.0], [math.inf, 0.0, 0.0], [-math.inf] * 3])
def test_log_weights_that_say_nothing_are_refused(bad):
    x = torch.zeros(3, 1, dtype=torch.float64)
    with pytest.raises(InputError, match="log_w must be finite or -inf, and not -inf throughout"):
        forward_kl(gaussian_flow(0.0), x, torch.tensor(bad))
    some = torch.tensor([-math.inf, 0.0, 0.0])
    assert torch.isfinite(forward_kl(gaussian_flow(0.0), x, some))


@pytest.mark.parametrize("objective", [reverse_kl, log_variance])
def test_swapped_arguments_are_named(objective):
    with pytest.raises(InputError, match="flow must be a Flow; got a Gaussian: check the order of the arguments"):
        objective(Gaussian(), gaussian_flow(), 10)
    with pytest.raises(InputError, match="n must be a positive integer"):
        objective(gaussian_flow(), Gaussian(), 0)


def test_one_draw_has_no_entropy():
    with pytest.raises(InputError, match="n must be at least 2; got 1"):
        coordinate_entropy(gaussian_flow(), lambda x: x[:, 0], 1, width=0.1)


def test_what_the_rows_were_drawn_from_takes_the_noise_out_of_the_gradient_and_leaves_value_and_mean():
    drawn_from, flow = gaussian_flow(0.3), gaussian_flow(0.1)
    x, drawn_log_q = drawn_from.sample(2000, seed=1)
    log_w = -Gaussian().energy(x) - drawn_log_q
    plain, quiet = forward_kl(flow, x, log_w), forward_kl(flow, x, log_w, drawn_log_q=drawn_log_q)
    assert quiet.item() == plain.item()
    quiet.backward()
    score = x[:, 0].square() * math.exp(-0.2) - 1
    w, s = log_w.softmax(0), (flow.log_prob(x).detach() - drawn_log_q).softmax(0)
    assert flow.bijection.log_scale.grad.item() == pytest.approx(-((w - s) * score).sum().item(), rel=1e-10)
    # exact: E_p[∂ log q/∂s] = exp(−2s) − 1, in either way
    slopes = {"plain": [], "quiet": []}
    for seed in range(200):
        x, drawn_log_q = drawn_from.sample(500, seed=seed)
        log_w = -Gaussian().energy(x) - drawn_log_q
        for name, known in (("plain", None), ("quiet", drawn_log_q)):
            flow.zero_grad()
            forward_kl(flow, x, log_w, drawn_log_q=known).backward()
            slopes[name].append(flow.bijection.log_scale.grad.item())
    exact = 1 - math.exp(-0.2)
    for values in slopes.values():
        mean, error = np.mean(values), np.std(values) / math.sqrt(len(values))
        assert abs(mean - exact) < SIGMAS * error + 2e-3  # 2e-3: the bias of normalised weights, of order 1/500
    assert np.std(slopes["quiet"]) < 0.5 * np.std(slopes["plain"])


def test_at_the_target_the_quiet_gradient_vanishes_row_by_row_and_the_plain_one_does_not():
    flow = gaussian_flow(0.0)
    x, drawn_log_q = gaussian_flow(0.4).sample(100, seed=1)
    log_w = -Gaussian().energy(x) - drawn_log_q
    forward_kl(flow, x, log_w, drawn_log_q=drawn_log_q).backward()
    assert abs(flow.bijection.log_scale.grad.item()) < 1e-14
    flow.zero_grad()
    forward_kl(flow, x, log_w).backward()
    assert abs(flow.bijection.log_scale.grad.item()) > 1e-3


def test_rows_without_a_density_spoil_nothing():
    flow = gaussian_flow()
    x, drawn_log_q = flow.sample(10, seed=1)
    log_w = torch.zeros(10)
    log_w[2], drawn_log_q[2], x[2] = -torch.inf, -torch.inf, torch.nan
    loss = forward_kl(flow, x, log_w, drawn_log_q=drawn_log_q)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(flow.bijection.log_scale.grad)
    with pytest.raises(InputError, match=r"drawn_log_q must be a tensor of shape \(10,\); got \(9,\)"):
        forward_kl(flow, x, log_w, drawn_log_q=drawn_log_q[1:])


def conditional_data(n, seed=None):
    """Rows of x ~ N(sin c, (0.3 + c²)²) and their c, (n, 1) each."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    c, noise = (torch.randn(n, 1, generator=generator) for _ in range(2))
    return c.sin() + (0.3 + c.square()) * noise, c


def divergences(permuted):
    """KL(p‖q) at several contexts, after training on rows with their own contexts, or on rows that lost them."""
    torch.manual_seed(0)
    flow = coupling_flow(1, layers=2, transform="affine", hidden=(32, 32), context=1)

    def loss(q):
        x, c = conditional_data(512)
        return forward_kl(q, x, context=c[torch.randperm(len(c))] if permuted else c)

    train(flow, loss, steps=600, learning_rate=1e-2, progress=False)
    found = []
    for c in (-1.5, -0.5, 0.0, 0.7, 1.2):
        law = torch.distributions.Normal(math.sin(c), 0.3 + c * c)
        x = law.icdf((torch.arange(2000) + 0.5) / 2000)[:, None]
        with torch.no_grad():
            found.append(float((law.log_prob(x)[:, 0] - flow.log_prob(x, torch.full_like(x, c))).mean()))
    return found


def test_a_conditional_density_is_learned_from_rows_with_their_contexts():
    assert max(divergences(permuted=False)) < 0.05
    assert max(divergences(permuted=True)) > 0.05, "the twin with the contexts of other rows must fail"


def test_contexts_go_with_their_rows():
    flow = coupling_flow(1, layers=2, context=1)
    x, c = conditional_data(6, seed=0)
    log_w = torch.arange(6.0)
    flow.bijection.bijections[0].conditioner.heads[2].weight.data.fill_(0.1)
    exact = -(log_w.softmax(0) * flow.log_prob(x, c)).sum()
    assert forward_kl(flow, x, log_w, context=c).item() == pytest.approx(exact.item(), rel=1e-6)
    for wrong in (None, c[:5], torch.cat([c, c]), c[:, 0]):
        with pytest.raises(InputError, match=r"context must have shape \(6, 1\)"):
            forward_kl(flow, x, context=wrong)
    with pytest.raises(InputError, match="context must be None"):
        forward_kl(gaussian_flow(), x.double(), context=c)


def test_draws_that_rounding_does_not_let_back_are_left_out_along_the_path():
    """Where a flow is all but flat its density in single precision says anything, for some draws 1e9 kT too little."""
    flow, target = coupling_flow(2, layers=4, hidden=(16,), seed=1), DoubleWell()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in flow.parameters():
            p += 0.3 * torch.randn(p.shape, generator=noise)
    draws = pathwise(flow, target, 10_000, generator=noise)
    kept = draws.loss.isfinite()
    x, log_q = flow.sample(10_000, seed=1)
    assert (flow.log_prob(x) - log_q).abs().max() > 1e3
    assert draws.log_q.isnan().equal(~kept)
    assert 10 < (~kept).sum() < 5000
    expected = (target.energy(draws.x) + draws.log_q)[kept]
    torch.testing.assert_close(draws.loss[kept].detach(), expected, rtol=1e-4, atol=1e-3)
    assert draws.log_w[~kept].isneginf().all()
    divergence(draws, alpha=1.0, trust=0.4).backward()
    assert all(p.grad.isfinite().all() for p in flow.parameters())
