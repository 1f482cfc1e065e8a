import math

import pytest
import torch

import boltzgen.flows as flows
from boltzgen.errors import InputError
from boltzgen.flows import Base, Normal, Product, UniformTorus

PI = math.pi
N = 100_000
SIGMAS = 5

REGISTRY = {
    "normal": (lambda: Normal(2), [False, False]),
    "torus": (lambda: UniformTorus(2), [True, True]),
    "product": (lambda: Product([Normal(1), UniformTorus(1)], [[1], [0]]), [True, False]),
}


@pytest.fixture(params=REGISTRY)
def case(request):
    make, circular = REGISTRY[request.param]
    return make(), torch.tensor(circular)


def test_is_normalised(case):
    base, circular = case
    axes = [torch.linspace(-PI, PI, 201)[:-1] if c else torch.linspace(-9, 9, 200) for c in circular]
    z = torch.cartesian_prod(*axes).double()
    cell = math.prod(float(a[1] - a[0]) for a in axes)
    assert base.double().log_prob(z).exp().sum() * cell == pytest.approx(1.0, abs=1e-5)


def mean_is(z, f, expected):
    value = f(z)
    return (value.mean() - expected).abs() < SIGMAS * value.std() / N**0.5


def test_draws_follow_the_law(case):
    base, circular = case
    z = base.double().sample(N, torch.Generator().manual_seed(0))
    for column, angle in zip(z.T, circular, strict=True):
        moment = PI**2 / 3 if angle else 1.0
        assert mean_is(column, lambda v: v, 0.0)
        assert mean_is(column, torch.square, moment)
        assert not mean_is(column, torch.square, 1.05 * moment), "the twin that is 5 % off must fail"
        assert not angle or ((column >= -PI) & (column < PI)).all()
    assert mean_is(z, lambda v: v.prod(-1), 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_have_the_dtype_of_the_module_and_come_from_the_generator(case, dtype):
    base, _ = case
    base.to(dtype)
    a, b = (base.sample(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert a.dtype == base.log_prob(a).dtype == dtype
    assert torch.equal(a, b)
    torch.manual_seed(0)
    c = base.sample(5)
    torch.manual_seed(0)
    assert torch.equal(base.sample(5), c)


def test_products_need_every_dimension_once():
    for dims in ([[0], [0]], [[0], [2]], [[0, 1], []], [[0]]):
        with pytest.raises(InputError, match="cover 0 to d - 1 once"):
            Product([Normal(1), UniformTorus(1)], dims)


def test_no_base_escapes():
    public = {v for v in vars(flows).values() if isinstance(v, type) and issubclass(v, Base) and v is not Base}
    assert public <= {type(make()) for make, _ in REGISTRY.values()}
