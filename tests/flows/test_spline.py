"""The kernel: against its own definition, against finite differences, and against anything floats can hold."""

import math
import os

import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows.spline import float32_floors, rational_quadratic_spline

FLOORS = {"min_width": 1e-3, "min_height": 1e-3, "min_derivative": 1e-3}
ROUND_TRIP_FLOAT32 = 1e-5
N_FUZZ = 20_000  # at once, which fits the cache
PARTS = {torch.float32: 11, torch.float64: 1}  # for each of 48 families: ten million points in float32


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


WIDE = float32_floors()
MEDIUM = {"min_width": 0.03, "min_height": 0.05, "min_derivative": 0.1}
SCALES = [0.1, 1.0, 3.0, 10.0, 1e4]


def slopes(floors, K=8):
    """The bounds of y' that the floors give."""
    w, h, d = floors.values()
    least, greatest = h / (1 - (K - 1) * w), (1 - (K - 1) * h) / w
    return d * min(1, least) ** 2, max(2 * greatest, 1 / d)


def losses(floors, scale, n=100_000):
    """|x → y → x|, |y → x → y| and y', in float32."""
    x, bins, derivatives = parameters(n, scale=scale, dtype=torch.float32)
    y, log_derivative = rational_quadratic_spline(x, bins, derivatives, **floors)
    z, _ = rational_quadratic_spline(y, bins, derivatives, **floors, inverse=True)
    v, _ = rational_quadratic_spline(x, bins, derivatives, **floors, inverse=True)
    again, _ = rational_quadratic_spline(v, bins, derivatives, **floors)
    return (z - x).abs(), (again - x).abs(), log_derivative.exp()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("floors", [FLOORS, MEDIUM, WIDE])
def test_round_trips_lose_no_more_than_the_floors_allow(floors, scale):
    there, back, slope = losses(floors, scale)
    least, greatest = slopes(floors)
    assert 0.99 * least < slope.min()
    assert slope.max() < 1.01 * greatest
    rounding = torch.finfo(torch.float32).eps
    assert there.max() < rounding * (1 + 1 / least)
    assert back.max() < rounding * (1 + greatest)
    assert there[slope > 0.03].max() < ROUND_TRIP_FLOAT32


def test_float32_inverse_loses_little_only_if_the_floors_see_to_it():
    assert losses(WIDE, 1e4)[0].max() < ROUND_TRIP_FLOAT32
    assert losses(FLOORS, 1e4)[0].max() > ROUND_TRIP_FLOAT32


@pytest.mark.parametrize("K", [1, 2, 8, 24])
def test_these_floors_keep_slopes_between_a_third_and_three(K):
    w, h, d = float32_floors(K).values()
    assert w == h
    assert ((1 - (K - 1) * h) / w, h / (1 - (K - 1) * w), 1 / d) == pytest.approx((3, 1 / 3, 3))


def test_floors_are_of_a_number_of_bins():
    with pytest.raises(InputError, match="bins must be a positive integer; got 0"):
        float32_floors(0)


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
    """Parameters of any size, and points at 0, 1, the knots, one rounding beside them, far outside, and at the limits
    of the dtype."""
    x, bins, derivatives = parameters(n, K, periodic=periodic, seed=seed)
    generator, limits = torch.Generator().manual_seed(seed + 1), torch.finfo(dtype)
    if kind == "spikes":
        bins = torch.where(torch.rand(bins.shape, generator=generator) < 0.2, bins, 0.0)
    if kind == "signs":
        bins, derivatives = bins.sign(), derivatives.sign()
    if kind == "tiny":
        scale = limits.smallest_normal
    bins, derivatives = ((v * scale).clamp(limits.min, limits.max).to(dtype) for v in (bins, derivatives))
    x = x.to(dtype)
    edges = knots(bins, derivatives, floors)[int(inverse)]
    knot = edges.gather(0, torch.randint(K + 1, (1, n), generator=generator))[0].to(dtype)
    sign = torch.randn(n, generator=generator).sign().to(dtype)
    far = (10 ** (8 * torch.randn(n, generator=generator, dtype=torch.float64))).clamp(max=limits.max).to(dtype)
    choices = [
        torch.zeros_like(x),
        torch.ones_like(x),
        knot,
        knot.nextafter(torch.zeros_like(x)),
        sign * far,
        1 - x * limits.eps,
        sign * limits.max,
        sign * x * limits.smallest_normal,  # subnormal
    ]
    case = torch.randint(len(choices) + 2, (n,), generator=generator)
    for index, value in enumerate(choices):
        x = torch.where(case == index, value, x)
    return x, bins, derivatives


LARGEST = "the largest number"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("floor", [1e-3, 1e-6])
@pytest.mark.parametrize("scale", [1.0, 1e4, LARGEST])
def test_nothing_finite_gives_a_nan(dtype, floor, scale):
    """Ten million points in float32."""
    floors = dict.fromkeys(FLOORS, floor)
    for part in range(PARTS[dtype]):
        assert_finite(dtype, floors, scale, seed=10 * part)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("K", [1, 2, 24])
def test_nothing_finite_gives_a_nan_whatever_the_floors_and_bins(dtype, K):
    for min_derivative in (1e-6, 0.5, 0.999):
        floors = {"min_width": 0.9 / K, "min_height": 1e-6, "min_derivative": min_derivative}
        for scale in (1.0, LARGEST):
            assert_finite(dtype, floors, scale, seed=1, K=K, n=2000)


AT_LENGTH = float(os.environ.get("BOLTZGEN_FUZZ_POINTS", "1e8"))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("floor", [1e-3, 1e-6])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 1e4, LARGEST])
def test_nothing_finite_gives_a_nan_at_length(floor, scale):
    """A hundred million points in float32, of the ten cases together, or as many as the environment says:

    BOLTZGEN_FUZZ_POINTS=1e9 python -m pytest -m slow tests/flows/test_spline.py -k at_length
    """
    for part in range(math.ceil(AT_LENGTH / (10 * 8 * N_FUZZ))):  # ten cases of eight families
        assert_finite(torch.float32, dict.fromkeys(FLOORS, floor), scale, seed=10_000 + 10 * part)


def assert_finite(dtype, floors, scale, seed, K=8, n=N_FUZZ):
    """Value and gradient of eight families of n points."""
    scale = torch.finfo(dtype).max if scale == LARGEST else scale
    for k, (kind, periodic) in enumerate([("normal", True), ("spikes", False), ("signs", True), ("tiny", False)]):
        for inverse in (False, True):
            drawn = adversarial(n, K, floors, scale, kind, periodic, dtype, inverse, seed + k)
            assert all(v.isfinite().all() for v in drawn)
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
