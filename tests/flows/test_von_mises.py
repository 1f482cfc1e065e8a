"""Von Mises laws: density and draws against torch, gradients of draws against the series of their distribution."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ive

import boltzgen as bg
from boltzgen.flows import Flow, Permutation, VonMises

N = 100_000
SIGMAS = 5
SLOPE = 1e-8  # of draws; the differences it is compared with are worth no more


def one(mean, concentration, *, trainable=False):
    mean, concentration = (torch.tensor([v], dtype=torch.float64) for v in (mean, concentration))
    return VonMises(mean, concentration, trainable=trainable).double()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("concentration", [1e-3, 1.0, 100.0, 1e5])
def test_density_and_draws_are_those_of_torch(concentration):
    base = VonMises(torch.tensor([3.0]), torch.tensor([concentration]))
    z = base.sample(1000, generator())
    exact = torch.distributions.VonMises(3.0, concentration).log_prob(z.double())[:, 0]
    assert (base.double().log_prob(z.double()) - exact).abs().max() < 1e-4 * max(1, concentration**0.5)  # its float32
    # E[cos(z − μ)] = I_1(κ)/I_0(κ)
    z = base.sample(N, generator(1))
    assert ((z >= -math.pi) & (z < math.pi)).all()
    cosine = (z - 3.0).cos()
    ratio = torch.special.i1e(base.concentration) / torch.special.i0e(base.concentration)
    assert abs(cosine.mean() - float(ratio)) < SIGMAS * cosine.std() / N**0.5


def distribution(deviation, concentration):
    """F by its Fourier series."""
    j = np.arange(1, 400)[:, None]
    series = ive(j, concentration) / ive(0, concentration) * np.sin(j * deviation) / j
    return 0.5 + deviation / (2 * np.pi) + series.sum(0) / np.pi


@pytest.mark.parametrize("concentration", [1e-3, 0.5, 3.0, 40.0])
def test_draws_keep_their_place_in_the_distribution(concentration):
    base = one(0.4, concentration, trainable=True)
    mean, concentration = float(base.mean.detach()), float(base.concentration.detach())  # rounded when it was built
    z = base.sample(500, generator())
    by_mean, by_log = (torch.stack([torch.autograd.grad(v, p, retain_graph=True)[0] for v in z[:, 0]])[:, 0]
                       for p in (base.mean, base.log_concentration))  # fmt: skip
    assert (by_mean == 1).all()
    deviation = ((z - mean + math.pi).remainder(2 * math.pi) - math.pi).detach()[:, 0].numpy()
    h = 1e-5
    up, down = (distribution(deviation, concentration * math.exp(step)) for step in (h, -h))
    density = np.exp(concentration * (np.cos(deviation) - 1)) / (2 * np.pi * ive(0, concentration))
    assert np.abs(by_log.numpy() + (up - down) / (2 * h) / density).max() < SLOPE
    assert np.abs(0.999 * by_log.numpy() + (up - down) / (2 * h) / density).max() > SLOPE


@pytest.mark.parametrize("concentration", [1e5, 1e11])
def test_concentrated_draws_move_as_normal_ones(concentration):
    base = one(0.0, concentration, trainable=True)
    z = base.sample(100, generator())
    (slope,) = torch.autograd.grad(z.square().sum(), base.log_concentration)
    assert float(slope) == pytest.approx(-float(z.detach().square().sum()), rel=1e-3)  # z = ε/√κ


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("concentration", [0.5, 1e6])
def test_the_gradient_of_the_density_is_that_of_bessel_functions(concentration, dtype):
    base = one(0.0, concentration, trainable=True).to(dtype)
    concentration = float(base.concentration.detach())  # rounded when it was built
    z = base.sample(50, generator()).detach()
    mean, log_concentration = torch.autograd.grad(base.log_prob(z).sum(), list(base.parameters()))
    # κ (1 − I_1/I_0), which is 1/2 + 1/8κ + … where κ is large
    small = concentration < 1e3
    rest = concentration * (1 - ive(1, concentration) / ive(0, concentration)) if small else 0.5 + 0.125 / concentration
    exact = (rest - 2 * concentration * (z.double() / 2).sin().square()).sum()
    scale = torch.finfo(dtype).eps ** 0.5
    assert float(log_concentration) == pytest.approx(float(exact), abs=10 * scale)
    assert float(mean) == pytest.approx(float(concentration * z.double().sin().sum()), rel=scale)


@pytest.mark.parametrize("divergence", ["reverse", "forward"])
def test_mean_and_concentration_learn_the_law_of_another(divergence):
    flow = Flow(one(2.0, 0.5, trainable=True), Permutation([0]))
    teacher = Flow(one(-2.5, 6.0), Permutation([0]))
    bg.distill(teacher, flow, steps=300, n=256, divergence=divergence, learning_rate=0.05, progress=False)
    assert float(flow.base.mean.detach().remainder(2 * math.pi)) == pytest.approx(2 * math.pi - 2.5, abs=0.03)
    assert float(flow.base.concentration.detach()) == pytest.approx(6.0, rel=0.1)


def test_what_is_given_stays_unless_told_otherwise():
    base = one(0.0, 1.0)
    assert not list(base.parameters())
    assert not base.sample(3).requires_grad
    trainable = one(0.0, 1.0, trainable=True)
    assert torch.equal(base.sample(3, generator(1)), trainable.sample(3, generator(1)).detach())
    with torch.no_grad():
        assert not trainable.sample(3).requires_grad
