"""The kernel: against its own definition, against finite differences, and against anything floats can hold."""

import math

import pytest
import torch

from boltzgen.flows.spline import rational_quadratic_spline

FLOORS = {"min_width": 1e-3, "min_height": 1e-3, "min_derivative": 1e-3}
ROUND_TRIP_FLOAT32 = 1e-5
N_FUZZ = 20_000  # at once, which fits the cache
PARTS = {torch.float32: 14, torch.float64: 1}  # for each of 36 families: ten million points in float32


def parameters(n, K=8, scale=1.0, *, periodic=False, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    bins = scale * torch.randn(2, K, n, generator=generator, dtype=torch.float64)
    derivatives = scale * torch.randn(K if periodic else K + 1, n, generator=generator, dtype=torch.float64)
    x = torch.rand(n, generator=generator, dtype=torch.float64)
    return x.to(dtype), bins.to(dtype), derivatives.to(dtype)


def knots(bins, derivatives, floors=FLOORS):
    """x, y (K + 1, n) and derivatives at the knots, as the docstring says."""
    K = bins.shape[1]
    floor = torch.tensor([floors["min_width"], floors["min_height"]], dtype=bins.dtype)[:, None, None]
    x, y = torch.cat([torch.zeros_like(bins[:, :1]), (floor + (1 - K * floor) * bins.softmax(1)).cumsum(1)], 1)
    bound = -math.log(floors["min_derivative"])
    return x, y, torch.exp(derivatives / (1 + derivatives.abs() / bound))


def test_passes_through_its_knots_with_its_derivatives():
    _, bins, derivatives = parameters(50, scale=2.0)
    for x, y, d in zip(*knots(bins, derivatives), strict=True):
        value, log_derivative = rational_quadratic_spline(x, bins, derivatives, **FLOORS)
        assert (value - y).abs().max() < 1e-12
        assert (log_derivative - d.log()).abs().max() < 1e-6  # a knot rounded into the neighbouring bin


def test_is_the_rational_quadratic_of_durkan_between_knots():
    x, bins, derivatives = parameters(200)
    X, Y, d = knots(bins, derivatives)
    for i in range(len(x)):
        k = int(torch.searchsorted(X[1:-1, i].contiguous(), x[i], right=True))
        w, h = X[k + 1, i] - X[k, i], Y[k + 1, i] - Y[k, i]
        s, t = h / w, (x[i] - X[k, i]) / w
        top = h * (s * t**2 + d[k, i] * t * (1 - t))
        expected = Y[k, i] + top / (s + (d[k + 1, i] + d[k, i] - 2 * s) * t * (1 - t))
        value, _ = rational_quadratic_spline(x[i : i + 1], bins[..., i : i + 1], derivatives[:, i : i + 1], **FLOORS)
        assert abs(value - expected) < 1e-12


def test_zero_parameters_are_the_identity():
    x = torch.linspace(0, 1, 101)
    y, log_derivative = rational_quadratic_spline(x, torch.zeros(2, 8, 101), torch.zeros(9, 101), **FLOORS)
    assert (y - x).abs().max() < 1e-6
    assert log_derivative.abs().max() < 1e-5


def test_a_periodic_spline_is_smooth_across_the_seam():
    _, bins, derivatives = parameters(20, periodic=True)
    _, left = rational_quadratic_spline(torch.zeros(20, dtype=torch.float64), bins, derivatives, **FLOORS)
    _, right = rational_quadratic_spline(torch.ones(20, dtype=torch.float64), bins, derivatives, **FLOORS)
    assert (left - right).abs().max() < 1e-9


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_first_and_second(inverse):
    x, bins, derivatives = parameters(6, K=4)

    def call(*inputs):
        return rational_quadratic_spline(*inputs, **FLOORS, inverse=inverse)

    inputs = [v.requires_grad_() for v in (x, bins, derivatives)]
    torch.autograd.gradcheck(call, inputs, atol=1e-6)
    torch.autograd.gradgradcheck(call, inputs, atol=1e-5)


@pytest.mark.parametrize("periodic", [False, True])
def test_the_log_derivative_is_that_of_the_value(periodic):
    x, bins, derivatives = parameters(1000, periodic=periodic, scale=2.0)
    x.requires_grad_()
    for inverse in (False, True):
        y, log_derivative = rational_quadratic_spline(x, bins, derivatives, **FLOORS, inverse=inverse)
        (slope,) = torch.autograd.grad(y.sum(), x)
        assert (slope.log() - log_derivative).abs().max() < 1e-7


def test_float32_inverse_round_trip():
    x, bins, derivatives = parameters(100_000, scale=0.5, dtype=torch.float32)
    z, back = rational_quadratic_spline(x, bins, derivatives, **FLOORS, inverse=True)
    y, log_derivative = rational_quadratic_spline(z, bins, derivatives, **FLOORS)
    assert (y - x).abs().max() < ROUND_TRIP_FLOAT32
    y, log_derivative = rational_quadratic_spline(x, bins, derivatives, **FLOORS)
    z, back = rational_quadratic_spline(y, bins, derivatives, **FLOORS, inverse=True)
    assert (z - x).abs().max() < ROUND_TRIP_FLOAT32
    assert (log_derivative + back).abs().max() < 1e-3


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("scale", [1.0, 5.0, 1e4])
def test_float32_is_stable(inverse, scale):
    """The float32 answer is the exact one at a point a few roundings away, to a few roundings."""
    x, bins, derivatives = parameters(50_000, scale=scale, dtype=torch.float32)
    y, _ = rational_quadratic_spline(x, bins, derivatives, **FLOORS, inverse=inverse)
    assert within(y, x, bins, derivatives, inverse)
    assert not within(y + 1e-5, x, bins, derivatives, inverse), "the twin that is off by 1e-5 must fail"


def within(y, x, bins, derivatives, inverse, roundings=16):
    slack = roundings * torch.finfo(torch.float32).eps
    x, bins, derivatives = x.double(), bins.double(), derivatives.double()
    lower, _ = rational_quadratic_spline(x - slack, bins, derivatives, **FLOORS, inverse=inverse)
    upper, _ = rational_quadratic_spline(x + slack, bins, derivatives, **FLOORS, inverse=inverse)
    return bool(((lower - slack <= y) & (y <= upper + slack)).all())


def adversarial(n, K, floors, scale, kind, periodic, dtype, inverse, seed):
    """Parameters of any size, and points at 0, 1, the knots, one rounding beside them, and far outside."""
    x, bins, derivatives = parameters(n, K, periodic=periodic, dtype=dtype, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    if kind == "spikes":
        bins = torch.where(torch.rand(bins.shape, generator=generator) < 0.2, bins, 0.0)
    if kind == "signs":
        bins, derivatives = bins.sign(), derivatives.sign()
    bins, derivatives = bins * scale, derivatives * scale
    edges = knots(bins, derivatives, floors)[int(inverse)]
    knot = edges.gather(0, torch.randint(K + 1, (1, n), generator=generator))[0].to(dtype)
    case = torch.randint(8, (n,), generator=generator)
    choices = {
        0: torch.zeros_like(x),
        1: torch.ones_like(x),
        2: knot,
        3: knot.nextafter(torch.zeros_like(x)),
        4: (10 ** (8 * torch.randn(n, generator=generator))).to(dtype),
        5: 1 - x * torch.finfo(dtype).eps,
    }
    for index, value in choices.items():
        x = torch.where(case == index, value, x)
    return x, bins, derivatives


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("floor", [1e-3, 1e-6])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e30])
def test_nothing_finite_gives_a_nan(dtype, floor, scale):
    floors = dict.fromkeys(FLOORS, floor)
    for part in range(PARTS[dtype]):
        assert_finite(dtype, floors, scale, seed=10 * part)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("floor", [1e-3, 1e-6])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 1e4, 1e30])
def test_nothing_finite_gives_a_nan_at_length(floor, scale):
    """A hundred million points."""
    for part in range(84):
        assert_finite(torch.float32, dict.fromkeys(FLOORS, floor), scale, seed=10_000 + 10 * part)


def assert_finite(dtype, floors, scale, seed):
    """Value and gradient of six families of N_FUZZ points."""
    for k, (kind, periodic) in enumerate([("normal", True), ("spikes", False), ("signs", True)]):
        for inverse in (False, True):
            drawn = adversarial(N_FUZZ, 8, floors, scale, kind, periodic, dtype, inverse, seed + k)
            inputs = [v.requires_grad_() for v in drawn]
            y, log_derivative = rational_quadratic_spline(*inputs, **floors, inverse=inverse)
            gradients = torch.autograd.grad(y.sum() + log_derivative.sum(), inputs)
            assert all(v.isfinite().all() for v in (y, log_derivative, *gradients))
            assert (y >= 0).all()
            assert (y <= 1 + 1e-6).all()


def test_floors_are_kept():
    _, bins, derivatives = parameters(100, scale=1e4)
    x, y, _ = knots(bins, derivatives)
    assert x.diff(dim=0).min() >= 0.99e-3
    value, log_derivative = rational_quadratic_spline(x[3], bins, derivatives, **FLOORS)
    assert (value - y[3]).abs().max() < 1e-9
    assert log_derivative.abs().max() <= -math.log(1e-3) + 1e-3
