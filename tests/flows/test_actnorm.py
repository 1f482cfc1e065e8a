import pytest
import torch

from boltzgen.flows import LU, ActNorm, Composition, Flow, Normal

EXACT = 1e-12


def data(n=500):
    z = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.tensor([5.0, -2.0, 0.1]) + torch.tensor([0.3, 7.0, 1.0]) * z


def is_white(z):
    return z.mean(0).abs().max() < EXACT and (z.var(0, correction=0) - 1).abs().max() < EXACT


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_first_output_is_white_in_the_direction_called(direction):
    layer = ActNorm(3).double()
    assert is_white(getattr(layer, direction)(data())[0])
    again, _ = getattr(layer, direction)(2 * data())
    assert not is_white(again), "later batches must be treated like the first"
    assert layer.initialised


def test_it_standardises_layer_by_layer():
    flow = Flow(Normal(3), Composition([ActNorm(3), LU(3), ActNorm(3)])).double()
    x = data()
    torch.nn.init.normal_(flow.bijection.bijections[1].weight, generator=torch.Generator().manual_seed(1))
    flow.log_prob(x)
    assert is_white(flow.bijection.inverse(x)[0])


def test_sampling_evaluating_and_no_gradient_do_not_touch_it():
    flow = Flow(Normal(3), ActNorm(3)).double()
    flow.sample(10, seed=0)
    with torch.no_grad():
        flow.log_prob(data())
    flow.eval().log_prob(data())
    assert not flow.bijection.initialised
    assert torch.equal(flow.bijection.bias, torch.zeros(3, dtype=torch.float64))


def test_that_it_has_happened_is_saved():
    layer, other = ActNorm(3).double(), ActNorm(3).double()
    layer.inverse(data())
    other.load_state_dict(layer.state_dict())
    z, _ = other.inverse(10 * data())
    assert torch.equal(z, layer.inverse(10 * data())[0])


def test_a_constant_dimension_is_only_centred():
    layer = ActNorm(2).double()
    z, log_det = layer.inverse(torch.tensor([[1.0, 3.0], [2.0, 3.0]], dtype=torch.float64))
    assert torch.equal(z[:, 1], torch.zeros(2, dtype=torch.float64))
    assert log_det.isfinite().all()


def test_the_statistics_become_parameters_that_learn():
    layer = ActNorm(3).double()
    z, log_det = layer.inverse(data())
    gradients = torch.autograd.grad((z.sin().sum() + log_det.sum()), list(layer.parameters()))
    assert all((g != 0).all() for g in gradients)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_no_rows_have_no_statistics(direction):
    layer = ActNorm(3).double()
    getattr(layer, direction)(data()[:0])
    assert not layer.initialised
    assert all(p.isfinite().all() for p in layer.parameters())
