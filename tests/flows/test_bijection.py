"""Every bijection through the same battery; a new one is added to REGISTRY, or the last tests fail."""

import copy
import math

import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import (
    LU,
    ActNorm,
    Additive,
    Affine,
    Autoregressive,
    Bijection,
    BoundedSpline,
    CircularSpline,
    Composition,
    Continuous,
    Coupling,
    Given,
    Householder,
    Inverse,
    LogisticMixture,
    Mixed,
    ParticleVelocity,
    Permutation,
    Planar,
    Radial,
    Rotation,
    Spline,
    Transformer,
    TriangularAffine,
    Whitening,
    Widening,
)

ROUND_TRIP = {torch.float64: 1e-10, torch.float32: 1e-4}
LOG_DET = 1e-9
TOLERANCE = 1e-8  # of the steps of continuous flows
FACTOR = torch.tensor([[0.5, 0.0], [0.3, 2.0]])
PI = math.pi
TRIANGLE = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]).T / torch.tensor([2.0, 6.0]).sqrt()


def seams(n):
    return torch.linspace(-2.0, 3.0, n)


REGISTRY = {
    "additive": lambda: Coupling(3, [0, 2], [1], Additive(2)),
    "affine": lambda: Coupling(3, [2], [0, 1], Affine(1)),
    "affine, conditional": lambda: Coupling(3, [2, 0], [1], Affine(2), context=2),
    "affine, given its context": lambda: Given(Coupling(3, [2, 0], [1], Affine(2), context=2), [0.3, -1.2]),
    "affine, constant": lambda: Coupling(2, [0, 1], [], Affine(2)),
    "triangular": lambda: Coupling(4, [3, 1, 0], [2], TriangularAffine(3), circular=[0, 0, 1, 0]),
    "triangular, one dimension": lambda: Coupling(2, [1], [0], TriangularAffine(1)),
    "spline": lambda: Coupling(3, [1, 0], [2], Spline(2)),
    "bounded spline": lambda: Coupling(3, [1, 0], [2], BoundedSpline(2, low=-4.0, high=7.0), hidden=(16,)),
    "bounded spline, conditional": lambda: Autoregressive(2, BoundedSpline(2, low=-4.0, high=7.0), context=2),
    "spline, two bins": lambda: Coupling(2, [1], [0], Spline(1, bins=2)),
    "rotation": lambda: Coupling(2, [1], [0], Rotation(1), circular=[1, 1]),
    "circular": lambda: Coupling(3, [2, 0], [1], CircularSpline(2, shift=seams(2)), circular=[1, 1, 1]),
    "circular, learned shift": lambda: Coupling(
        1, [0], [], CircularSpline(1, bins=2, shift=torch.nn.Parameter(seams(1))), circular=[1]
    ),
    "mixed": lambda: Coupling(
        5, [3, 0], [2, 1], Mixed(Spline(1), CircularSpline(1, bins=24, shift=seams(1))), circular=[1, 1, 0, 0, 0]
    ),
    "mixed, conditional": lambda: Coupling(
        2, [1, 0], [], Mixed(Affine(1), Rotation(1)), circular=[1, 0], context=1
    ),
    "whitening": lambda: Whitening(4, [3, 1], torch.tensor([1.0, -2.0]), FACTOR),
    "composition": lambda: Composition(
        [Coupling(3, [0], [1], Affine(1), context=2), Whitening(3, [2, 0], torch.ones(2), FACTOR)]
    ),
    "inverse": lambda: Inverse(Coupling(3, [0], [1, 2], Spline(1), context=1)),
    "logistic": lambda: Coupling(3, [1, 0], [2], LogisticMixture(2, components=3)),
    "logistic, conditional": lambda: Coupling(2, [1, 0], [], LogisticMixture(2, components=2), context=2),
    "spline, conditional": lambda: Coupling(2, [1], [0], Spline(1), context=2),
    "circular, conditional": lambda: Coupling(2, [1], [0], CircularSpline(1), circular=[0, 1], context=2),
    "additive, conditional": lambda: Coupling(2, [1], [0], Additive(1), context=2),
    "triangular, conditional": lambda: Coupling(3, [0, 1, 2], [], TriangularAffine(3), context=2),
    "residual": lambda: Coupling(3, [2], [0, 1], Affine(1), hidden=(8, 8, 8), residual=True),
    "autoregressive": lambda: Autoregressive(3, Affine(3), order=[1, 2, 0], hidden=(16,)),
    "autoregressive, one dimension": lambda: Autoregressive(1, Spline(1)),
    "autoregressive, one dimension, conditional": lambda: Autoregressive(1, Affine(1), context=2),
    "autoregressive, conditional": lambda: Autoregressive(3, Spline(3), context=2, hidden=(16, 8)),
    "autoregressive, mixed": lambda: Autoregressive(
        4, Mixed(Spline(2), CircularSpline(2, shift=seams(2))), circular=[1, 0, 1, 0], order=[2, 3, 0, 1]
    ),
    "autoregressive, of networks of their own": lambda: Autoregressive(
        4, Mixed(Spline(2), CircularSpline(1, shift=seams(1))), circular=[1, 0, 1, 0], order=[2, 3, 1], separate=True
    ),
    "autoregressive, of networks of their own, conditional": lambda: Autoregressive(
        3, CircularSpline(2, shift=seams(2)), circular=[1, 0, 1], order=[2, 0], separate=True, context=2
    ),
    "autoregressive, of a network of its own, one dimension, conditional": lambda: Autoregressive(
        3, Spline(1), order=[1], separate=True, hidden=(), context=2
    ),
    "autoregressive, rotation": lambda: Autoregressive(2, Rotation(2), circular=[1, 1]),
    "autoregressive, logistic": lambda: Autoregressive(2, LogisticMixture(2, components=3)),
    "inverse autoregressive": lambda: Inverse(Autoregressive(3, Affine(3), context=1)),
    "inverse of a composition": lambda: Inverse(Composition([LU(2), Planar(2, context=1), ActNorm(2), Radial(2)])),
    "LU": lambda: LU(3),
    "Householder": lambda: Householder(3, reflections=2),
    "permutation": lambda: Permutation([2, 0, 1]),
    "ActNorm": lambda: ActNorm(3),
    "continuous": lambda: Continuous(2, hidden=(8, 8), tolerance=TOLERANCE),
    "continuous, RK4": lambda: Continuous(2, hidden=(8, 8), steps=32),
    "continuous, Hutchinson": lambda: Continuous(
        2, hidden=(8, 8), tolerance=TOLERANCE, trace="hutchinson"
    ).eval(),  # in training mode log_det is an estimate
    "continuous, conditional": lambda: Continuous(2, hidden=(8, 8), tolerance=TOLERANCE, context=2),
    "continuous, of like particles": lambda: Continuous(
        4, ParticleVelocity(TRIANGLE, 2, reach=8.0, radial=2, hidden=(4,), context=1), tolerance=TOLERANCE, context=1
    ),
    "planar": lambda: Planar(3),
    "planar, conditional": lambda: Planar(2, context=2),
    "radial": lambda: Radial(3),
    "widening": lambda: Widening(3, [0, 2]),
    "radial, conditional": lambda: Radial(2, context=2),
}  # fmt: skip


def circular_mask(bijection):
    """Which dimensions of a registered bijection are angles."""
    mask = torch.zeros(bijection.in_shape, dtype=torch.bool)
    for layer in bijection.modules():
        if isinstance(layer, (Coupling, Autoregressive)):
            mask |= layer.circular
    return mask


def points(bijection, n=64, seed=0, dtype=torch.float32):
    """Base points, far into the tails, and a context."""
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(n, *bijection.in_shape, generator=generator)
    z = torch.where(circular_mask(bijection), (z + PI).remainder(2 * PI) - PI, z)
    context = torch.randn(n, bijection.context_size, generator=generator) if bijection.context_size else None
    return z.to(dtype), None if context is None else context.to(dtype)


def difference(bijection, a, b):
    """b − a, angles modulo 2π."""
    d = b - a
    return torch.where(circular_mask(bijection), (d + PI).remainder(2 * PI) - PI, d)


def slack(bijection):
    """What a bijection that is solved for numerically may be off by."""
    return 100 * TOLERANCE if any(isinstance(layer, Continuous) for layer in bijection.modules()) else 0.0


@pytest.fixture(params=REGISTRY)
def bijection(request, randomise):
    torch.manual_seed(0)
    return randomise(REGISTRY[request.param]())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_round_trips_cancel_and_keep_the_dtype(bijection, dtype):
    bijection = bijection.to(dtype)
    z, context = points(bijection, dtype=dtype)
    x, log_det = bijection.forward(z, context)
    again, back = bijection.inverse(x, context)
    assert x.dtype == log_det.dtype == again.dtype == back.dtype == dtype
    assert log_det.shape == back.shape == (len(z),)
    assert difference(bijection, z, again).abs().max() < (ROUND_TRIP[dtype] + slack(bijection)) * (1 + x.abs().max())
    assert (log_det + back).abs().max() < 30 * ROUND_TRIP[dtype] + slack(bijection)


def test_log_det_is_that_of_the_jacobian(bijection):
    bijection = bijection.double()
    z, context = points(bijection, n=16, dtype=torch.float64)
    for call in (bijection.forward, bijection.inverse):
        z.requires_grad_()
        x, log_det = call(z, context)
        rows = [torch.autograd.grad(x[:, i].sum(), z, retain_graph=True)[0] for i in range(x.shape[1])]
        expected = torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet
        assert (log_det - expected).abs().max() < LOG_DET + slack(bijection)
        z = x.detach()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rows_do_not_see_each_other(bijection, dtype):
    bijection = bijection.to(dtype)
    z, context = points(bijection, dtype=dtype)
    other, _ = points(bijection, seed=1, dtype=dtype)
    other[:5] = z[:5]
    for call in (bijection.forward, bijection.inverse):
        (x, log_det), (y, other_log_det) = call(z, context), call(other, context)
        assert torch.equal(x[:5], y[:5])
        assert torch.equal(log_det[:5], other_log_det[:5])


def test_no_rows_give_no_rows(bijection):
    z, context = points(bijection)
    for call in (bijection.forward, bijection.inverse):
        x, log_det = call(z[:0], None if context is None else context[:0])
        assert x.shape == (0, *z.shape[1:])
        assert log_det.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_finite_at_the_edges(bijection, dtype):
    bijection = bijection.to(dtype)
    z, context = points(bijection, n=40, dtype=dtype)
    edges = torch.tensor([-PI, PI, -5.0, 5.0, -4.9999995, 4.9999995, 0.0, 2.5, -1e4, 1e4], dtype=dtype)
    z[:, 0] = edges.repeat(4)
    z[10:20] = edges[:, None]
    for call in (bijection.forward, bijection.inverse):
        z.requires_grad_()
        x, log_det = call(z, context)
        (gradient,) = torch.autograd.grad(x.sum() + log_det.sum(), z)
        assert all(value.isfinite().all() for value in (x, log_det, gradient))
        z = z.detach()


def test_every_parameter_and_the_context_matter(bijection):
    z, context = points(bijection)
    context = context if context is None else context.requires_grad_()
    x, log_det = bijection.forward(z, context)
    wanted = [*bijection.parameters(), *([] if context is None else [context])]
    gradients = torch.autograd.grad((x.cos().sum() + log_det.sum(),), wanted, allow_unused=True) if wanted else ()
    assert all(g is not None and g.isfinite().all() and (g != 0).any() for g in gradients if g is None or g.numel())


def with_one_step(bijection):
    """The bijection in float64, of a step if continuous: derivatives are those of the steps, however many."""
    for layer in bijection.modules():
        if isinstance(layer, Continuous):
            layer.steps = 1
    return bijection.double()


def derivatives_are_right(bijection):
    """Whether those of value and log_det by z, context and every parameter are those of small steps, either way."""
    bijection = with_one_step(bijection)
    fixed = [v for v in points(bijection, n=3, dtype=torch.float64) if v is not None]
    bijection.forward(*fixed)  # the first call gives an ActNorm its parameters
    for layer in (bijection, Inverse(bijection)):
        parameters = {name: p for name, p in layer.named_parameters() if p.numel()}

        def call(*inputs, layer=layer, names=tuple(parameters)):
            mine = dict(zip(names, inputs[len(fixed) :], strict=True))
            return torch.func.functional_call(layer, mine, inputs[: len(fixed)])

        inputs = [v.detach().clone().requires_grad_() for v in (*fixed, *parameters.values())]
        if not torch.autograd.gradcheck(call, inputs, atol=1e-5, fast_mode=True, raise_exception=False):
            return False
    return True


def test_first_derivatives_are_right(bijection):
    assert derivatives_are_right(bijection)


def test_wrong_derivatives_would_be_seen(randomise):
    class Forgetful(Affine):
        def inverse(self, x, *theta):
            return super().inverse(x, theta[0], theta[1].detach())

    def layer(transformer):
        return randomise(Coupling(2, [0], [1], transformer, hidden=(4,)))  # gradcheck takes long to fail

    assert derivatives_are_right(layer(Affine(1)))
    assert not derivatives_are_right(layer(Forgetful(1)))


def test_second_derivatives_exist(bijection):
    bijection = with_one_step(bijection)
    z, context = points(bijection, n=4, dtype=torch.float64)
    z.requires_grad_()
    for call in (bijection.forward, bijection.inverse):
        torch.autograd.gradgradcheck(lambda z, call=call: call(z, context), z, atol=1e-4, rtol=1e-3)


def test_copies_carry_the_state(bijection):
    z, context = points(bijection)
    state = copy.deepcopy(bijection.state_dict())
    twin = copy.deepcopy(bijection)
    for parameter in twin.parameters():
        parameter.data.zero_()
    twin.load_state_dict(state)
    assert torch.equal(twin.forward(z, context)[0], bijection.forward(z, context)[0])


def test_angles_are_taken_modulo_two_pi(bijection):
    bijection = bijection.double()
    z, context = points(bijection, dtype=torch.float64)
    turned = torch.where(circular_mask(bijection), z + 2 * PI, z)
    for call in (bijection.forward, bijection.inverse):
        (x, log_det), (y, turned_log_det) = call(z, context), call(turned, context)
        assert difference(bijection, x, y).abs().max() < 1e-9
        assert (log_det - turned_log_det).abs().max() < 1e-9


def test_wrong_shapes_are_refused_with_a_remedy(bijection):
    z, context = points(bijection)
    with pytest.raises(InputError, match="got"):
        bijection.forward(z[0], context)
    with pytest.raises(InputError, match="z must have shape"):
        bijection.forward(torch.zeros(64, 17), context)
    with pytest.raises(InputError, match="x must have shape"):
        bijection.inverse(torch.zeros(64, 17), context)
    with pytest.raises(InputError, match="context must"):
        bijection.forward(z, None if bijection.context_size else torch.zeros(64, 1))


def test_a_wrong_log_det_would_be_seen():
    class Wrong(Affine):
        def forward(self, z, *theta):
            x, log_det = super().forward(z, *theta)
            return x, 0.999 * log_det

    layer = Coupling(2, [0], [1], Wrong(1)).double()
    layer.conditioner.heads[1].bias.data.fill_(1.0)
    z = torch.zeros(1, 2, dtype=torch.float64)
    (_, log_det), (_, back) = layer.forward(z), layer.inverse(z)
    assert (log_det + back).abs() > LOG_DET


def test_compositions_must_fit():
    with pytest.raises(InputError, match="at least one"):
        Composition([])
    with pytest.raises(InputError, match="must fit"):
        Composition([REGISTRY["affine"](), REGISTRY["rotation"]()])


def test_no_bijection_escapes_the_battery(descendants):
    import boltzgen.coordinates  # noqa: F401 - defines two, tested there

    escaped = descendants(Bijection) - {type(make()) for make in REGISTRY.values()}
    assert {kind.__name__ for kind in escaped} == {"InternalCoordinates", "PlanarQuartet"}


def test_no_transformer_escapes_the_battery(descendants):
    layers = [layer for make in REGISTRY.values() for layer in make().modules()]
    assert descendants(Transformer) <= {type(layer) for layer in layers}
