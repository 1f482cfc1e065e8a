"""Matching of forces: value, gradient and limits against closed forms, through every smooth flow."""

import math

import pytest
import torch
from test_objectives import Gaussian, gaussian_flow

from boltzgen.energies import Energy, Pullback, toys
from boltzgen.errors import InputError
from boltzgen.flows import coupling_flow
from boltzgen.training import force_matching, forward_kl, train


def forces_of(target, x):
    x = x.detach().requires_grad_()
    return -torch.autograd.grad(target.energy(x).sum(), x)[0]


def test_value_and_gradient_of_weighted_rows_on_a_gaussian():
    flow = gaussian_flow(0.3)
    x = torch.tensor([[0.5], [1.0], [2.0], [50.0]], dtype=torch.float64)
    log_w = torch.tensor([0.0, 0.0, math.log(2.0), -math.inf], dtype=torch.float64)
    forces = forces_of(Gaussian(), x)
    forces[3] = torch.nan  # of a row that does not count
    loss = force_matching(flow, x, forces, log_w)
    loss.backward()
    # ∇ log q = −x e^{-2s}: the mean of x² (1 − e^{-2s})²
    second_moment, gap = (0.25 + 1 + 2 * 4) / 4, 1 - math.exp(-0.6)
    assert loss.item() == pytest.approx(second_moment * gap**2, rel=1e-12)
    assert flow.bijection.log_scale.grad.item() == pytest.approx(4 * second_moment * gap * math.exp(-0.6), rel=1e-12)
    some = forces[:3]
    assert force_matching(flow, x[:3], some).item() == pytest.approx(5.25 / 3 * gap**2, rel=1e-12)


def test_it_vanishes_row_by_row_where_the_flow_has_the_forces_of_the_target():
    flow = gaussian_flow(0.0)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    loss = force_matching(flow, x, forces_of(Gaussian(), x))
    loss.backward()
    assert loss.item() < 1e-24
    assert abs(flow.bijection.log_scale.grad.item()) < 1e-12
    assert force_matching(flow, x, torch.zeros_like(x)).item() == pytest.approx(4.0)


@pytest.mark.parametrize("transform", ["affine", "logistic", "spline"])
def test_the_gradient_is_that_of_small_steps(transform):
    flow = coupling_flow(3, layers=4, transform=transform, hidden=(8,)).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    steps = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in flow.parameters()]

    def moved(h):
        with torch.no_grad():
            for parameter, step in zip(flow.parameters(), steps, strict=True):
                parameter.add_(h * step)
        return force_matching(flow, x, -x)

    moved(0.1).backward()
    slope = sum(float((p.grad * step).sum()) for p, step in zip(flow.parameters(), steps, strict=True))
    h = 1e-5
    ahead, behind = moved(h).item(), moved(-2 * h).item()
    assert (ahead - behind) / (2 * h) == pytest.approx(slope, rel=1e-4)


def test_nothing_but_parameters_gathers_a_gradient():
    flow, x = gaussian_flow(), torch.ones(3, 1, dtype=torch.float64, requires_grad=True)
    force_matching(flow, x, -x.detach()).backward()
    assert x.grad is None


class Bent(Energy):
    """A Gaussian in (x, y + x²)."""

    def __init__(self):
        super().__init__(2)

    def _energy(self, x):
        return 0.5 * x[:, 0].square() + 2 * (x[:, 1] + x[:, 0].square()).square()


def divergence(with_forces):
    """KL(p‖q) after learning from eighty draws, with or without their forces."""
    z = torch.special.ndtri(torch.rand(4080, 2, generator=torch.Generator().manual_seed(1)))
    x = torch.stack([z[:, 0], z[:, 1] / 2 - z[:, 0].square()], 1)
    data, fresh = x[:80], x[80:]
    forces = forces_of(Bent(), data)
    flow = coupling_flow(2, layers=4, transform="affine", hidden=(16, 16))

    def loss(q):
        return forward_kl(q, data) + (0.1 * force_matching(q, data, forces) if with_forces else 0.0)

    train(flow, loss, steps=200, learning_rate=1e-2, progress=False)
    with torch.no_grad():
        log_p = -Bent().energy(fresh) - math.log(2 * math.pi / 2)
        return float((log_p - flow.log_prob(fresh)).mean())


def test_forces_tell_of_few_configurations_what_their_density_does_not():
    alone, told = divergence(with_forces=False), divergence(with_forces=True)
    assert 0 < told < 0.5 * alone


def test_forces_along_coordinates_are_those_of_a_pullback():
    """With the Jacobian of the chart: log q is the density of y, not of x."""
    inner = toys.Gaussian([0.0], [[1.0]])
    target = Pullback(inner, lambda y: (y.exp(), y.sum(-1)), event_shape=(1,))
    y = torch.tensor([[0.3], [-0.2]], dtype=torch.float64)
    assert forces_of(target, y).flatten().tolist() == pytest.approx((1 - (2 * y).exp()).flatten().tolist())


def test_what_cannot_work_is_refused():
    flow, x = gaussian_flow(), torch.ones(4, 1, dtype=torch.float64)
    with pytest.raises(InputError, match=r"forces must be a tensor of the shape of x, \(4, 1\); got \(4,\)"):
        force_matching(flow, x, torch.ones(4))
    with pytest.raises(InputError, match=r"forces must be a tensor of the shape of x, .*; got list"):
        force_matching(flow, x, [1.0] * 4)
    forces = -x.clone()
    forces[1:3] = torch.inf
    with pytest.raises(InputError, match="x and forces must be finite; got NaN or infinity in 2 rows of 4 that count"):
        force_matching(flow, x, forces)
    with pytest.raises(InputError, match="x and forces must be finite; got NaN or infinity in 2 rows of 4"):
        force_matching(flow, torch.where(forces.isfinite(), x, torch.nan), -torch.ones_like(x))
    log_w = torch.tensor([0.0, -math.inf, -math.inf, 0.0])
    assert torch.isfinite(force_matching(flow, x, forces, log_w))
    with pytest.raises(InputError, match=r"log_w must be a tensor of shape \(4,\); got \(3,\)"):
        force_matching(flow, x, -x, log_w[:3])
    with pytest.raises(InputError, match="log_w must be finite or -inf, and not -inf throughout"):
        force_matching(flow, x, -x, torch.full((4,), -math.inf))
    with pytest.raises(InputError, match="x must have the flow's dtype"):
        force_matching(flow, x.float(), -x.float())
    with pytest.raises(InputError, match="flow must be a Flow; got a Tensor"):
        force_matching(x, flow, -x)


def test_a_law_that_is_the_same_everywhere_has_no_slope():
    flow = coupling_flow(2, transform="additive", circular=[True, True])
    assert force_matching(flow, torch.zeros(3, 2), torch.ones(3, 2)).item() == pytest.approx(2.0)
