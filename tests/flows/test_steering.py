"""Flows at other temperatures: their law by its definition, and a target whose partition function is known."""

import math

import pytest
import torch

import boltzgen as bg
from boltzgen.errors import InputError
from boltzgen.flows import (
    LU,
    ActNorm,
    Additive,
    Composition,
    Coupling,
    Flow,
    GaussianMixture,
    Inverse,
    Normal,
    Planar,
    UniformTorus,
    VonMises,
    Whitening,
    steered,
)


class Banana(bg.Energy):
    """u(x)/τ with u = x₁²/2 + 2 (x₂ − x₁²/2)²: log Z = log(πτ) at every τ."""

    def __init__(self, tau):
        super().__init__((2,))
        self.tau = tau

    def _energy(self, x):
        return (0.5 * x[:, 0].square() + 2 * (x[:, 1] - 0.5 * x[:, 0].square()).square()) / self.tau


@pytest.mark.parametrize("ratio", [0.25, 3.0])
def test_the_law_is_the_power_of_the_flow(ratio, randomise):
    torch.manual_seed(0)
    couplings = bg.coupling_flow(3, transform="additive", layers=4).bijection
    flow = randomise(Flow(Normal(3), Composition([LU(3), Inverse(couplings), ActNorm(3)]))).double().eval()
    hot = steered(flow, ratio)
    x = 3 * torch.randn(100, 3, dtype=torch.float64)
    constant = 1.5 * (1 / ratio - 1) * math.log(2 * math.pi) - 1.5 * math.log(ratio)  # of the base
    expansion = flow.bijection.forward(x)[1][0]
    expected = flow.log_prob(x) / ratio + constant + (1 / ratio - 1) * expansion
    assert (hot.log_prob(x) - expected).abs().max() < 1e-9
    drawn, log_q = hot.sample(1000, seed=1)
    assert (hot.log_prob(drawn) - log_q).abs().max() < 1e-9
    assert all(a is b for a, b in zip(hot.parameters(), flow.parameters(), strict=True))


def test_angles_stay_normalised(randomise):
    flow = randomise(bg.coupling_flow(2, transform="additive", circular=[False, True], layers=4)).double()
    hot = steered(flow, 2.0)
    linear, angle = torch.linspace(-15, 15, 600), torch.linspace(-math.pi, math.pi, 65)[:-1]
    p = hot.log_prob(torch.cartesian_prod(linear, angle).double()).exp().sum() * (30 / 599) * (2 * math.pi / 64)
    assert abs(p - 1) < 1e-4
    with torch.no_grad():
        x, _ = hot.sample(5, seed=1)
        scaled = flow.log_prob(x) / 2 - hot.log_prob(x)
    assert (scaled - scaled[0]).abs().max() < 1e-9


def test_von_mises_and_uniform_bases_are_tempered():
    base = VonMises(torch.tensor([0.5]), torch.tensor([3.0])).double()
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    difference = base.tempered(2.0).log_prob(z) - base.log_prob(z) / 2
    assert (difference - difference[0]).abs().max() < 1e-12
    assert base.tempered(2.0).log_prob(z).dtype == torch.float64
    torus = UniformTorus(2)
    assert torus.tempered(3.0) is torus


class HalfSquare(torch.nn.Module):
    """A network that has learned the banana: the translation is half the square of what is given."""

    def forward(self, linear, angles, context):
        return [0.5 * linear.square()]


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_a_flow_exact_at_one_temperature_is_exact_at_all(tau):
    bend = Coupling(2, [1], [0], Additive(1))
    bend.conditioner = HalfSquare()
    flow = Flow(Normal(2), Composition([Whitening(2, [1], torch.zeros(1), torch.tensor([[0.5]])), bend])).double()
    samples = bg.draw(steered(flow, tau), Banana(tau), 5000, seed=1)
    assert (samples.log_w - math.log(math.pi * tau)).abs().max() < 1e-6
    if tau != 1:
        assert bg.effective_sample_size(bg.draw(flow, Banana(tau), 5000, seed=1).log_w) < 4000, "the twin not steered"


def test_a_flow_given_the_temperature_learns_all_of_them():
    """The other way to one flow for every temperature: here u = x²/2τ, whose law has the variance τ."""
    torch.manual_seed(0)
    flow = bg.coupling_flow(1, transform="affine", layers=1, hidden=(16,), context=1)

    def divergence(q):
        tau = 0.5 + 1.5 * torch.rand(256, 1)
        x, log_q = q.rsample(256, context=tau.log())
        return (0.5 * x.square().sum(1) / tau[:, 0] + log_q).mean()

    bg.train(flow, divergence, steps=150, learning_rate=2e-2, progress=False)
    for tau in (0.6, 1.0, 1.8):
        context = torch.full((20_000, 1), math.log(tau))
        x, _ = flow.sample(20_000, seed=1, context=context)
        assert abs(float(x.var()) / tau - 1) < 0.05
        assert abs(float(x.var()) / (1.3 * tau) - 1) > 0.1, "the twin at another temperature must be seen"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: steered(bg.coupling_flow(2, transform="affine"), 2.0), "every layer must .* got Affine"),
        (lambda: steered(bg.coupling_flow(2, transform="additive", circular=[1, 1]), 0.0), "ratio must be positive"),
        (lambda: steered(Flow(Normal(2), Planar(2)), 2.0), "every layer must .* got Planar"),
        (lambda: steered(Flow(GaussianMixture(torch.zeros(1, 2)), LU(2)), 2.0), "a base must be normal"),
        (lambda: Normal(2, scale=0.0), "scale must be positive"),
    ],
)
def test_what_cannot_be_steered_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
