import itertools
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from boltzgen.energies import Energy, Pullback, toys
from boltzgen.errors import InputError

SIGMAS = 4.0
MINIMUM_13 = -44.326801  # Lennard-Jones cluster of 13, Hoare and Pal (1971)
SYSTEMS = Path(__file__).parents[2] / "systems"
BUNDLED = {file.parent.name: tomllib.loads(file.read_text("utf-8")) for file in sorted(SYSTEMS.glob("*/system.toml"))}
BUNDLED = {name: system for name, system in BUNDLED.items() if "toy" in system}
DRAWN = {
    "double well": toys.DoubleWell,
    "double well snf": lambda: toys.DoubleWell("snf"),
    "double well bgflow": lambda: toys.DoubleWell("bgflow"),
    "many well": toys.ManyWell,
    "gmm": toys.GaussianMixture40,
    "gaussian": lambda: toys.Gaussian([1.0, -2.0], [[1.0, 0.6], [0.6, 2.0]]),
}


@pytest.fixture(params=DRAWN)
def drawn(request):
    return DRAWN[request.param]()


def sigmas(values, exact):
    """How many standard errors the mean of independent values lies from the exact one."""
    values = values.double()
    return abs(values.mean() - exact).item() / (values.std() / math.sqrt(len(values))).item()


def draw(target, n, seed):
    return target.sample(n, seed=seed).double()


# ---------------------------------------------------------------------------------- the table, to its last digit


@pytest.mark.parametrize(
    ("target", "log_z", "difference"),
    [
        (toys.DoubleWell(), "11.02047", "3.3800"),
        (toys.DoubleWell("snf"), "10.293480", "-1.6907"),
        (toys.DoubleWell("bgflow"), "5.211940", "0.0000"),
        (toys.MuellerBrown(k=0.1), "11.72959", "3.638"),
        (toys.MuellerBrown(k=0.15), "18.61544", "5.690"),
    ],
)
def test_published_partition_functions_and_free_energies(target, log_z, difference):
    digits, decimals = (len(text.split(".")[1]) for text in (log_z, difference))
    assert f"{target.log_partition():.{digits}f}" == log_z
    assert f"{target.free_energy_difference() + 0.0:.{decimals}f}" == difference


def test_published_numbers_of_the_snf_double_well():
    target = toys.DoubleWell("snf")
    assert f"{1 / (1 + math.exp(-target.free_energy_difference())):.6f}" == "0.155689"  # p_left
    assert f"{math.exp(target.log_partition()) / math.sqrt(2 * math.pi):.6f}" == "11784.509265"


def test_published_numbers_of_the_many_well():
    assert f"{toys.ManyWell().log_partition():.6f}" == "164.695675"
    assert f"{-toys.ManyWell().entropy():.5f}" == "-27.49722"


def test_published_numbers_of_the_forty_gaussians():
    target = toys.GaussianMixture40()
    assert target.log_partition() == 0.0
    assert -target.entropy() == pytest.approx(-6.8599, abs=0.0015)
    assert [f"{number:.5f}" for number in target.locs[0].tolist()] == ["-0.29947", "21.45774"]
    assert f"{target.scale:.5f}" == "1.31326"


def test_the_centres_are_those_of_the_global_stream_which_stays_untouched():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        published = (torch.rand(40, 2) - 0.5) * 80
        torch.manual_seed(7)
        state = torch.get_rng_state()
        target = toys.GaussianMixture40()
        target.sample(10, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(target.locs.float(), published)


def test_the_mixture_integrates_to_one():
    target = toys.GaussianMixture40()
    axis = torch.linspace(-52.0, 52.0, 521, dtype=torch.float64)
    p = torch.exp(-target.energy(torch.cartesian_prod(axis, axis)))
    assert (p.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1.0, abs=1e-12)


def test_gaussian_in_closed_form():
    covariance = torch.tensor([[1.0, 0.6, 0.0], [0.6, 2.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
    mean = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    target = toys.Gaussian(mean, covariance)
    normal = torch.distributions.MultivariateNormal(mean, covariance)
    x = normal.mean + torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(target.log_prob(x) - target.log_partition(), normal.log_prob(x))
    assert target.entropy() == pytest.approx(normal.entropy().item())


# ------------------------------------------------------------------------------------------------- the states


@pytest.mark.parametrize("target", [toys.DoubleWell(), toys.DoubleWell("snf"), toys.MuellerBrown()])
def test_states_share_the_plane_between_them(target):
    x = 3 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(target.in_a(x), ~target.in_b(x))
    assert target.in_a(x).any()
    assert target.in_b(x).any()
    with pytest.raises(InputError, match=r"shape \(n, 2\)"):
        target.in_a(x[0])


@pytest.mark.parametrize("variant", ["noe", "snf", "bgflow"])
def test_the_barrier_is_the_top_between_the_wells(variant):
    target = toys.DoubleWell(variant)
    x = torch.tensor([[target.barrier, 0.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(target.energy(x).sum(), x)
    assert gradient.abs().max() < 1e-12
    beside = x.detach() + torch.tensor([[-0.01, 0.0], [0.01, 0.0]], dtype=torch.float64)
    assert (target.energy(beside) < target.energy(x.detach())).all()
    assert target.in_a(beside).tolist() == [True, False]


def test_minima_of_mueller_brown():
    published = torch.tensor([[-0.558224, 1.441726], [0.623499, 0.028038], [-0.050011, 0.466694]], dtype=torch.float64)
    target = toys.MuellerBrown(k=1.0)
    x = published.clone().requires_grad_()
    u = target.energy(x)
    (gradient,) = torch.autograd.grad(u.sum(), x)
    assert gradient.abs().max() < 0.01
    torch.testing.assert_close(u.detach(), torch.tensor([-146.6995, -108.1667, -80.7678]).double(), rtol=0, atol=1e-3)
    assert target.in_a(published).tolist() == [True, False, False]


# -------------------------------------------------------------------------------------------------- the draws


def test_draws_follow_the_density(drawn):
    x = draw(drawn, 20_000, 1)
    exact = drawn.entropy() - drawn.log_partition()  # E_p[u]
    assert sigmas(drawn.energy(x), exact) < SIGMAS
    assert sigmas(drawn.energy(1.05 * x), exact) > SIGMAS, "draws 5 % too wide pass as well"


@pytest.mark.parametrize("variant", ["noe", "snf", "bgflow"])
def test_draws_populate_both_wells_rightly(variant):
    target = toys.DoubleWell(variant)
    in_b = target.in_b(draw(target, 20_000, 2))
    p_b = 1 / (1 + math.exp(target.free_energy_difference()))
    assert sigmas(in_b, p_b) < SIGMAS
    assert sigmas(in_b, 1 / (1 + math.exp(target.free_energy_difference() + 0.25))) > SIGMAS


@pytest.mark.parametrize("variant", ["noe", "snf", "bgflow"])
def test_draws_have_the_moments_of_quadrature(variant):
    target = toys.DoubleWell(variant)
    nodes, log_w = target._nodes()
    p = (log_w - target.energy(nodes)).softmax(0)
    x = draw(target, 20_000, 3)
    for power, axis in itertools.product((1, 2, 3, 4), (0, 1)):
        assert sigmas(x[:, axis] ** power, (p * nodes[:, axis] ** power).sum()) < SIGMAS


def test_draws_of_the_gaussian_have_its_covariance():
    target = toys.Gaussian([1.0, -2.0], [[1.0, 0.6], [0.6, 2.0]])
    x = draw(target, 20_000, 4) - target.mean
    for i, j, exact in ((0, 0, 1.0), (0, 1, 0.6), (1, 1, 2.0)):
        assert sigmas(x[:, i] * x[:, j], exact) < SIGMAS
        assert sigmas(x[:, i] * x[:, j], exact + 0.1) > SIGMAS


def test_draws_of_the_mixture_visit_every_centre_alike():
    target = toys.GaussianMixture40()
    x = draw(target, 20_000, 5)
    share = (torch.cdist(x, target.locs).square() / (-2 * target.scale**2)).softmax(1)  # its mean is exactly 1/40
    assert all(sigmas(share[:, k], 1 / 40) < SIGMAS for k in range(40))
    assert all(sigmas(share[:, k], 1 / 30) > SIGMAS for k in range(40))


def test_a_draw_depends_on_seed_and_index_only(drawn):
    long = drawn.sample(100, seed=3)
    assert long.shape == (100, *drawn.event_shape)
    assert long.dtype == torch.get_default_dtype()
    for n in (1, 7, 64):
        assert torch.equal(drawn.sample(n, seed=3), long[:n])
    assert not torch.equal(drawn.sample(100, seed=4), long)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_a_seed_must_be_a_whole_number(seed):
    with pytest.raises(InputError, match="seed must be a non-negative integer"):
        toys.DoubleWell().sample(3, seed=seed)


# ------------------------------------------------------------------------------------------------- the clusters


def test_dw4_on_a_square():
    side = 3.0
    square = torch.tensor([[0.0, 0.0, side, 0.0, side, side, 0.0, side]], dtype=torch.float64)
    four = 0.9 * (side - 4) ** 4 - 4 * (side - 4) ** 2
    two = 0.9 * (side * math.sqrt(2) - 4) ** 4 - 4 * (side * math.sqrt(2) - 4) ** 2
    assert toys.DW4().energy(square).item() == pytest.approx(4 * four + 2 * two)


def icosahedron(radius):
    golden = (1 + math.sqrt(5)) / 2
    corners = [p for a, b in itertools.product((-1, 1), (-golden, golden)) for p in ((0, a, b), (a, b, 0), (b, 0, a))]
    x = torch.tensor([(0, 0, 0), *corners], dtype=torch.float64)
    return radius[:, None, None] * x / math.sqrt(1 + golden**2)


@pytest.mark.parametrize("pairs_counted", [1, 2])
def test_lj13_on_the_icosahedron_has_the_known_minimum(pairs_counted):
    radius = torch.linspace(0.9, 1.1, 20_001, dtype=torch.float64)
    u = toys.LJ13(pairs_counted=pairs_counted).energy(icosahedron(radius).flatten(1))
    assert (u - 6 * radius**2).min().item() == pytest.approx(pairs_counted * MINIMUM_13, abs=1e-5)


def test_lj13_has_no_default_convention():
    with pytest.raises(TypeError):
        toys.LJ13()
    with pytest.raises(InputError, match="pairs_counted must be 1 or 2; got 3"):
        toys.LJ13(pairs_counted=3)


@pytest.mark.parametrize("cluster", [toys.DW4(), toys.LJ13(pairs_counted=1)])
def test_centred_coordinates_are_an_isometry_onto_zero_centroid(cluster):
    target = cluster.centred()
    y = torch.randn(50, *target.event_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u, x, potential = target.evaluate(y)
    assert target.event_shape == ((cluster.n - 1) * cluster.k,)
    assert x.reshape(50, cluster.n, cluster.k).mean(1).abs().max() < 1e-14
    torch.testing.assert_close(x @ x.T, y @ y.T)
    assert torch.equal(u, potential)
    shift = torch.arange(cluster.k, dtype=torch.float64).repeat(cluster.n)
    torch.testing.assert_close(cluster.energy(x + shift), cluster.energy(x))


@pytest.mark.slow
def test_dw4_has_its_published_mean_energy_and_exact_virial():
    target, generator = toys.DW4().centred(), torch.Generator().manual_seed(0)

    def evaluate(y):
        y = y.detach().requires_grad_()
        u = target.energy(y)
        return u.detach(), torch.autograd.grad(u.sum(), y)[0]

    n, step, energies, virials = 2000, 0.1, [], []
    y = 2 * torch.randn(n, 6, dtype=torch.float64, generator=generator)
    for _ in range(300):  # descent, so that the dynamics start from the many isomers
        gradient = evaluate(y)[1]
        y = y - 0.005 * gradient / (1 + gradient.abs() / 100)
    u, gradient = evaluate(y)
    for sweep in range(200):  # Hamiltonian Monte Carlo
        p = torch.randn(n, 6, dtype=torch.float64, generator=generator)
        y1, u1, gradient1, start = y, u, gradient, u + 0.5 * p.square().sum(1)
        for _ in range(12):
            p = p - step / 2 * gradient1
            y1 = y1 + step * p
            u1, gradient1 = evaluate(y1)
            p = p - step / 2 * gradient1
        accept = torch.rand(n, generator=generator) < (start - u1 - 0.5 * p.square().sum(1)).exp()
        y, u = torch.where(accept[:, None], y1, y), torch.where(accept, u1, u)
        gradient = torch.where(accept[:, None], gradient1, gradient)
        if sweep >= 100:
            energies.append(u.mean().item())
            virials.append((y * gradient).sum(1).mean().item())
    assert sum(energies) / len(energies) == pytest.approx(-22.540, abs=0.1)  # isomers interconvert slowly
    assert sum(virials) / len(virials) == pytest.approx(6.0, abs=0.3)


# --------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("k", [0.0, -1.0, math.nan, math.inf])
def test_mueller_brown_needs_a_positive_k(k):
    with pytest.raises(InputError, match="k must be a positive number"):
        toys.MuellerBrown(k=k)


def test_double_well_needs_a_known_variant():
    with pytest.raises(InputError, match="variant must be one of noe, snf, bgflow; got 'fab'"):
        toys.DoubleWell("fab")


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        ([0.0], [[1.0, 0.0], [0.0, 1.0]], r"got \(1,\) and \(2, 2\)"),
        ([[0.0]], [[1.0]], r"got \(1, 1\) and \(1, 1\)"),
        ([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], "symmetric and positive definite"),
        ([0.0, 0.0], [[1.0, 0.1], [0.2, 1.0]], "symmetric and positive definite"),
        ([0.0], [[math.nan]], "symmetric and positive definite"),
    ],
)
def test_gaussian_needs_a_covariance(mean, covariance, message):
    with pytest.raises(InputError, match=message):
        toys.Gaussian(mean, covariance)


# -------------------------------------------------------------------------------------------------- by name


PARAMETERS = {"gaussian": {"mean": [0.0], "covariance": [[1.0]]}, "lj13": {"pairs_counted": 1}}


@pytest.mark.parametrize("name", toys.NAMES)
def test_every_toy_is_reachable_by_name(name):
    target = toys.load(name, **PARAMETERS.get(name, {}))
    assert isinstance(target, Energy)
    assert target.temperature == 1.0
    assert target.exact
    assert len(target.event_shape) == 1


def test_every_toy_class_has_a_name():
    classes = {c for c in vars(toys).values() if isinstance(c, type)}
    loaded = [toys.load(name, **PARAMETERS.get(name, {})) for name in toys.NAMES]
    assert classes == {type(t.inner if isinstance(t, Pullback) else t) for t in loaded}


def test_a_wrong_name_or_parameter_is_told_the_right_one():
    with pytest.raises(InputError, match="got 'doublewell': did you mean 'double_well'"):
        toys.load("doublewell")
    with pytest.raises(InputError, match="choose one of double_well, "):
        toys.load("argon")
    with pytest.raises(InputError, match=r"parameters must fit mueller_brown\(k.*got {'kappa': 1.0}"):
        toys.load("mueller_brown", kappa=1.0)
    with pytest.raises(InputError, match=r"parameters must fit lj13.*missing"):
        toys.load("lj13")


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_toys_are_data(name):
    system = BUNDLED[name]
    assert system["title"]
    assert system["description"]
    target = toys.load(system["toy"], **system.get("parameters", {}))
    assert target.energy(torch.randn(3, *target.event_shape)).shape == (3,)


def test_every_toy_has_a_system():
    assert {system["toy"] for system in BUNDLED.values()} == set(toys.NAMES)


def test_a_seed_of_numpy_is_a_seed():
    assert torch.equal(toys.DoubleWell().sample(3, seed=np.int64(1)), toys.DoubleWell().sample(3, seed=1))
