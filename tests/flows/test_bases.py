import math

import pytest
import torch

import boltzgen as bg
import boltzgen.flows as flows
from boltzgen.errors import InputError
from boltzgen.flows import (
    Base,
    GaussianMixture,
    MultivariateNormal,
    Normal,
    Product,
    Sobol,
    Uniform,
    UniformTorus,
    VonMises,
)

PI = math.pi
N = 100_000
SIGMAS = 5

MEAN = torch.tensor([0.5, -1.0])
FACTOR = torch.tensor([[0.8, 0.0], [-0.6, 1.5]])
MODES = torch.tensor([[-2.0, 0.0], [1.0, 1.5], [2.0, -1.0]])
SCALES = torch.tensor([[0.5, 1.0], [0.7, 0.4], [1.2, 0.6]])
STEP = 18 / 399  # of the grid of `quadrature`; the ends of the box lie midway between its points
REGISTRY = {
    "normal": (lambda: Normal(2), [False, False]),
    "box": (
        lambda: Uniform(STEP * torch.tensor([-30.0, -9.0]), STEP * torch.tensor([21.0, 60.0])),
        [False, False],
    ),
    "torus": (lambda: UniformTorus(2), [True, True]),
    "multivariate normal": (lambda: MultivariateNormal(MEAN, FACTOR), [False, False]),
    "von Mises": (lambda: VonMises(torch.tensor([0.3, -1.5]), torch.tensor([0.2, 15.0])), [True, True]),
    "von Mises, trainable": (
        lambda: VonMises(torch.tensor([0.3, -1.5]), torch.tensor([0.2, 15.0]), trainable=True),
        [True, True],
    ),
    "mixture": (
        lambda: GaussianMixture(MODES, scales=SCALES, weights=torch.tensor([1.0, 2.0, 3.0])),
        [False, False],
    ),
    "sobol": (lambda: Sobol(Product([Normal(1), UniformTorus(1)], [[1], [0]])), [True, False]),
    "product": (lambda: Product([Normal(1), UniformTorus(1)], [[1], [0]]), [True, False]),
}


class LogDensity(torch.nn.Module):
    """A base as a function of its parameters, for `functional_call`."""

    def __init__(self, base):
        super().__init__()
        self.base = base

    def forward(self, z):
        return self.base.log_prob(z)


@pytest.fixture(params=REGISTRY)
def case(request):
    make, circular = REGISTRY[request.param]
    return make(), torch.tensor(circular)


def quadrature(base, circular):
    """Points of a grid and the probability at each."""
    axes = [torch.linspace(-PI, PI, 401)[:-1] if c else torch.linspace(-9, 9, 400) for c in circular]
    z = torch.cartesian_prod(*axes).double()
    with torch.no_grad():
        return z, base.log_prob(z).exp() * math.prod(float(a[1] - a[0]) for a in axes)


def test_is_normalised(case):
    base, circular = case
    assert quadrature(base.double(), circular)[1].sum() == pytest.approx(1.0, abs=1e-5)


def mean_is(value, expected):
    return abs(value.mean() - expected) < SIGMAS * value.std() / N**0.5


def test_draws_follow_the_density(case):
    base, circular = case
    z = base.double().sample(N, torch.Generator().manual_seed(0)).detach()
    grid, p = quadrature(base, circular)
    for f in (
        lambda v: v[:, 0],
        lambda v: v[:, 1],
        lambda v: v[:, 0].square(),
        lambda v: v[:, 1].square(),
        lambda v: v.prod(-1),
        lambda v: v[:, 0].sin() * v[:, 1].square(),
    ):
        exact = float((f(grid) * p).sum())
        assert mean_is(f(z), exact)
        assert not mean_is(f(z), exact + 0.05 * float(f(z).std())), "the twin that is a twentieth off must fail"
    assert ((z >= -PI) & (z < PI))[:, circular].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_have_the_dtype_of_the_module_and_come_from_the_generator(case, dtype):
    base, _ = case
    base.to(dtype)
    a, b = (base.sample(5, torch.Generator().manual_seed(3)).detach() for _ in range(2))
    assert a.dtype == base.log_prob(a).dtype == dtype
    assert torch.equal(a, b)
    torch.manual_seed(0)
    c = base.sample(5)
    torch.manual_seed(0)
    assert torch.equal(base.sample(5), c)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rows_do_not_see_each_other(case, dtype):
    base = case[0].to(dtype)
    z, other = (base.sample(64, torch.Generator().manual_seed(seed)).detach() for seed in (0, 1))
    other[:5] = z[:5]
    assert torch.equal(base.log_prob(z)[:5], base.log_prob(other)[:5])


def test_derivatives_of_the_density_are_right(case):
    density = LogDensity(case[0].double())
    names, parameters = zip(*density.named_parameters(), strict=True) if list(density.parameters()) else ((), ())

    def log_prob(z, *parameters):
        return torch.func.functional_call(density, dict(zip(names, parameters, strict=True)), z)

    z = density.base.sample(3, torch.Generator().manual_seed(0))
    inputs = [v.detach().clone().requires_grad_() for v in (z, *parameters)]
    assert torch.autograd.gradcheck(log_prob, inputs)
    if log_prob(*inputs).requires_grad:
        assert torch.autograd.gradgradcheck(log_prob, inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_density_is_a_number_at_the_edges(case, dtype):
    base = case[0].to(dtype)
    edges = torch.tensor([-PI, PI, 0.0, -1e-30, 8.0, -40.0, 1e4, -1e4], dtype=dtype)
    z = torch.cartesian_prod(edges, edges).requires_grad_()
    log_p = base.log_prob(z)
    inside = log_p > -torch.inf
    assert not log_p.isnan().any()
    assert inside.all() or isinstance(base, Uniform)
    assert (log_p < 100).all()
    if log_p.requires_grad:
        gradients = torch.autograd.grad(log_p.sum(), [z, *base.parameters()])
        assert all(g.isfinite().all() for g in gradients)


def test_multivariate_normal_is_that_of_torch():
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = torch.distributions.MultivariateNormal(MEAN.double(), scale_tril=FACTOR.double()).log_prob(z)
    assert (MultivariateNormal(MEAN, FACTOR).double().log_prob(z) - exact).abs().max() < 1e-6  # built in float32


def test_draws_of_the_multivariate_normal_move_with_their_parameters():
    base = MultivariateNormal(MEAN, FACTOR).double()
    z = base.sample(N, torch.Generator().manual_seed(0))
    mean, weight = torch.autograd.grad(z[:, 1].square().mean(), list(base.parameters()))
    # E[z_1²] = μ_1² + C_10² + C_11², the logarithm of C_11 being the parameter
    assert mean[1] == pytest.approx(2 * -1.0, abs=0.05)
    assert weight[1, 0] == pytest.approx(2 * -0.6, abs=0.05)
    assert weight[1, 1] == pytest.approx(2 * 1.5**2, abs=0.1)
    assert weight[0, 1] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MultivariateNormal(MEAN, FACTOR.T), "lower triangular"),
        (lambda: MultivariateNormal(MEAN[:1], FACTOR), "lower triangular"),
        (lambda: MultivariateNormal(MEAN, -FACTOR), "positive diagonal"),
        (lambda: VonMises(MEAN, MEAN), "positive concentration"),
        (lambda: VonMises(MEAN, torch.ones(3)), "one shape"),
        (lambda: VonMises(MEAN, torch.zeros(2)), "use UniformTorus"),
        (lambda: VonMises(MEAN, torch.full((2,), math.inf)), "positive concentration below 1e12"),
        (lambda: VonMises(MEAN * math.nan, torch.ones(2)), "finite mean"),
        (lambda: VonMises(MEAN, torch.ones(2), trainable=True).tempered(2.0), "stay as given to be tempered"),
        (lambda: Uniform(MEAN, MEAN), "low less than high"),
        (lambda: Uniform(MEAN, torch.ones(3)), "of one shape"),
        (lambda: Uniform(MEAN, MEAN + math.nan), "low and high must be finite"),
        (lambda: Uniform(MEAN, torch.full((2,), math.inf)), "low and high must be finite"),
        (lambda: Uniform(0.0, 1.0), "low must be a Tensor; got a float"),
        (lambda: Sobol(VonMises(MEAN, torch.ones(2))), "a base must be normal or uniform, .* got VonMises"),
        (lambda: Sobol(2), "base must be a Base; got an int"),
        (lambda: Sobol(Normal(30_000)), "base must have at most 21201 dimensions"),
        (lambda: Sobol(Normal(2)).sample(0), "n must be a positive integer"),
    ],
)
def test_wrong_parameters_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_quantiles_belong_to_the_law():
    p = torch.rand(N, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    base = MultivariateNormal(MEAN, FACTOR).double()
    assert (base.quantile(p).T.cov() - (FACTOR @ FACTOR.T).double()).abs().max() < 0.03
    assert (Normal(2, scale=2.0).quantile(p) - torch.distributions.Normal(0.0, 2.0).icdf(p)).abs().max() < 1e-4
    assert torch.equal(UniformTorus(2).quantile(p), (2 * p - 1) * PI)
    box = Uniform(torch.tensor([-1.0, 2.0]), torch.tensor([3.0, 2.5])).double()
    assert (box.quantile(p) - torch.tensor([-1.0, 2.0]) - torch.tensor([4.0, 0.5]) * p).abs().max() < 1e-12
    assert box.tempered(2.0) is box
    z = Product([Normal(1), UniformTorus(1)], [[1], [0]]).quantile(p)
    assert torch.equal(z, torch.cat([UniformTorus(1).quantile(p[:, :1]), Normal(1).quantile(p[:, 1:])], 1))


def test_sobol_points_fill_space_more_evenly_than_chance():
    def errors(base):
        means = [base.sample(1024, torch.Generator().manual_seed(seed)).square().mean() for seed in range(20)]
        return float((torch.stack(means) - 1).square().mean().sqrt())

    assert errors(Sobol(Normal(2))) < 0.1 * errors(Normal(2))
    assert errors(Sobol(Normal(60))) < 0.5 * errors(Normal(60))


def test_blocks_of_one_seed_are_one_sobol_sequence():
    def error(draw):
        means = [draw(seed).square().mean() for seed in range(10)]
        return float((torch.stack(means) - 1).square().mean().sqrt())

    base, blocks = Sobol(Normal(2)), 16
    evenly = error(lambda seed: torch.cat([base.block(seed, k) for k in range(blocks)]))
    anew = error(lambda seed: torch.cat([base.block(1000 * seed + k, 0) for k in range(blocks)]))
    assert evenly < 0.5 * anew < error(lambda seed: torch.cat([Normal(2).block(seed, k) for k in range(blocks)]))
    source = flows.keyed_generator(7, 0)
    assert torch.equal(torch.cat([base.block(7, k) for k in range(3)]), base.sample(3 * flows.BLOCK, source))
    assert not torch.equal(base.block(7, 1024), base.block(7, 0)), "there a new sequence begins"
    x, _ = flows.Flow(base, flows.Permutation([0, 1])).sample(2 * flows.BLOCK, seed=7)
    assert torch.equal(x, torch.cat([base.block(7, 0), base.block(7, 1)]))


def test_sobol_draws_are_known_not_to_be_independent():
    flow = bg.coupling_flow(2, layers=2)
    evenly = flows.Flow(Sobol(flow.base), flow.bijection)
    target = bg.toys.Gaussian([0.0, 0.0], [[1.0, 0.3], [0.3, 0.5]])

    def error(one):
        found = [float(bg.draw(one, target, 1024, seed=seed).log_w.logsumexp(0)) - math.log(1024) for seed in range(10)]
        return sum((value - target.log_partition()) ** 2 for value in found)

    assert error(evenly) < 0.1 * error(flow)
    samples = bg.draw(evenly, target, 2048, seed=1)
    assert not samples.independent
    assert bg.judge(samples).status == "red"
    assert evenly.base.tempered(2.0).sample(10).shape == (10, 2)
    bg.reverse_kl(evenly, target, 64).backward()
    assert not Product([Normal(1), Sobol(Normal(1))], [[0], [1]]).independent


def test_profiles_from_sobol_draws_are_nearer_to_the_truth():
    flow = bg.coupling_flow(2, layers=2)
    target = bg.toys.Gaussian([0.0, 0.0], [[1.0, 0.3], [0.3, 0.5]])
    edges = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)
    exact = -(torch.special.ndtr(edges).diff() / edges.diff()).log()

    def error(one):
        squares = []
        for seed in range(10):
            samples = bg.draw(one, target, 1024, seed=seed)
            found = bg.profile(samples.log_w, samples.x[:, 0], bins=edges.numpy()).value
            squares.append((torch.as_tensor(found) - exact).square().mean())
        return float(torch.stack(squares).mean().sqrt())

    assert error(flows.Flow(Sobol(flow.base), flow.bijection)) < 0.5 * error(flow) < 0.1


def test_products_need_every_dimension_once():
    for dims in ([[0], [0]], [[0], [2]], [[0, 1], []], [[0]]):
        with pytest.raises(InputError, match="cover 0 to d - 1 once"):
            Product([Normal(1), UniformTorus(1)], dims)


def test_no_base_escapes(descendants):
    assert descendants(Base) <= {type(make()) for make, _ in REGISTRY.values()}
