"""Against laws whose divergence from the flow is known but for Monte Carlo noise."""

import math

import pytest
import torch

import boltzgen as bg
from boltzgen.errors import InputError
from boltzgen.flows import gaussianization


def banana(n, seed):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return torch.stack([z[:, 0], z[:, 0].square() - 1 + 0.5 * z[:, 1]], 1)


def banana_log_p(x):
    z = torch.stack([x[:, 0], 2 * (x[:, 1] - x[:, 0].square() + 1)], 1)
    return -0.5 * z.square().sum(1) - math.log(2 * math.pi) + math.log(2)


def divergence(log_p, flow, x):
    """Forward divergence and its standard error."""
    with torch.no_grad():
        terms = log_p(x) - flow.log_prob(x)
    return float(terms.mean()), float(terms.std() / len(x) ** 0.5)


def test_more_layers_come_nearer():
    x, test = banana(10_000, seed=1), banana(10_000, seed=2)
    found = [divergence(banana_log_p, gaussianization(x, layers=layers), test)[0] for layers in (1, 4, 16)]
    assert found[0] > 0.4
    assert found[1] < 0.8 * found[0]
    assert found[2] < 0.15
    assert found[2] < 0.6 * found[1]


def test_one_layer_is_the_law_of_one_dimension_itself():
    generator = torch.Generator().manual_seed(0)

    def draw(n):
        side = 4 * (torch.rand(n, 1, generator=generator) < 0.3).float() - 2
        return 100 + 10 * (side + 0.5 * torch.randn(n, 1, generator=generator))

    def log_p(x):
        y = (x[:, 0] - 100) / 10
        parts = torch.stack([-2 * (y + 2) ** 2 + math.log(0.7), -2 * (y - 2) ** 2 + math.log(0.3)])
        return parts.logsumexp(0) - 0.5 * math.log(2 * math.pi) + math.log(2) - math.log(10)

    flow = gaussianization(draw(20_000), layers=1, bins=32)
    value, error = divergence(log_p, flow, draw(20_000))
    assert -4 * error < value < 0.05
    normal = gaussianization(draw(20_000), layers=1, bins=2)
    assert divergence(log_p, normal, draw(20_000))[0] > 0.1, "the twin with two bins must be seen"


def test_normal_data_give_the_normal_law():
    factor = torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    x = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)) @ factor.T
    law = torch.distributions.MultivariateNormal(torch.zeros(2), scale_tril=factor)
    assert abs(divergence(law.log_prob, gaussianization(x, layers=16), x)[0]) < 0.03


def test_draws_are_distributed_like_the_data_and_repeat():
    x = banana(10_000, seed=1)
    flow = gaussianization(x, layers=16, seed=3)
    y, log_q = flow.sample(10_000, seed=0)
    assert (y.mean(0) - x.mean(0)).abs().max() < 0.1
    assert torch.allclose(flow.log_prob(y), log_q, atol=1e-3)
    again, _ = gaussianization(x, layers=16, seed=3).sample(100, seed=0)
    assert torch.equal(again, y[:100])


def test_training_goes_on_from_it():
    x, test = banana(10_000, seed=1), banana(10_000, seed=2)
    flow = gaussianization(x, layers=4)
    before, _ = divergence(banana_log_p, flow, test)
    bg.train(flow, lambda q: bg.forward_kl(q, x[torch.randint(len(x), (512,))]), steps=60, progress=False)
    assert divergence(banana_log_p, flow, test)[0] < 0.9 * before


def test_wrong_data_are_refused():
    with pytest.raises(InputError, match="draw more"):
        gaussianization(torch.randn(100, 2))
    with pytest.raises(InputError, match="finite and vary"):
        gaussianization(torch.ones(1000, 2))
    with pytest.raises(InputError, match="layers must be"):
        gaussianization(torch.randn(1000, 2), layers=0)
