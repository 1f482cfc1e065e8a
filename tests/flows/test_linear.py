import math

import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import Composition, Flow, Normal, Whitening, Widening

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
FACTOR = torch.tensor([[0.5, 0.0], [0.3, 2.0]], dtype=torch.float64)


def test_pushes_white_noise_to_the_normal_law():
    flow = Flow(Normal(2), Whitening(2, [0, 1], MEAN, FACTOR)).double()
    x, log_q = flow.sample(100, seed=0)
    exact = torch.distributions.MultivariateNormal(MEAN, scale_tril=FACTOR).log_prob(x)
    assert (log_q - exact).abs().max() < 1e-6  # the factor was kept in float32


def test_other_dimensions_pass_through():
    x, log_det = Whitening(3, [2, 0], MEAN, FACTOR).forward(torch.ones(1, 3))
    assert torch.allclose(x, torch.tensor([[-2 + 2.3, 1.0, 1.5]]))
    assert torch.allclose(log_det, FACTOR.diagonal().log().sum().float())


def test_the_factor_is_state():
    state = Whitening(2, [0, 1], MEAN, FACTOR).state_dict()
    other = Whitening(2, [0, 1], 0 * MEAN, torch.eye(2))
    other.load_state_dict(state)
    assert torch.equal(other.forward(torch.zeros(1, 2))[0], MEAN[None].float())


@pytest.mark.parametrize(
    ("mean", "factor", "message"),
    [
        (MEAN[:1], FACTOR, "must have shapes"),
        (MEAN, FACTOR[:1], "must have shapes"),
        (MEAN, FACTOR.T, "lower triangular"),
        (MEAN, -FACTOR, "positive diagonal"),
        (MEAN, FACTOR * torch.inf, "lower triangular"),
    ],
)
def test_what_is_not_a_factor_is_refused(mean, factor, message):
    with pytest.raises(InputError, match=message):
        Whitening(3, [0, 1], mean, factor)


def test_a_normal_law_is_as_wide_as_its_temperature_makes_it():
    law = Composition([Widening(2, [0, 1]), Whitening(2, [0, 1], MEAN, FACTOR)])
    flow = Flow(Normal(2), law, temperature=300.0).double()
    for temperature in (300.0, 450.0, 1200.0):
        x, log_q = flow.at(temperature).sample(100, seed=0)
        factor = math.sqrt(temperature / 300.0) * FACTOR
        exact = torch.distributions.MultivariateNormal(MEAN, scale_tril=factor).log_prob(x)
        assert (log_q - exact).abs().max() < 1e-5  # factor and context were kept in float32


@pytest.mark.parametrize("dims", [[3], [-1], [0, 0]])
def test_a_widening_of_dimensions_that_do_not_exist_is_refused(dims):
    with pytest.raises(InputError, match="dims must be distinct dimensions below 3"):
        Widening(3, dims)


def test_widenings_of_other_dimensions_are_of_another_architecture():
    names = {Flow(Normal(3), Widening(3, dims)).architecture for dims in ([0], [1, 2])}
    assert len(names) == 2
