import copy
import math
import pickle

import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import (
    BLOCK,
    LU,
    ActNorm,
    Affine,
    Autoregressive,
    BoundedSpline,
    Composition,
    Continuous,
    Coupling,
    Flow,
    GaussianMixture,
    Householder,
    Inverse,
    MultivariateNormal,
    Normal,
    Permutation,
    Planar,
    Radial,
    TriangularAffine,
    Uniform,
    Whitening,
    coupling_flow,
    gaussianization,
    iaf,
    maf,
    molecular_flow,
)

PI = math.pi
NORMALISED = 1e-3


def bent_normal(n):
    """Data that are not normal."""
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return torch.stack([z[:, 0], 0.3 * z[:, 0].square() + z[:, 1]], 1)


SMALL = {
    "affine": lambda: coupling_flow(1, transform="affine", layers=2),
    "spline": lambda: coupling_flow(1, layers=2),
    "circle": lambda: coupling_flow(1, layers=2, circular=[True]),
    "affine plane": lambda: coupling_flow(2, transform="affine", layers=2, hidden=(8,)),
    "spline plane": lambda: coupling_flow(2, layers=2, hidden=(8,)),
    "torus": lambda: coupling_flow(2, layers=2, circular=[True, True], hidden=(8,)),
    "cylinder": lambda: coupling_flow(2, layers=3, circular=[True, False], hidden=(8,)),
    "cylinder, turned": lambda: coupling_flow(2, layers=2, transform="additive", circular=[False, True], hidden=(8,)),
    "logistic": lambda: coupling_flow(1, transform="logistic", layers=2),
    "logistic plane": lambda: coupling_flow(2, transform="logistic", layers=2, hidden=(8,)),
    "residual": lambda: coupling_flow(2, layers=2, transform="affine", hidden=(8, 8), residual=True),
    "triangular": lambda: Flow(Normal(2), Coupling(2, [0, 1], [], TriangularAffine(2))),
    "whitened": lambda: Flow(Normal(2), Whitening(2, [1, 0], torch.ones(2), torch.tensor([[0.5, 0.0], [0.3, 1.2]]))),
    "continuous": lambda: Flow(Normal(1), Continuous(1, hidden=(8,), tolerance=1e-6)),
    "continuous plane": lambda: Flow(Normal(2), Continuous(2, hidden=(8,), steps=8)),
    "Gaussianization": lambda: gaussianization(bent_normal(2000), layers=2, bins=4),
    "box": lambda: Flow(
        Uniform(torch.full((2,), -1.02), torch.full((2,), 2.02)),
        Composition([Coupling(2, [k], [1 - k], BoundedSpline(1, low=-1.02, high=2.02), hidden=(8,)) for k in (0, 1)]),
    ),
    "MAF": lambda: maf(2, hidden=(8,), layers=2),
    "IAF": lambda: iaf(2, hidden=(8,), layers=2),
    "MAF on a cylinder": lambda: maf(2, circular=[True, False], transform="spline", hidden=(8,), layers=2),
    "planar": lambda: Flow(Normal(2), Composition([Planar(2) for _ in range(2)])),
    "radial": lambda: Flow(Normal(2), Composition([Radial(2) for _ in range(2)])),
    "linear": lambda: Flow(Normal(2), Composition([LU(2), Permutation([1, 0]), Householder(2), ActNorm(2).eval()])),
    "mixture": lambda: Flow(GaussianMixture(torch.tensor([[-3.0, 0.0], [2.0, 1.0]])), Inverse(LU(2))),
    "molecule": lambda: molecular_flow(
        [False, True],
        torch.ones(1),
        torch.tensor([[0.5]]),
        torsion_bins=8,
        torsion_hidden=(8,),
        stiff_layers=1,
        stiff_hidden=(8,),
    ),
}


COARSE = {"logistic plane": 101, "continuous plane": 201, "residual": 401, "Gaussianization": 401}
"""Points on an axis for those that are dear, and smooth enough."""


def circular(flow):
    layers = (m for m in flow.modules() if isinstance(m, (Coupling, Autoregressive)))
    return next((layer.circular.tolist() for layer in layers), [False] * flow.event_shape[0])


def is_continuous(flow):
    return any(isinstance(layer, Continuous) for layer in flow.modules())


def integral(flow, log_prob, points=1001):
    """∫ q(x) dx by the trapezoidal rule, with so many points on an axis of a plane."""
    one = len(circular(flow)) == 1
    axes = [
        torch.linspace(-PI, PI, 4001 if one else 401, dtype=torch.float64)[:-1]
        if angle
        else torch.linspace(-20.0, 20.0, 20_001 if one else points, dtype=torch.float64)
        for angle in circular(flow)
    ]
    x = torch.cartesian_prod(*axes).view(-1, len(axes))
    return log_prob(x).exp().sum() * math.prod(float(a[1] - a[0]) for a in axes)


@pytest.mark.parametrize("name", SMALL)
def test_densities_integrate_to_one(name, randomise):
    flow = randomise(SMALL[name](), scale=0.5 if name in ("planar", "radial", "continuous") else 0.25).double()
    points = COARSE.get(name, 1001)
    with torch.no_grad():
        assert abs(integral(flow, flow.log_prob, points) - 1) < NORMALISED
        if name not in ("cylinder, turned",):

            def wrong(x):
                z, log_det = flow.bijection.inverse(x)
                return flow.base.log_prob(z) + 0.9 * log_det

            assert abs(integral(flow, wrong, points) - 1) > NORMALISED, "the twin with 0.9 of the log-det must fail"


@pytest.mark.parametrize("name", SMALL)
def test_a_sample_comes_with_its_own_log_density(name, randomise):
    flow = randomise(SMALL[name](), scale=0.25).double()
    x, log_q = flow.sample(500, seed=1)
    assert x.shape == (500, *flow.event_shape)
    assert log_q.shape == (500,)
    assert not x.requires_grad
    assert not log_q.requires_grad
    assert (flow.log_prob(x) - log_q).abs().max() < (1e-4 if is_continuous(flow) else 1e-8)


def test_samples_follow_the_density(randomise):
    """Kolmogorov-Smirnov against the distribution function integrated from log_prob."""
    flow = randomise(SMALL["spline"]()).double()
    n = 20_000
    x = flow.sample(n, seed=0)[0][:, 0].sort().values
    grid = torch.linspace(-40.0, 40.0, 80_001, dtype=torch.float64)
    with torch.no_grad():
        cdf = flow.log_prob(grid[:, None]).exp().cumsum(0) * 1e-3

    def distance(x):
        at = cdf[torch.searchsorted(grid, x) - 1]
        return (at - torch.arange(n) / n).abs().max() * n**0.5

    assert distance(x) < 2.2  # exceeded once in 10 000
    assert distance(x + 0.05 * x.std()) > 2.2, "the shifted twin must fail"


@pytest.fixture
def flow(randomise):
    return randomise(coupling_flow(2, layers=2, hidden=(8,)))


def test_a_shorter_sample_is_the_beginning_of_a_longer_one(flow):
    x, log_q = flow.sample(2 * BLOCK + 7, seed=1)
    for n in (1, 100, BLOCK, BLOCK + 1):
        shorter, shorter_log_q = flow.sample(n, seed=1)
        assert torch.equal(shorter, x[:n])
        assert torch.equal(shorter_log_q, log_q[:n])
    assert not torch.equal(flow.sample(5, seed=2)[0], x[:5])


def test_blocks_are_the_pieces_of_a_sample(flow):
    x, log_q = flow.sample(2 * BLOCK + 7, seed=1)
    pieces = [flow.sample_blocks(1, [block]) for block in (0, 1, 2)]
    assert torch.equal(torch.cat([p[0] for p in pieces])[: len(x)], x)
    assert torch.equal(torch.cat([p[1] for p in pieces])[: len(x)], log_q)
    together, _ = flow.sample_blocks(1, [1, 2])
    assert torch.allclose(together[: BLOCK + 7], x[BLOCK:], atol=1e-5)


def test_without_a_seed_torch_decides(flow):
    torch.manual_seed(5)
    first, second = flow.sample(3)[0], flow.sample(3)[0]
    torch.manual_seed(5)
    assert torch.equal(flow.sample(3)[0], first)
    assert not torch.equal(first, second)


def test_with_a_seed_torch_is_left_alone(flow):
    state = torch.random.get_rng_state()
    flow.sample(3, seed=1)
    flow.sample(3, generator=torch.Generator().manual_seed(0))
    flow.rsample(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_generator_can_be_given_instead(flow):
    a, b = (flow.sample(BLOCK + 5, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(a[0], b[0])
    with pytest.raises(InputError, match="must not both be given"):
        flow.sample(3, seed=1, generator=torch.Generator())


def test_a_flow_given_its_context_is_the_conditional_one_there(randomise):
    flow = randomise(coupling_flow(2, layers=2, context=2))
    there = flow.given([0.5, -1.0])
    rows = torch.tensor([[0.5, -1.0]]).expand(100, 2)
    x, log_q = there.sample(100, seed=1)
    for found, expected in zip((x, log_q), flow.sample(100, seed=1, context=rows), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(there.log_prob(x), flow.log_prob(x, rows))
    assert not torch.equal(flow.given([0.5, -1.1]).log_prob(x), there.log_prob(x))
    (-there.log_prob(x).mean()).backward()
    assert all(p.grad is not None for p in flow.parameters()), "the parameters are shared"
    assert flow.double().given([0.5, -1.0]).sample(3)[0].dtype == torch.float64
    for wrong in ([0.5], 0.5, [[0.5, -1.0]], None, "ab"):
        with pytest.raises(InputError, match=r"context must have as many numbers as the map needs, \(2,\); got"):
            flow.given(wrong)
    with pytest.raises(InputError, match="context must be finite; got"):
        flow.given([0.5, float("nan")])
    assert there.architecture == flow.given([0.5, -1.0]).architecture != flow.given([0.5, -1.1]).architecture
    assert "context" not in str(list(there.state_dict())), "weights of another context do not bring theirs"
    with pytest.raises(InputError, match=r"needs, \(0,\); got \(1,\)"):
        coupling_flow(2).given([0.5])


def test_a_flow_for_every_temperature_is_one_at_each(randomise):
    flow = randomise(coupling_flow(2, layers=2, temperature=300.0))
    x, log_q = flow.at(600.0).sample(100, seed=1)
    assert torch.equal(log_q, flow.given([math.log(2.0)]).sample(100, seed=1)[1])
    assert not torch.equal(flow.at(601.0).log_prob(x), flow.at(600.0).log_prob(x))
    assert flow.at(600.0).context_size == 0
    assert flow.architecture != coupling_flow(2, layers=2, temperature=301.0).architecture
    for wrong in (0.0, -1.0, math.nan, "hot"):
        with pytest.raises(InputError, match="temperature must be a positive number of kelvin; got"):
            flow.at(wrong)
        with pytest.raises(InputError, match="temperature must be a positive number of kelvin; got"):
            coupling_flow(2, temperature=wrong)
    with pytest.raises(InputError, match=r"one for every temperature; got one without: build it .*temperature=T"):
        coupling_flow(2, context=1).at(300.0)
    with pytest.raises(
        InputError, match="must have a context of one number; got 2: build the bijection with context=1"
    ):
        Flow(flow.base, coupling_flow(2, context=2).bijection, temperature=300.0)


def test_contexts_go_row_by_row(randomise):
    flow = randomise(coupling_flow(2, layers=2, context=1))
    context = torch.linspace(-3, 3, BLOCK + 5)[:, None]
    x, log_q = flow.sample(BLOCK + 5, seed=1, context=context)
    assert torch.equal(flow.sample(50, seed=1, context=context[:50])[0], x[:50])
    assert (flow.log_prob(x, context) - log_q).abs().max() < 1e-3
    assert (flow.log_prob(x, -context) - log_q).abs().max() > 0.1
    assert flow.rsample(3, context=context[:3])[0].shape == (3, 2)
    for call in (lambda: flow.sample(3, context=context), lambda: flow.sample(3), lambda: flow.log_prob(x)):
        with pytest.raises(InputError, match="context must have shape"):
            call()


def test_rsample_has_the_gradient_of_the_draws():
    flow = Flow(Normal(1), Coupling(1, [0], [], Affine(1, max_log_scale=1e6))).double()
    mean, log_scale = (head.bias for head in flow.bijection.conditioner.heads)
    x, log_q = flow.rsample(1000, generator=torch.Generator().manual_seed(0))
    z = flow.base.sample(1000, torch.Generator().manual_seed(0))
    gradient = torch.autograd.grad((x + log_q[:, None]).mean(), [mean, log_scale])
    assert gradient[0].item() == pytest.approx(1.0)
    assert gradient[1].item() == pytest.approx(z.mean().item() - 1.0)


def test_log_prob_is_minus_infinity_where_there_is_nothing(flow):
    x, _ = flow.sample(6, seed=1)
    damaged = x.clone()
    damaged[1, 0], damaged[3, 1], damaged[4, 0] = torch.nan, torch.inf, -torch.inf
    value = flow.log_prob(damaged)
    assert (flow.log_prob(torch.full((1, 2), 3e38)) == -torch.inf).all()
    assert (value[[1, 3, 4]] == -torch.inf).all()
    assert torch.equal(value[[0, 2, 5]], flow.log_prob(x)[[0, 2, 5]])
    value[[0, 2, 5]].sum().backward()
    assert all(p.grad.isfinite().all() for p in flow.parameters())


def test_the_density_is_the_same_for_every_representative_of_an_angle(randomise):
    flow = randomise(SMALL["cylinder"]()).double()
    x, log_q = flow.sample(50, seed=1)
    assert (x[:, 0].abs() <= PI).all()
    turned = x + torch.tensor([2 * PI, 0.0], dtype=torch.float64)
    assert (flow.log_prob(turned) - log_q).abs().max() < 1e-8


def test_a_float64_flow_sums_in_float64(randomise):
    flow = randomise(molecular_flow([False] * 4 + [True], torch.zeros(4), torch.eye(4)), scale=0.1)
    x, log_q = flow.sample(20, seed=1)
    twin = copy.deepcopy(flow).double()
    exact = twin.log_prob(x.double())
    assert exact.dtype == torch.float64
    assert 1e-9 < (log_q - exact).abs().max() < 1e-3
    _, log_det = twin.bijection.inverse(x.double())
    steps = torch.zeros(20, dtype=torch.float64)
    y = x.double()
    for layer in reversed(twin.bijection.bijections):
        y, step = layer.inverse(y)
        steps += step
    assert (log_det - steps).abs().max() < 1e-13


def test_flows_can_be_copied_and_sent(flow):
    assert torch.equal(pickle.loads(pickle.dumps(flow)).sample(3, seed=1)[0], flow.sample(3, seed=1)[0])


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3"])
def test_a_number_of_draws_is_a_positive_integer(flow, n):
    for call in (flow.sample, flow.rsample):
        with pytest.raises(InputError, match="positive integer"):
            call(n)


def test_wrong_input_is_refused_with_a_remedy(flow):
    with pytest.raises(InputError, match="shape"):
        flow.log_prob(torch.zeros(3, 5))
    with pytest.raises(InputError, match="shape"):
        flow.log_prob([0.0, 0.0])
    with pytest.raises(InputError, match="float64"):
        flow.log_prob(torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(InputError, match="must fit"):
        Flow(Normal(3), Coupling(2, [0], [1], Affine(1)))
    conditional = Flow(Normal(2), Coupling(2, [0], [1], Affine(1), context=1))
    with pytest.raises(InputError, match="context must have the flow's dtype"):
        conditional.sample(3, seed=1, context=torch.zeros(3, 1, dtype=torch.float64))
    with pytest.raises(InputError, match=r"context must have shape .* got list"):
        conditional.log_prob(torch.zeros(2, 2), [[0.0], [0.0]])
    assert conditional.log_prob(torch.zeros(2, 2), torch.zeros(2, 1, dtype=torch.int)).shape == (2,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Normal(0), "dim must be a positive integer; got 0"),
        (lambda: LU(1.5), r"dim must be a positive integer; got 1\.5"),
        (lambda: Planar(-1), "dim must be a positive integer; got -1"),
        (lambda: Householder(2, reflections=0), "reflections must be a positive integer; got 0"),
        (lambda: Flow(LU(2), Normal(2)), "base must be a Base; got a LU"),
        (lambda: Composition([LU(2), 1]), "bijection must be a Bijection; got an int"),
        (lambda: Inverse(Normal(2)), "bijection must be a Bijection; got a Normal"),
        (lambda: Coupling(2, [0], [1], "affine"), "transformer must be a Transformer; got a str"),
        (lambda: Autoregressive(2, Normal(2)), "transformer must be a Transformer; got a Normal"),
        (lambda: MultivariateNormal(torch.full((1,), math.nan), torch.eye(1)), "mean and factor must be finite"),
        (lambda: GaussianMixture(torch.full((2, 1), math.inf)), "means must be finite"),
        (lambda: gaussianization([[1.0, 2.0]]), "x must be a Tensor; got a list"),
    ],
)
def test_what_makes_no_flow_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch warns of itself while it compiles
def test_compiled_and_eager_agree(randomise):
    flow = randomise(molecular_flow([False, False, True], torch.zeros(2), torch.eye(2), stiff_layers=1), scale=0.2)
    z = flow.base.sample(64, torch.Generator().manual_seed(0))
    parameters = list(flow.parameters())

    def results(push, pull):
        x, log_q = push(z, None)
        gradients = torch.autograd.grad(x.sum() + log_q.sum() + pull(x.detach(), None).sum(), parameters)
        return [x, log_q, *gradients]

    eager = results(flow._push, flow._pull)
    fast = results(torch.compile(flow._push, dynamic=False), torch.compile(flow._pull, dynamic=False))
    assert all((a - b).norm() < 1e-3 * (1 + a.norm()) for a, b in zip(eager, fast, strict=True))


def bent(seed=0):
    """A flow of one length and one angle, far from its start."""
    flow = molecular_flow([False, True], torch.tensor([0.4]), torch.tensor([[0.7]]), stiff_layers=2, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return flow.double()


def test_the_marginal_is_the_law_of_the_leading_dimensions():
    flow = bent()
    length, angle = torch.linspace(-30, 30, 60_001, dtype=torch.float64), torch.linspace(-3, 3, 7, dtype=torch.float64)
    with torch.no_grad():
        for phi in angle:
            x = torch.stack([length, phi.expand_as(length)], -1)
            whole = torch.trapezoid(flow.log_prob(x).exp(), length)
            alone = flow.marginal.log_prob(x[len(x) // 2 : len(x) // 2 + 1]).exp() * math.sqrt(2 * PI)
            assert float(alone) == pytest.approx(float(whole), rel=NORMALISED)
            assert float(alone) != pytest.approx(1 / (2 * PI), rel=0.002), "not what it was at the start"


def test_the_marginal_shares_parameters_and_is_not_counted_twice():
    flow = bent()
    mine = {id(p) for p in flow.parameters()}
    assert {id(p) for p in flow.marginal.parameters()} < mine
    assert not any("marginal" in name for name in flow.state_dict())
    for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert {id(p) for p in other.marginal.parameters()} < {id(p) for p in other.parameters()}
    assert flow.float().marginal.sample(3, seed=1)[0].dtype == torch.float32
    assert coupling_flow(2).marginal is None


@pytest.mark.parametrize("leading", [-1, 2, 5])
def test_more_leading_layers_than_there_are_is_refused(leading):
    with pytest.raises(InputError, match="leading must be less than the number of layers"):
        Flow(Normal(2), Composition([Permutation([1, 0]), Permutation([1, 0])]), leading=leading)
    with pytest.raises(InputError, match="for 0 layers"):
        Flow(Normal(2), Permutation([1, 0]), leading=1)
