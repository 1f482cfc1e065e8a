"""Against linear equations, whose flow is a matrix exponential; and the estimated trace against the exact one."""

import math

import pytest
import torch

import boltzgen as bg
from boltzgen.errors import InputError
from boltzgen.flows import Continuous, Flow, Normal

MATRIX = torch.tensor([[0.3, 1.0, 0.0], [-0.7, 0.5, 0.2], [0.1, 0.0, -0.4]], dtype=torch.float64)
FORTH = torch.linalg.matrix_exp(MATRIX)


def linear(z, t, context):
    return z @ MATRIX.to(z).T


def swirl(z, t, context):
    """Not linear, and other at every time."""
    return torch.stack([(z[:, 1] + t).sin(), z[:, 0].cos() * z[:, 1].tanh()], 1)


def points(n=40, d=3, dtype=torch.float64):
    return 2 * torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_a_linear_velocity_gives_the_matrix_exponential(tolerance):
    layer = Continuous(3, linear, tolerance=tolerance)
    x, log_det = layer.forward(points())
    z, back = layer.inverse(points() @ FORTH.T)
    assert (x - points() @ FORTH.T).abs().max() < 10 * tolerance
    assert (z - points()).abs().max() < 10 * tolerance
    assert (log_det - MATRIX.trace()).abs().max() < 1e-12
    assert (back + MATRIX.trace()).abs().max() < 1e-12


@torch.no_grad()
def test_rk4_is_of_fourth_order():
    exact, exact_log_det = Continuous(2, swirl, tolerance=1e-13).forward(points(d=2))
    errors = []
    for steps in (8, 16, 32):
        x, log_det = Continuous(2, swirl, steps=steps).forward(points(d=2))
        errors.append([(x - exact).abs().max(), (log_det - exact_log_det).abs().max()])
    orders = torch.tensor(errors).log2().diff(dim=0)
    assert ((orders < -3.6) & (orders > -4.6)).all()


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
@torch.no_grad()
def test_the_tolerance_is_kept_where_nothing_is_linear(tolerance):
    exact, exact_log_det = Continuous(2, swirl, tolerance=1e-13).forward(points(d=2))
    x, log_det = Continuous(2, swirl, tolerance=tolerance).forward(points(d=2))
    assert (x - exact).abs().max() < 20 * tolerance
    assert (log_det - exact_log_det).abs().max() < 20 * tolerance


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_a_velocity_that_knows_its_trace_is_asked(trace):
    class Knowing(torch.nn.Module):
        def forward(self, z, t, context):
            return 0.1 * z

        def with_trace(self, z, t, context):
            return 0.1 * z, torch.full_like(t, 7.0)

    before = torch.get_rng_state()
    for steps in (4, None):
        _, log_det = Continuous(3, Knowing(), steps=steps, trace=trace).train().forward(points())
        torch.testing.assert_close(log_det, torch.full_like(log_det, 7.0))
    assert torch.equal(torch.get_rng_state(), before)


def test_hutchinson_estimates_the_log_det_without_bias():
    torch.manual_seed(0)
    z = points(1, 2).expand(4000, 2).clone()
    exact = Continuous(2, swirl, steps=8).forward(z[:1])[1]
    _, estimates = Continuous(2, swirl, steps=8, trace="hutchinson").forward(z)
    error = estimates.std() / math.sqrt(len(z))
    assert error > 0
    assert (estimates.mean() - exact).abs() < 4 * error
    assert (estimates.mean() - 0.9 * exact).abs() > 4 * error, "the twin that is 10 % off must be seen"


def test_weights_never_rest_on_an_estimate():
    layer = Continuous(2, swirl, steps=8, trace="hutchinson")
    exact = Continuous(2, swirl, steps=8).forward(points(d=2))[1]
    assert not torch.equal(layer.forward(points(d=2))[1], exact)
    with torch.no_grad():
        assert torch.equal(layer.forward(points(d=2))[1], exact)
    assert torch.equal(layer.eval().forward(points(d=2))[1], exact)


@pytest.mark.parametrize("steps", [None, 4])
def test_inference_mode_keeps_the_log_det(steps):
    layer = Continuous(2, swirl, steps=steps, context=1)
    z, context = points(d=2), torch.zeros(len(points(d=2)), 1)
    with torch.no_grad():
        x, log_det = layer.forward(z, context)
    with torch.inference_mode():
        again, same = layer.forward(1 * z, 1 * context)
    assert (log_det != 0).all()
    assert torch.equal(again, x)
    assert torch.equal(same, log_det)


@torch.no_grad()
def test_a_stiff_velocity_ends():
    _, log_det = Continuous(1, lambda z, t, context: -1e6 * z, tolerance=1e-6).forward(torch.ones(1, 1))
    assert log_det.allclose(torch.tensor(-1e6), rtol=1e-4)


@pytest.mark.parametrize("velocity", [lambda z, t, context: torch.ones_like(z), lambda z, t, context: context])
def test_a_velocity_that_moves_all_points_alike(velocity):
    layer = Continuous(2, velocity, context=2)
    context = torch.ones(5, 2, requires_grad=True)
    x, log_det = layer.forward(torch.zeros(5, 2), context)
    assert torch.allclose(x, torch.ones(5, 2))
    assert torch.equal(log_det, torch.zeros(5))


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_learns_by_example(trace):
    torch.manual_seed(0)
    scale = torch.tensor([0.5, 2.0])
    x = scale * torch.randn(256, 2)
    flow = Flow(Normal(2), Continuous(2, hidden=(16,), steps=2, trace=trace))
    bg.train(flow, lambda q: bg.forward_kl(q, x), steps=100, learning_rate=3e-2, progress=False)
    optimum = x.std(0).log().sum() + 1 + math.log(2 * math.pi)  # entropy of the fitted normal law
    with torch.no_grad():
        assert abs(-flow.log_prob(x).mean() - optimum) < 0.05
    assert flow.sample(10, seed=1)[0].shape == (10, 2)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="tolerance must lie"):
        Continuous(2, tolerance=0)
    with pytest.raises(InputError, match="steps must be a positive integer"):
        Continuous(2, steps=0)
    with pytest.raises(InputError, match="trace must be"):
        Continuous(2, trace="guess")
