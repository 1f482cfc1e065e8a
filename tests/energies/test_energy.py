"""The contract of `Energy`, and the battery that every public energy passes."""

import inspect
import math
import pickle
from pathlib import Path

import pytest
import torch

from boltzgen import energies
from boltzgen.energies import Energy, ModuleEnergy, Pullback, Softened, Tempered, toys
from boltzgen.errors import EnergyError, InputError

FINITE_DIFFERENCE = 1e-5  # step; its error is O(step²)
RELATIVE = 1e-6


def polar(y):
    r, phi = y.unbind(-1)
    return torch.stack([r * phi.cos(), r * phi.sin()], -1), r.log()


def gaussian():
    return toys.Gaussian([1.0, -2.0, 0.5], [[1.0, 0.3, 0.0], [0.3, 2.0, -0.4], [0.0, -0.4, 0.7]])


def round_gaussian():
    return toys.Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])


def cluster(n, k, spacing):
    """Rows of n·k coordinates with no two particles close: a jittered grid."""
    sites = torch.cartesian_prod(*[torch.arange(3.0)] * k)[:n].double() * spacing

    def rows(m, generator):
        return (sites + 0.1 * torch.randn(m, n, k, dtype=torch.float64, generator=generator)).flatten(1)

    return rows


def normal(d, *, scale=1.0, shift=0.0):
    return lambda m, generator: shift + scale * torch.randn(m, d, dtype=torch.float64, generator=generator)


def network(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).to(dtype)


class Layer(torch.nn.Module):
    """Energies (n, 1) of x (n, 3), without a product of matrices, whose last bits depend on how many rows it has."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(network()[0].weight.detach())

    def forward(self, x):
        return (x[:, None] * self.weight).sum(2).tanh().sum(1, keepdim=True)


BATTERY = {
    "double well": (toys.DoubleWell, normal(2)),
    "double well snf": (lambda: toys.DoubleWell("snf"), normal(2)),
    "mueller brown": (toys.MuellerBrown, normal(2, scale=0.7)),
    "many well": (toys.ManyWell, normal(32)),
    "gmm": (toys.GaussianMixture40, normal(2, scale=20.0)),
    "gaussian": (gaussian, normal(3)),
    "dw4": (toys.DW4, cluster(4, 2, 3.0)),
    "lj13": (lambda: toys.LJ13(pairs_counted=1), cluster(13, 3, 1.1)),
    "lj13 twice": (lambda: toys.LJ13(pairs_counted=2), cluster(13, 3, 1.1)),
    "dw4 centred": (lambda: toys.load("dw4"), normal(6, scale=2.0)),
    "pullback": (lambda: Pullback(round_gaussian(), polar, event_shape=2), normal(2, scale=0.2, shift=2.0)),
    "pullback tempered": (
        lambda: Pullback(round_gaussian(), polar, event_shape=2).at(3.0),
        normal(2, scale=0.2, shift=2.0),
    ),
    "tempered": (lambda: toys.DoubleWell().at(2.0), normal(2)),
    "module": (lambda: ModuleEnergy(Layer(), 3), normal(3)),
    "module tempered": (lambda: ModuleEnergy(Layer(), 3, 300.0).at(400.0), normal(3)),
    "softened": (lambda: Softened(toys.DoubleWell(), -2.0), normal(2)),
}

# energies that need a molecule, and the module beside this one that holds their battery
COVERED_ELSEWHERE = {
    "ForceFieldEnergy": "test_force_field.py",
    "HybridEnergy": "test_hybrid.py",
    "OpenMMEnergy": "test_openmm_energy.py",
}


@pytest.fixture(params=BATTERY)
def case(request):
    make, rows = BATTERY[request.param]
    return make(), rows(8, torch.Generator().manual_seed(1))


def value_and_gradient(energy, x):
    x = x.clone().requires_grad_()
    u = energy.energy(x)
    return u.detach(), torch.autograd.grad(u.sum(), x)[0]


def direction(x):
    return torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))


def public_energies():
    names = {**{n: getattr(energies, n) for n in energies.__all__}, **{n: getattr(toys, n) for n in toys.__all__}}
    return {n: c for n, c in names.items() if inspect.isclass(c) and issubclass(c, Energy) and c is not Energy}


def test_no_public_energy_escapes_the_battery():
    tested = {type(make()).__name__ for make, _ in BATTERY.values()}
    assert set(public_energies()) - tested <= set(COVERED_ELSEWHERE)
    for name in set(public_energies()) & set(COVERED_ELSEWHERE):
        assert name in (Path(__file__).parent / COVERED_ELSEWHERE[name]).read_text()


# ---------------------------------------------------------------------------------------------- the battery


def test_gradient_is_the_slope_along_any_direction(case):
    energy, x = case
    _, gradient = value_and_gradient(energy, x)
    v, h = direction(x), FINITE_DIFFERENCE
    slope = (energy.energy(x + h * v) - energy.energy(x - h * v)) / (2 * h)
    expected = (gradient * v).flatten(1).sum(1)
    torch.testing.assert_close(slope, expected, rtol=RELATIVE, atol=1e-5)
    assert not torch.allclose(slope, 1.001 * expected, rtol=RELATIVE, atol=1e-5), "the tolerance would pass anything"


def test_double_backward_is_the_slope_of_the_gradient(case):
    energy, x = case
    v, h = direction(x), FINITE_DIFFERENCE
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy.energy(y).sum(), y, create_graph=True)
    (curvature,) = torch.autograd.grad((gradient * v).sum(), y)
    slope = (value_and_gradient(energy, x + h * v)[1] - value_and_gradient(energy, x - h * v)[1]) / (2 * h)
    scale = slope.abs().max()
    torch.testing.assert_close(curvature / scale, slope / scale, rtol=0, atol=RELATIVE)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward mode uses it
def test_hessian_by_functorch(case):
    energy, x = case

    def u(row):
        return energy.energy(row[None])[0]

    hessians = torch.func.vmap(torch.func.hessian(u))(x[:2])
    twice = torch.stack([torch.autograd.functional.hessian(u, row) for row in x[:2]])
    torch.testing.assert_close(hessians, twice)


def test_vmap_agrees_with_the_batch(case):
    energy, x = case
    torch.testing.assert_close(torch.func.vmap(lambda row: energy.energy(row[None])[0])(x), energy.energy(x))


def test_rows_do_not_see_each_other(case):
    energy, x = case
    u, gradient = value_and_gradient(energy, x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    for part in (order, order[:3], order[:1]):
        u_part, gradient_part = value_and_gradient(energy, x[part])
        assert torch.equal(u_part, u[part])
        assert torch.equal(gradient_part, gradient[part])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("whole", [False, True], ids=["one number", "whole row"])
def test_a_row_that_cannot_be_evaluated_has_infinite_energy_and_no_gradient(case, bad, whole):
    energy, x = case
    u, gradient = value_and_gradient(energy, x)
    dirty = x.clone()
    dirty[2] = bad if whole else torch.cat([dirty[2, :1], torch.full_like(dirty[2, :1], bad), dirty[2, 2:]])
    u_dirty, gradient_dirty = value_and_gradient(energy, dirty)
    others = torch.arange(len(x)) != 2
    assert u_dirty[2] == math.inf
    assert not gradient_dirty[2].any()
    assert torch.equal(u_dirty[others], u[others])
    assert torch.equal(gradient_dirty[others], gradient[others])


def test_a_bad_row_leaves_second_derivatives_clean(case):
    energy, x = case
    x[2] = math.nan
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(energy.energy(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert torch.isfinite(second).all()
    assert not second[2].any()
    assert second[3].any()


def test_shape_must_be_right(case):
    energy, x = case
    d = energy.event_shape[0]
    for wrong in (x[:, :-1], x[0], x[..., None], x.flatten(), torch.zeros(4, d + 1), torch.zeros(())):
        with pytest.raises(InputError, match=rf"x must have shape \(n, {d}\); got "):
            energy.energy(wrong)
    with pytest.raises(InputError, match="floating-point"):
        energy.energy(torch.zeros(4, d, dtype=torch.long))
    with pytest.raises(InputError, match=r"torch\.as_tensor"):
        energy.energy(x.tolist())
    assert energy.evaluations.total == 0


def test_dtype_is_kept(case):
    energy, x = case
    u = energy.energy(x)
    single = energy.energy(x.float())
    assert (u.dtype, single.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(single.double(), u, rtol=1e-4, atol=1e-3)


def test_an_empty_batch_is_a_batch(case):
    energy, x = case
    u, gradient = value_and_gradient(energy, x[:0])
    assert (u.shape, gradient.shape) == ((0,), x[:0].shape)


def test_every_evaluation_is_counted_once(case):
    energy, x = case
    energy.energy(x)
    value_and_gradient(energy, x[:5])
    with torch.no_grad():
        energy.log_prob(x[:3].requires_grad_())
    energy.evaluate(x[:2].detach())
    assert (energy.evaluations.energy, energy.evaluations.gradient) == (13, 5)
    assert energy.evaluations.total == 18


def test_another_temperature_shares_the_ledger(case):
    energy, x = case
    hot = energy.at(2 * energy.temperature)
    assert (hot.temperature, hot.exact) == (2 * energy.temperature, energy.exact)
    hot.energy(x)
    assert hot.evaluations is energy.evaluations
    assert energy.evaluations.energy == len(x)
    torch.testing.assert_close(hot.at(energy.temperature).energy(x), energy.energy(x))


def test_it_survives_a_pickle(case):
    energy, x = case
    assert torch.equal(pickle.loads(pickle.dumps(energy)).energy(x), energy.energy(x))


def test_it_is_one_graph_for_the_compiler(case):
    energy, x = case
    if isinstance(energy, Pullback):
        pytest.skip("compiled in pieces: the inner energy and the bijection")
    graph = torch.compile(energy._energy, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(graph(x), energy.energy(x))


# ------------------------------------------------------------------------------------- the contract itself


class Pair(Energy):
    """A Lennard-Jones dimer in 3-D."""

    def __init__(self):
        super().__init__((2, 3))

    def _energy(self, x):
        r = (x[:, 0] - x[:, 1]).square().sum(-1).sqrt()
        return r**-12 - r**-6


class Given(Energy):
    """Whatever u is handed in."""

    def __init__(self, u):
        super().__init__(1)
        self.u = u

    def _energy(self, x):
        return torch.as_tensor(self.u, dtype=x.dtype) + 0 * x.sum(-1)


def dimers(r, dtype):
    x = torch.zeros(3, 2, 3, dtype=dtype)
    x[:, 1, 0] = torch.tensor([1.0, r, 1.5], dtype=dtype)
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("r", [0.0, *(10.0**-k for k in range(1, 9))])
def test_clashing_atoms_have_no_weight_and_a_finite_gradient(r, dtype):
    u, gradient = value_and_gradient(Pair(), dimers(r, dtype))
    clean, clean_gradient = value_and_gradient(Pair(), dimers(1.2, dtype))
    assert u[1] > 1e5
    assert torch.exp(-u)[1] == 0
    assert torch.isfinite(gradient).all()
    assert torch.equal(u[[0, 2]], clean[[0, 2]])
    assert torch.equal(gradient[[0, 2]], clean_gradient[[0, 2]])
    if not torch.isfinite(u[1]):
        assert not gradient[1].any()


def test_coincident_atoms_are_infinitely_high():
    assert Pair().energy(dimers(0.0, torch.float32))[1] == math.inf


@pytest.mark.parametrize("u", [math.nan, math.inf, -math.inf])
def test_nothing_but_a_finite_number_is_below_infinity(u):
    x = torch.ones(2, 1, requires_grad=True)
    given = Given([u, 3.0])
    assert given.energy(x).tolist() == [math.inf, 3.0]
    assert given.log_prob(x).tolist() == [-math.inf, -3.0]
    assert given(x).tolist() == [math.inf, 3.0]


class Step(Energy):
    """1 right of the origin, 0 elsewhere: a finite number for NaN and ±inf too."""

    def _energy(self, x):
        return (x[:, 0] > 0).to(x)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_formula_blind_to_a_bad_number_has_infinite_energy_there(bad):
    x = torch.tensor([[bad], [2.0]])
    assert Step(1).energy(x).tolist() == [math.inf, 1.0]
    blind = Pullback(Step(1), lambda y: (torch.ones_like(y), y.new_zeros(len(y))), event_shape=1)
    assert blind.evaluate(x)[0].tolist() == [math.inf, 1.0]


class Half(Energy):
    """½ k x₀², with a learnable k: blind to all columns but the first."""

    def __init__(self):
        super().__init__(2)
        self.k = torch.nn.Parameter(torch.ones(2))

    def _energy(self, x):
        return 0.5 * self.k[0] * x[:, 0] ** 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch warns of itself
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_compiled_code_is_blind_to_no_bad_number(bad):
    """The compiler simplifies: it takes 0 · x for 0."""
    energy = Half().requires_grad_(False)
    compiled = torch.compile(energy.energy, dynamic=False)
    x = torch.tensor([[1.0, bad], [2.0, 0.0]], requires_grad=True)
    u = compiled(x)
    assert u.tolist() == [math.inf, 2.0]
    assert torch.autograd.grad(u.sum(), x)[0].tolist() == [[0.0, 0.0], [2.0, 0.0]]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward mode uses it
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_follows_from_a_bad_row_in_any_direction(bad):
    energy = Half()
    x = torch.tensor([[1.0, bad], [2.0, 0.0]])
    _, tangent = torch.func.jvp(energy.energy, (x,), (torch.ones(2, 2),))
    assert tangent.tolist() == [0.0, 2.0]
    energy.energy(x).square()[:1].sum().backward()  # whose own gradient is not finite there
    assert energy.k.grad.tolist() == [0.0, 0.0]


class Spring(torch.nn.Module):
    """Energies (n,) of positions (n, 2, 3), in the precision of these."""

    def forward(self, x):
        return (x[:, 0] - x[:, 1]).square().sum(-1)


def test_a_module_gives_its_own_numbers_in_its_own_precision():
    net, x = network(torch.float32), torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    energy = ModuleEnergy(net, 3)
    assert torch.equal(energy.energy(x), net(x.float())[:, 0].double())
    assert energy.energy(x.float()).dtype == torch.float32
    pair = ModuleEnergy(Spring(), (2, 3), 300.0)
    assert (pair.temperature, pair.event_shape) == (300.0, (2, 3))
    for dtype in (torch.float32, torch.float64):
        u = pair.energy(torch.eye(3, dtype=dtype)[None, :2])
        assert (u.item(), u.dtype) == (2.0, dtype)


def test_a_module_is_copied_as_it_is():
    net, x = torch.nn.Sequential(network(), torch.nn.Dropout()), torch.ones(5, 3, dtype=torch.float64)
    energy, expected = ModuleEnergy(net, 3), network()(x)[:, 0]
    with torch.no_grad():
        net[0][2].bias += 1
    assert torch.equal(energy.energy(x), expected)
    assert net.training
    assert ModuleEnergy(net, 3).fingerprint != energy.fingerprint


def test_a_module_must_be_one_with_one_number_for_each_row():
    with pytest.raises(InputError, match="module must be a Module; got a function"):
        ModuleEnergy(lambda x: x.sum(1), 3)
    with pytest.raises(EnergyError, match=r"shape \(5,\); got \(5, 3\), torch.float32: sum over"):
        ModuleEnergy(torch.nn.Linear(3, 3), 3).energy(torch.zeros(5, 3))
    with pytest.raises(EnergyError, match="got tuple"):
        ModuleEnergy(torch.nn.LSTM(3, 3), 3).energy(torch.zeros(5, 3))


def test_the_parameters_of_a_module_are_constants_of_its_energy():
    net = network()
    x = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    ModuleEnergy(net, 3).energy(x).sum().backward()
    assert x.grad.any()
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    net(x).sum().backward()  # as a module it can be trained as before
    assert all(p.grad is not None for p in net.parameters())


def test_flat_frames_are_told_how_to_be_reshaped():
    with pytest.raises(InputError, match=r"got \(5, 6\): reshape with x\.reshape\(-1, 2, 3\)"):
        Pair().energy(torch.zeros(5, 6))
    with pytest.raises(InputError, match=r"got \(4, 3, 3\): each configuration has 2 x 3 numbers"):
        Pair().energy(torch.zeros(4, 3, 3))
    with pytest.raises(InputError, match=r"got \(7,\)"):
        Pair().energy(torch.zeros(7))


def test_a_subclass_must_return_one_number_per_row():
    class Column(Energy):
        def _energy(self, x):
            return x.square().sum(-1, keepdim=True)

    with pytest.raises(EnergyError, match=r"shape \(5,\); got \(5, 1\), torch.float32: sum over"):
        Column(3).energy(torch.zeros(5, 3))


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, "300", None, True])
def test_temperature_must_be_positive(temperature):
    class Warm(Energy):
        def _energy(self, x):
            return x.sum(-1)

    with pytest.raises(InputError, match="temperature must be a positive number"):
        Warm(1, temperature)


def test_the_gradient_guard_is_what_zeroes_the_bad_row():
    dirty = dimers(0.0, torch.float64).requires_grad_()
    (unguarded,) = torch.autograd.grad(Pair()._energy(dirty).sum(), dirty)
    assert not torch.isfinite(unguarded[1]).all()


def test_a_configuration_is_its_own_evaluation():
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    u, configuration, potential = Pair().evaluate(x)
    assert configuration is x
    assert torch.equal(u, potential)
    assert isinstance(Pair().at(2.0), Tempered)


def test_the_fingerprint_tells_energies_apart():
    energies_ = [
        toys.DoubleWell(),
        toys.DoubleWell("snf"),
        toys.DoubleWell().at(2.0),
        toys.MuellerBrown(k=0.1),
        toys.MuellerBrown(k=0.15),
        Softened(toys.DoubleWell(), 10.0),
        gaussian(),
        round_gaussian(),
    ]
    assert len({energy.fingerprint for energy in energies_}) == len(energies_)
    assert toys.MuellerBrown(k=0.15).fingerprint == energies_[4].fingerprint
    evaluated = toys.DoubleWell()
    evaluated.energy(torch.zeros(3, 2))
    assert evaluated.fingerprint == energies_[0].fingerprint, "counting is not being another energy"


@pytest.mark.parametrize(
    ("returned", "got"),
    [(lambda x: 1.0, "float"), (lambda x: torch.ones(len(x), dtype=torch.int64), r"\(3,\), torch.int64")],
)
def test_an_energy_that_is_no_tensor_of_numbers_is_explained(returned, got):
    class Wrong(Energy):
        def _energy(self, x):
            return returned(x)

    with pytest.raises(EnergyError, match=rf"_energy must return a floating-point tensor of shape \(3,\); got {got}"):
        Wrong(2).energy(torch.zeros(3, 2))


def test_a_forgotten_init_is_explained():
    class Forgetful(Energy):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def _energy(self, x):
            return x.sum(-1)

    with pytest.raises(EnergyError, match=r"got none in Forgetful: call super\(\).__init__\(event_shape\)"):
        Forgetful().energy(torch.zeros(3, 2))
