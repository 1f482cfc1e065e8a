import math

import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import (
    Additive,
    Affine,
    BoundedSpline,
    CircularSpline,
    Mixed,
    Rotation,
    Spline,
    TriangularAffine,
    float32_floors,
)

PI = math.pi
EXACT = 1e-12
FLOAT32 = 1e-5


def parameters(transformer, n, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(size, n, generator=generator, dtype=torch.float64) for size in transformer.sizes]


@pytest.mark.parametrize(
    "transformer",
    [
        Additive(2),
        Affine(2),
        TriangularAffine(2),
        Spline(2),
        BoundedSpline(2, low=-2.0, high=4.0),
        CircularSpline(2),
        Rotation(2),
        Mixed(Spline(1), Rotation(1)),
    ],
    ids=lambda t: type(t).__name__,
)
def test_zero_parameters_are_the_identity(transformer):
    z = torch.linspace(-3.0, 3.0, 14).view(2, 7)
    x, log_det = transformer(z, *[torch.zeros(size, 7) for size in transformer.sizes])
    assert (x - z).abs().max() < FLOAT32
    assert log_det.abs().max() < FLOAT32


def test_affine_is_a_translation_and_a_scaling_with_a_bound():
    x, log_det = Affine(1, max_log_scale=2.0)(torch.ones(1, 1), torch.tensor([[3.0]]), torch.tensor([[1e4]]))
    assert x.item() == pytest.approx(3 + math.exp(2))
    assert log_det.item() == pytest.approx(2.0)


def test_spline_is_linear_beyond_its_reach():
    spline = Spline(1, reach=2.0)
    theta = parameters(spline, 4)
    theta[2].zero_()
    z = torch.tensor([[-9.0, -2.0, 2.0, 7.0]], dtype=torch.float64)
    x, log_det = spline(z, *theta)
    assert (x - z).abs().max() < EXACT
    assert log_det[[0, 3]].abs().max() == 0


def test_bounded_spline_maps_its_interval_onto_itself():
    low, high = -0.1, 0.3
    spline = BoundedSpline(1, low=low, high=high)
    n = 10_000
    theta = [t.expand(-1, n).float() for t in parameters(spline, 1, scale=3.0)]
    z = torch.linspace(low, high, n)[None]
    for way in (spline.forward, spline.inverse):
        x, log_det = way(z, *theta)
        assert (x.diff() >= 0).all()
        assert (x - torch.tensor([low, high])[:, None]).abs().amin(1).max() == 0, "both ends stay"
        assert ((x >= z[0, 0]) & (x <= z[0, -1])).all(), "rounding carries nothing out of the interval"
        assert (log_det.exp().mean() * (high - low)).item() == pytest.approx(high - low, rel=1e-2)
        assert torch.equal(way(z + 1.0, *theta)[0], z + 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spline", [Spline(1, reach=0.5), BoundedSpline(1), CircularSpline(1)])
def test_splines_are_finite_at_the_limits_of_the_dtype(spline, dtype):
    limits = torch.finfo(dtype)
    values = torch.tensor([limits.max, -limits.max, limits.smallest_normal / 8, 0.3, -1.0, 0.0], dtype=dtype)
    z, size = torch.cartesian_prod(values, values).T
    z = z[None]
    theta = [(size * torch.randn(rows, len(size)).sign()).clamp(limits.min, limits.max) for rows in spline.sizes]
    theta[2:] = [t.clamp(-1, 1) for t in theta[2:]]  # the affine map of `Spline` has no bounds
    for way in (spline.forward, spline.inverse):
        inputs = [v.detach().requires_grad_() for v in (z, *theta)]
        x, log_det = way(*inputs)
        gradients = torch.autograd.grad((x / limits.max).sum() + log_det.sum(), inputs)
        assert (x.isfinite() | (z.abs() == limits.max)).all()
        assert not x.isnan().any()
        assert all(v.isfinite().all() for v in (log_det, *gradients))


def lost_in_float32(kind, bins, scale, floors, n=100_000):
    """The most that z → x → z and x → z → x lose, in the layer's own units; the affine map of `Spline` at rest."""
    layer = kind(1, bins=bins, **floors)
    theta = [t.float() for t in parameters(layer, n, scale)]
    theta[2:] = [torch.zeros_like(t) for t in theta[2:]]
    z = 6 * (2 * torch.rand(1, n, generator=torch.Generator().manual_seed(1)) - 1)  # within its interval and beyond
    found = 0.0
    for there, back in ((layer.forward, layer.inverse), (layer.inverse, layer.forward)):
        lost = (back(there(z, *theta)[0], *theta)[0] - z).double()
        lost = (lost + PI).remainder(2 * PI) - PI if kind is CircularSpline else lost
        found = max(found, lost.abs().max().item())
    return found


@pytest.mark.parametrize("kind", [Spline, CircularSpline])
@pytest.mark.parametrize("bins", [2, 8, 24])
def test_float32_floors_hold_the_inverse_to_1e5_whatever_the_parameters(kind, bins):
    for scale in (0.5, 3.0, 30.0, 1e4):
        assert lost_in_float32(kind, bins, scale, float32_floors(bins)) < FLOAT32
    assert lost_in_float32(kind, bins, 1e4, {}) > 100 * FLOAT32, "the default floors do not"


def test_circular_spline_covers_the_circle_once():
    spline = CircularSpline(1, shift=torch.tensor([2.0]))
    n = 10_000
    theta = [t.expand(-1, n) for t in parameters(spline, 1, scale=2.0)]
    z = torch.linspace(-PI, PI, n, dtype=torch.float64)[None]
    x, _ = spline(z, *theta)
    turned = (x.diff() + PI).remainder(2 * PI) - PI
    assert turned.min() > 0
    assert turned.sum().item() == pytest.approx(2 * PI)
    assert x.abs().max() <= PI + EXACT


def test_circular_spline_moves_its_seam_by_the_shift():
    spline = CircularSpline(1, shift=torch.tensor([2.0]))
    seam, _ = spline(torch.full((1, 1), -PI, dtype=torch.float64), *parameters(spline, 1))
    assert seam.item() == pytest.approx(-PI + 2.0)


def test_one_bin_is_allowed():
    spline = CircularSpline(1, bins=1)
    x, log_det = spline(torch.zeros(1, 3, dtype=torch.float64), *parameters(spline, 3))
    assert x.abs().max() < EXACT
    assert log_det.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Spline, {"bins": 0}, "bins must be a positive integer"),
        (CircularSpline, {"bins": "8"}, "bins must be a positive integer"),
        (Spline, {"reach": math.nan}, "reach must be a positive number"),
        (BoundedSpline, {"low": 1.0}, "low must be less than high"),
        (BoundedSpline, {"low": math.nan}, "low must be less than high"),
        (BoundedSpline, {"high": math.inf}, "low must be less than high"),
        (BoundedSpline, {"high": "1"}, "high must be a number"),
        (Spline, {"max_log_scale": -1.0}, "max_log_scale must be a positive number"),
        (Affine, {"max_log_scale": 0.0}, "max_log_scale must be a positive number"),
        (Spline, {"min_width": 0.2}, "min_width must lie between"),
        (Spline, {"min_height": 0.0}, "min_height must lie between"),
        (CircularSpline, {"min_derivative": 1.0}, "min_derivative must lie between"),
        (CircularSpline, {"shift": torch.zeros(3)}, "shift must have shape"),
    ],
)
def test_impossible_options_are_refused(kind, options, message):
    with pytest.raises(InputError, match=message):
        kind(1, **options)


def test_a_spline_can_be_given_its_knots():
    torch.manual_seed(0)
    widths, heights = torch.rand(2, 6, 3, dtype=torch.float64) + 0.1
    derivatives = torch.rand(7, 3, dtype=torch.float64) + 0.5
    mean, scale = torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64) + 0.5
    spline = Spline(3, bins=6)
    theta = spline.theta_of(widths, heights, derivatives, mean, scale)
    assert [len(t) for t in theta] == list(spline.sizes)
    knots = [10 * torch.cat([torch.zeros(1, 3), side.cumsum(0) / side.sum(0)]) - 5 for side in (widths, heights)]
    for x, y, d in zip(knots[0][1:-1], knots[1][1:-1], derivatives[1:-1], strict=True):
        found, log_det = spline.forward(x[:, None], *(t[:, None] for t in theta))
        assert (found[:, 0] - (mean + scale * y)).abs().max() < 1e-9
        assert (log_det - (d * scale).log().sum()).abs() < 1e-6
