import math

import torch

from boltzgen.flows.conditioner import Conditioner, circular_features, linear_features


def build(seed=0, **changes):
    sizes = {"linear": 2, "circular": 1, "context": 3, "sizes": [4, 5], "hidden": (16, 8)} | changes
    return Conditioner(**sizes, generator=torch.Generator().manual_seed(seed))


def test_features_are_those_of_the_angle_and_its_double():
    angle = torch.linspace(-4.0, 9.0, 20, dtype=torch.float64)[None]
    expected = torch.cat([angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()])
    assert (circular_features(angle) - expected).abs().max() < 1e-14


def test_waves_of_linear_inputs_double_their_frequency():
    x = torch.linspace(-9.0, 9.0, 30, dtype=torch.float64).view(2, 15)
    waves = [f for j in range(3) for f in ((math.pi / 8 * 2**j * x).cos(), (math.pi / 8 * 2**j * x).sin())]
    assert torch.equal(linear_features(x, 3), torch.cat([x, *waves]))
    assert torch.equal(linear_features(x, 0), x)


def test_with_waves_it_can_change_quickly():
    def steepest(**options):
        conditioner = build(circular=0, context=0, linear=1, sizes=[1], **options)
        torch.nn.init.ones_(conditioner.heads[0].weight)
        x = torch.linspace(-3, 3, 2000)[None]
        y = conditioner(x, torch.zeros(0, 2000), None)[0].detach()
        return float(y.diff().abs().max() / (x[0, 1] - x[0, 0]))

    assert steepest(frequencies=8) > 4 * steepest()


def test_starts_at_zero_with_one_tensor_for_each_size():
    theta = build()(torch.randn(2, 6), torch.randn(1, 6), torch.randn(6, 3))
    assert [t.shape for t in theta] == [(4, 6), (5, 6)]
    assert all((t == 0).all() for t in theta)


def test_depends_on_everything_it_is_given(randomise):
    conditioner = randomise(build())
    inputs = [torch.randn(2, 6), torch.randn(1, 6), torch.randn(6, 3)]
    gradients = torch.autograd.grad(conditioner(*[v.requires_grad_() for v in inputs])[1].sum(), inputs)
    assert all((g != 0).all() for g in gradients)


def test_with_nothing_given_the_parameters_are_learned_constants(randomise):
    conditioner = randomise(build(linear=0, circular=0, context=0))
    theta = conditioner(torch.zeros(0, 6), torch.zeros(0, 6), None)
    assert [t.shape for t in theta] == [(4, 6), (5, 6)]
    assert all(torch.equal(t, t[:, :1].expand_as(t)) and (t != 0).any() for t in theta)
    assert sum(p.numel() for p in conditioner.parameters()) == 9


def test_without_hidden_layers_it_is_linear(randomise):
    conditioner = randomise(build(hidden=()))
    a, b, c = torch.randn(2, 6), torch.randn(1, 6), torch.randn(6, 3)
    zero = conditioner(torch.zeros_like(a), b, c)[0]
    assert torch.allclose(conditioner(2 * a, b, c)[0] - zero, 2 * (conditioner(a, b, c)[0] - zero), atol=1e-5)


def test_initial_weights_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = build(), build(), build(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.hidden[0].weight, again.hidden[0].weight)
    assert not torch.equal(first.hidden[0].weight, other.hidden[0].weight)
    bound = 1 / math.sqrt(9)
    assert 0.8 * bound < first.hidden[0].weight.abs().max() <= bound
