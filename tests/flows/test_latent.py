import math
from functools import partial

import pytest
import torch

from boltzgen.energies import toys
from boltzgen.flows import coupling_flow
from boltzgen.flows.latent import Latent
from boltzgen.sampling.drawing import evaluated


def shaken(seed=0):
    """A flow far from the identity."""
    flow = coupling_flow(2, layers=4, hidden=(16,)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return flow


def test_weights_and_gradients():
    flow, target = shaken(), toys.DoubleWell()
    latent = Latent(flow, partial(evaluated, target))
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(1)).double()
    walkers = latent.at(z)
    x, _ = flow.bijection(z)
    assert walkers.x.equal(x.detach())
    assert walkers.log_w.numpy() == pytest.approx((-target.energy(x) - flow.log_prob(x)).detach().numpy(), abs=1e-6)
    direction, h = torch.randn(50, 2, generator=torch.Generator().manual_seed(2)).double(), 1e-6
    ahead, behind = latent.at(z + h * direction), latent.at(z - h * direction)
    for value, gradient in (("log_w", "grad_w"), ("log_p", "grad_p")):
        slope = (getattr(ahead, value) - getattr(behind, value)) / (2 * h)
        assert (getattr(walkers, gradient) * direction).sum(1).numpy() == pytest.approx(
            slope.numpy(), rel=1e-3, abs=1e-4
        )


def stationary(accept_all):
    """Mean |x − μ|² of exact draws of a Gaussian after 15 moves, 0.9 if they are right; its error; the acceptance."""
    mean = torch.tensor([0.3, -0.2], dtype=torch.float64)
    target = toys.Gaussian(mean, [[0.6, 0.1], [0.1, 0.3]])
    flow, n = shaken(), 2000
    generator = torch.Generator().manual_seed(0)
    x = mean + torch.randn(n, 2, generator=generator, dtype=torch.float64) @ target.factor.T
    latent = Latent(flow, partial(evaluated, target))
    with torch.no_grad():
        walkers = latent.at(flow.bijection.inverse(x)[0])
        moved = []
        for _ in range(15):
            velocity = torch.randn(n, 2, generator=generator, dtype=torch.float64)
            uniform = torch.rand(n, generator=generator, dtype=torch.float64)
            walkers, accepted = latent.moved(
                walkers, 1.0, torch.full((n,), 0.25), 3, velocity, uniform * (not accept_all)
            )
            moved.append(accepted.double().mean())
    error = math.sqrt(2 * (0.6**2 + 0.3**2 + 2 * 0.1**2) / n)  # of the mean of |x − μ|² over exact draws
    return float((walkers.x - mean).square().sum(1).mean()), error, float(torch.stack(moved).mean())


def test_moves_leave_the_target_invariant():
    value, error, accepted = stationary(accept_all=False)
    assert abs(value - 0.9) < 4 * error
    assert 0.3 < accepted < 0.95


def test_moves_without_metropolis_do_not():
    value, error, _ = stationary(accept_all=True)
    assert abs(value - 0.9) > 4 * error


def test_moves_at_beta_sample_the_tilted_law():
    """N(0, 1) tilted by half the weight of N(1, ½): precision 1.5, mean 2/3."""
    flow = coupling_flow(1, layers=2, hidden=(4,)).double()
    latent = Latent(flow, partial(evaluated, toys.Gaussian([1.0], [[0.5]])))
    generator, n = torch.Generator().manual_seed(0), 3000
    with torch.no_grad():
        walkers = latent.at(torch.zeros(n, 1, dtype=torch.float64))
        for _ in range(20):
            velocity = torch.randn(n, 1, generator=generator, dtype=torch.float64)
            uniform = torch.rand(n, generator=generator, dtype=torch.float64)
            step = 0.3 + 0.4 * torch.rand(n, generator=generator, dtype=torch.float64)
            walkers, _ = latent.moved(walkers, 0.5, step, 3, velocity, uniform)
    x = walkers.x[:, 0]
    assert abs(float(x.mean()) - 2 / 3) < 4 * math.sqrt(1 / 1.5 / n)
    assert abs(float(x.var()) * 1.5 - 1) < 4 * math.sqrt(2 / n)
