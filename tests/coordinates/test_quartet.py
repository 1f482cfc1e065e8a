"""Shapes of four particles: the measure, the copies left out, and log Z, all against charts that know of neither."""

import itertools
import math

import pytest
import torch

import boltzgen as bg
from boltzgen.coordinates import PlanarQuartet
from boltzgen.energies import Pullback
from boltzgen.energies.toys import DW4
from boltzgen.errors import InputError

ROUND_TRIP = {torch.float64: 1e-8, torch.float32: 5e-3}
DISTANCES = 1e-10


def normal(n, *shape, seed=0, scale=1.0):
    return scale * torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(x, angle, shift=0.0):
    """Positions (n, 8) or (8,), turned and moved."""
    c, s = math.cos(angle), math.sin(angle)
    return (x.unflatten(-1, (4, 2)) @ x.new_tensor([[c, s], [-s, c]]) + shift).flatten(-2)


def distances(x):
    x = x.unflatten(-1, (4, 2))
    return torch.cdist(x, x).flatten(1).sort(1).values


@pytest.mark.parametrize("dtype", ROUND_TRIP)
def test_round_trips_cancel_and_keep_the_dtype(dtype):
    chart, y = PlanarQuartet(), normal(2000, 5).to(dtype)
    x, log_det = chart(y)
    again, back = chart.inverse(x)
    assert x.dtype == log_det.dtype == again.dtype == back.dtype == dtype
    assert (again - y).abs().max() < ROUND_TRIP[dtype]
    assert (log_det + back).abs().max() < 10 * ROUND_TRIP[dtype]


@pytest.mark.parametrize("distance", [4.0, 1.5])
def test_log_det_is_that_of_the_square_map(distance):
    chart, basis = PlanarQuartet(distance=distance), DW4().basis

    def square_map(p):  # shape and angle to orthonormal coordinates of zero centroid
        c, s = p[5].cos(), p[5].sin()
        turn = torch.stack([torch.stack([c, s]), torch.stack([-s, c])])
        return (basis.T @ chart(p[None, :5])[0].view(4, 2) @ turn).flatten()

    y = normal(40, 5, scale=1.5)
    for row, log_det in zip(y, chart(y)[1], strict=True):
        jacobian = torch.autograd.functional.jacobian(square_map, torch.cat([row, row.new_tensor([0.7])]))
        torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet, atol=1e-9, rtol=0)


def test_positions_have_zero_centroid_and_their_own_size():
    y = normal(100, 5)
    x = PlanarQuartet()(y)[0]
    assert x.unflatten(1, (4, 2)).mean(1).abs().max() < 1e-14
    torch.testing.assert_close(x.square().sum(1), 24 * (y[:, 0] / 4).exp())


def test_all_copies_of_a_configuration_are_one_point_of_the_chart():
    chart, x = PlanarQuartet(), normal(500, 8, scale=2.0)
    y, log_det = chart.inverse(x)
    mirror = x.new_tensor([1.0, -1.0]).repeat(4)
    for k, order in enumerate(itertools.permutations(range(4))):
        copy = x.unflatten(1, (4, 2))[:, list(order)].flatten(1) * (mirror if k % 2 else 1.0)
        again, same = chart.inverse(turned(copy, 0.3 + k, shift=k))
        torch.testing.assert_close(again, y, atol=1e-5, rtol=0)  # some lie next to the edge, far out
        torch.testing.assert_close(same, log_det, atol=1e-5, rtol=0)


def test_every_configuration_lies_in_the_chart():
    chart, x = PlanarQuartet(), normal(100_000, 8, scale=2.5)
    y, log_det = chart.inverse(x)
    assert torch.cat([y, log_det[:, None]], 1).isfinite().all()
    assert (distances(chart(y)[0]) - distances(x)).abs().max() < DISTANCES
    target = Pullback(DW4(), chart)
    torch.testing.assert_close(target.energy(y), DW4().energy(x) + log_det - chart.log_symmetry)


def test_what_has_no_shape_lies_outside():
    line = torch.arange(4.0).repeat_interleave(2)[None]
    for x in (line, torch.zeros(1, 8), torch.full((1, 8), math.nan)):
        y, log_det = PlanarQuartet().inverse(x)
        assert y.isfinite().all()
        assert log_det.item() == -math.inf


def test_special_shapes_lie_inside():
    special = torch.tensor([[0.0, 0, 3, 0, 3, 3, 0, 3], [0, 0, 2, 0, -1, math.sqrt(3), -1, -math.sqrt(3)]]).double()
    y, log_det = PlanarQuartet().inverse(special + normal(2, 8, scale=1e-9))  # a square; a triangle about its centre
    assert torch.cat([y, log_det[:, None]], 1).isfinite().all()
    assert (distances(PlanarQuartet()(y)[0]) - distances(special)).abs().max() < 1e-7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_are_finite_far_out(dtype):
    y = (10.0 * torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 5)).to(dtype).requires_grad_()
    x, log_det = PlanarQuartet()(y)
    (gradient,) = torch.autograd.grad(x.sum() + log_det.sum(), y)
    assert torch.cat([x, log_det[:, None], gradient], 1).isfinite().all()


def test_the_distance_must_be_positive():
    with pytest.raises(InputError, match="distance must be a positive number"):
        PlanarQuartet(distance=0.0)


HOT = 6.0
"""temperature at which draws that know nothing of DW4 still find it."""


def uniform(n, low, high, seed):
    u = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return low + (high - low) * u, math.log(high - low)


def from_the_chart(chart, n=200_000):
    """log Z from draws of any shape."""
    y = normal(n, 5)
    y[:, 0], log_range = uniform(n, -8.0, 4.0, seed=1)
    log_q = -0.5 * y[:, 1:].square().sum(1) - 2 * math.log(2 * math.pi) - log_range
    return bg.log_partition(-Pullback(DW4(), chart).at(HOT).energy(y) - log_q)


def from_all_positions(n=200_000):
    """log Z from draws of any direction in the six dimensions of zero centroid."""
    r, log_range = uniform(n, 0.5, 9.0, seed=2)
    y = normal(n, 6, seed=3)
    y = r[:, None] * y / y.square().sum(1, keepdim=True).sqrt()
    log_q = -math.log(math.pi**3) - 5 * r.log() - log_range  # π³ is the area of the sphere
    return bg.log_partition(-DW4().centred().at(HOT).energy(y) - log_q)


def test_log_partition_is_that_of_zero_centroid():
    chart = PlanarQuartet()
    here, there = from_the_chart(chart), from_all_positions()
    error = math.hypot(here.standard_error, there.standard_error)
    assert error < 0.02
    assert abs(here.value - there.value) < 4 * error
    chart.log_symmetry -= math.log(2)  # without the mirror image
    assert abs(from_the_chart(chart).value - there.value) > 4 * error


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_couplings_learn_dw4():
    target = Pullback(DW4(), PlanarQuartet())
    generator = bg.BoltzmannGenerator(target)
    generator.train(steps=1500, progress=False)
    samples = generator.sample(100_000, seed=1)
    assert bg.effective_sample_size(samples.log_w) > 0.85 * len(samples)
    y = samples.x.double().requires_grad_()
    x = target.bijection(y)[0]
    potential = DW4().energy(x)
    (force,) = torch.autograd.grad(potential.sum(), x)
    exact = {"mean energy": (potential, -22.544, 0.004), "virial": ((x * force).sum(1), 6.0, 0.0)}
    for values, truth, error in exact.values():
        found = bg.expectation(samples.log_w, values.detach())
        assert abs(found.value - truth) < 4 * math.hypot(found.standard_error, error)
