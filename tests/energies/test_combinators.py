import copy
import math

import pytest
import torch
from openmm import unit

from boltzgen.energies import Energy, Pullback, Softened, Tempered, toys
from boltzgen.energies.toys.quadrature import grid, panels
from boltzgen.errors import InputError
from boltzgen.flows.bijection import Bijection

QUADRATURE = 1e-9


class Harmonic(Energy):
    def __init__(self, d=2, temperature=1.0):
        super().__init__(d, temperature)

    def _energy(self, x):
        return 0.5 * x.square().sum(-1)


class Given(Energy):
    """u = x, of one number."""

    def _energy(self, x):
        return x[:, 0]


class Polar(Bijection):
    """r, φ ↦ the plane; `images` of the chart cover it."""

    def __init__(self, images=1, measure=True):
        super().__init__(2)
        self.log_symmetry = math.log(images)
        self.measure = measure

    def _forward(self, z, context):
        r, phi = z.unbind(-1)
        x = torch.stack([r * phi.cos(), r * phi.sin()], -1)
        return x, r.log() if self.measure else torch.zeros_like(r)

    def _inverse(self, x, context):
        return torch.stack([x.norm(dim=-1), torch.atan2(x[:, 1], x[:, 0])], -1), -x.norm(dim=-1).log()


def log_integral(target, width=2 * math.pi):
    y, log_w = grid(panels([0.0, 30.0], 30), panels([0.0, width], 4))
    return torch.logsumexp(log_w - target.energy(y), 0).item()


# ------------------------------------------------------------------------------------------------- Tempered


def test_tempered_is_the_energy_over_the_new_temperature():
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    energy = Harmonic(temperature=300.0)
    hot = Tempered(energy, 1200.0)
    torch.testing.assert_close(hot.energy(x), energy.energy(x) / 4)
    assert torch.equal(energy.at(300.0).energy(x), energy.energy(x))
    assert (hot.temperature, hot.event_shape, hot.exact) == (1200.0, (2,), True)


def test_tempered_of_tempered_collapses():
    energy = Harmonic(temperature=300.0)
    again = energy.at(1200.0).at(600.0)
    assert again.inner is energy
    x = torch.ones(1, 2)
    torch.testing.assert_close(again.energy(x), energy.energy(x) / 2)


@pytest.mark.parametrize("temperature", [0, -300.0, math.nan, math.inf, "hot", None])
def test_a_temperature_must_be_positive(temperature):
    for energy in (Harmonic(), Softened(Harmonic(), 1.0), Pullback(Harmonic(), Polar())):
        with pytest.raises(InputError, match="temperature must be a positive number"):
            energy.at(temperature)


def test_a_temperature_may_carry_its_unit():
    assert Harmonic(temperature=300.0).at(600.0 * unit.kelvin).temperature == 600.0
    with pytest.raises(InputError, match="a temperature must be given"):
        Harmonic().at(1.0 * unit.nanometer)


@pytest.mark.parametrize("energy", [Pullback(Harmonic(), Polar()), Softened(Harmonic(), 1.0)])
def test_what_does_not_all_scale_with_temperature_is_not_tempered_as_a_whole(energy):
    with pytest.raises(InputError, match=r"answers to temperature in its own way: use energy\.at\(temperature\)"):
        Tempered(energy, 2.0)
    with pytest.raises(InputError, match="inner must be an Energy; got a float"):
        Tempered(2.0, energy)


def test_a_tempered_training_aid_is_not_exact():
    assert not Softened(Harmonic(), 1.0).at(2.0).exact


@pytest.mark.parametrize("wrap", [lambda e: e.at(2.0), lambda e: Softened(e, 1.0), lambda e: e])
def test_stacked_energies_count_each_configuration_once(wrap):
    inner = Harmonic()
    target = wrap(Pullback(wrap(Pullback(wrap(inner), Polar())), Polar()))
    target.energy(torch.rand(7, 2))
    target.energy(torch.rand(3, 2).requires_grad_())
    assert target.evaluations is inner.evaluations
    assert (inner.evaluations.energy, inner.evaluations.gradient) == (7, 3)


def test_a_copy_keeps_one_ledger_of_its_own():
    target = Pullback(Harmonic().at(2.0), Polar())
    twin = copy.deepcopy(target)
    twin.energy(torch.rand(3, 2))
    assert twin.inner.inner.evaluations.energy == 3
    assert target.evaluations.energy == 0


# ------------------------------------------------------------------------------------------------- Softened


def test_softened_leaves_what_lies_below_and_flattens_what_lies_above():
    soft = Softened(Given(1), 2.0)
    x = torch.tensor([-50.0, 1.0, 2.0, 3.0, 1e6, 1e38, math.inf, math.nan, -math.inf])[:, None]
    expected = [-50.0, 1.0, 2.0, 2 + math.log(2), 2 + math.log1p(1e6 - 2), 2 + math.log(1e38), *[math.inf] * 3]
    torch.testing.assert_close(soft.energy(x), torch.tensor(expected))
    assert (soft.exact, Harmonic().exact) == (False, True)


def test_softened_has_a_continuous_slope():
    x = torch.tensor([0.0, 1.0, 2 - 1e-9, 2.0, 2 + 1e-9, 3.0, 1e30], dtype=torch.float64)[:, None].requires_grad_()
    (slope,) = torch.autograd.grad(Softened(Given(1), 2.0).energy(x).sum(), x)
    torch.testing.assert_close(slope[:, 0], torch.tensor([1, 1, 1, 1, 1, 0.5, 1e-30], dtype=torch.float64))


def test_softened_at_another_temperature_softens_the_tempered_energy():
    soft = Softened(Given(1), 2.0).at(2.0)
    assert isinstance(soft, Softened)
    assert not soft.exact
    torch.testing.assert_close(soft.energy(torch.tensor([[3.0], [6.0]])), torch.tensor([1.5, 2 + math.log(2)]))


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_a_threshold_must_be_finite(threshold):
    with pytest.raises(InputError, match="threshold must be a finite number"):
        Softened(Harmonic(), threshold)


# ------------------------------------------------------------------------------------------------- Pullback


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_measure_of_polar_coordinates(temperature):
    target = Pullback(Harmonic(), Polar()).at(temperature)
    exact = math.log(2 * math.pi * temperature)
    assert log_integral(target) == pytest.approx(exact, abs=QUADRATURE)
    assert log_integral(Pullback(Harmonic(), Polar(measure=False)).at(temperature)) != pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("images", [2, 3])
def test_a_chart_that_keeps_one_of_many_images_gives_the_full_partition_function(images):
    target = Pullback(Harmonic(), Polar(images))
    sector = 2 * math.pi / images
    assert log_integral(target, sector) == pytest.approx(math.log(2 * math.pi), abs=QUADRATURE)
    assert log_integral(target.at(2.0), sector) == pytest.approx(math.log(4 * math.pi), abs=QUADRATURE)
    assert log_integral(Pullback(Harmonic(), Polar()), sector) != pytest.approx(math.log(2 * math.pi), abs=0.1)


def test_a_skewed_gaussian_under_an_affine_map_is_round():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance)
    gaussian = toys.Gaussian([1.0, -1.0], covariance)

    def affine(y):
        return gaussian.mean + y @ factor.T, torch.full_like(y[:, 0], factor.diagonal().log().sum().item())

    target = Pullback(gaussian, affine, event_shape=(2,))
    y = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = 0.5 * y.square().sum(-1) + math.log(2 * math.pi) - gaussian.log_partition()
    torch.testing.assert_close(target.energy(y), expected)


def test_evaluate_gives_density_configuration_and_potential_in_one_pass():
    inner = Harmonic(temperature=300.0)
    target = Pullback(inner, Polar(2))
    y = torch.tensor([[1.5, 0.3], [-1.0, 0.3], [math.nan, 0.0], [0.0, 1.0]], dtype=torch.float64)
    u, x, potential = target.evaluate(y)
    assert target.evaluations.total == 4
    torch.testing.assert_close(x[0].norm(), torch.tensor(1.5, dtype=torch.float64))
    assert u.dtype == x.dtype == potential.dtype == torch.float64
    torch.testing.assert_close(u[0].item(), 0.5 * 1.5**2 - math.log(1.5) - math.log(2))
    assert u.tolist()[1:] == [math.inf] * 3  # outside the chart: log r is NaN or −∞
    assert potential.tolist()[1:] == [0.5, math.inf, 0.0]
    assert torch.equal(target.energy(y), u)
    hot = target.at(600.0)
    torch.testing.assert_close(hot.energy(y)[0], u[0] + (300.0 / 600.0 - 1) * potential[0])


@pytest.mark.parametrize("outside", [-math.inf, math.nan, math.inf])
def test_outside_the_chart_nothing_has_weight_or_gradient(outside):
    def half(y):
        log_det = torch.where(y[:, 0] > 0, torch.zeros_like(y[:, 0]), torch.full_like(y[:, 0], outside))
        return y, log_det

    y = torch.tensor([[1.0, 0.5], [-1.0, 0.5]], requires_grad=True)
    u = Pullback(Harmonic(), half, event_shape=2).energy(y)
    (gradient,) = torch.autograd.grad(u.sum(), y)
    assert u.tolist() == [0.625, math.inf]
    assert gradient.tolist() == [[1.0, 0.5], [0.0, 0.0]]


def test_pullback_takes_its_character_from_the_inner_energy():
    inner = Softened(Harmonic(temperature=300.0), 5.0)
    target = Pullback(inner, Polar())
    assert (target.exact, target.temperature, target.event_shape) == (False, 300.0, (2,))
    hot = target.at(600.0)
    assert isinstance(hot, Pullback)
    assert isinstance(hot.inner, Softened)
    assert hot.bijection is target.bijection
    assert (hot.exact, hot.temperature) == (False, 600.0)


def test_shapes_that_do_not_fit_are_refused_when_it_is_built():
    with pytest.raises(InputError, match=r"pass event_shape=d"):
        Pullback(Harmonic(), lambda y: (y, y[:, 0]))
    with pytest.raises(InputError, match=r"of shape \(3,\); got out_shape \(2,\)"):
        Pullback(Harmonic(3), Polar())
    with pytest.raises(InputError, match=r"x must have shape \(n, 2\); got \(4, 3\)"):
        Pullback(Harmonic(), Polar()).evaluate(torch.zeros(4, 3))
