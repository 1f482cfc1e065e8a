"""Tabulated functions: OpenMM's splines and lists."""

import numpy as np
import openmm
import pytest
import torch
from scipy.interpolate import CubicSpline

from boltzgen.energies.expressions import Table
from boltzgen.energies.expressions.tabulated import periodic_slopes
from boltzgen.errors import UnsupportedSystemError

EXACT = 1e-12
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n", [2, 3, 4, 9, 200])
@pytest.mark.parametrize("periodic", [False, True])
def test_splines_and_their_derivatives_are_those_of_the_textbook(n, periodic):
    if periodic and n == 2:
        return
    values = RNG.normal(size=n)
    if periodic:
        values[-1] = values[0]
    table = Table(openmm.Continuous1DFunction(values, -1.0, 2.0, periodic))
    spline = CubicSpline(np.linspace(-1, 2, n), values, bc_type="periodic" if periodic else "natural")
    t = np.linspace(-1, 2, 401)[1:-1]
    for order in range(4 if n > 2 else 2):
        found = table(order, torch.tensor(t)).numpy()
        knots = np.abs((t + 1) * (n - 1) / 3 % 1 - 0.5) > 0.4999  # the third derivative jumps there
        np.testing.assert_allclose(found[~knots], spline(t, order)[~knots], rtol=1e-9, atol=1e-9 * np.abs(found).max())


def test_a_spline_is_zero_beyond_its_ends_and_a_periodic_one_goes_on():
    open_ended = Table(openmm.Continuous1DFunction([1.0, 2.0, 1.0], 0.0, 1.0))
    t = torch.tensor([-0.1, 0.0, 1.0, 1.1], dtype=torch.float64)
    assert open_ended(0, t).tolist() == pytest.approx([0.0, 1.0, 1.0, 0.0])
    assert open_ended(1, t)[[0, 3]].tolist() == [0.0, 0.0]
    round_ = Table(openmm.Continuous1DFunction([1.0, 2.0, 0.0, 1.0], 0.0, 1.0, True))
    torch.testing.assert_close(round_(0, t + 3), round_(0, t))
    assert open_ended(0, torch.tensor([torch.nan])).isnan().all()
    assert round_(0, torch.tensor([torch.nan, torch.inf])).isnan().all()


def test_discrete_functions_take_the_nearest_entry():
    flat = RNG.normal(size=24)
    t = torch.tensor([0.0, 1.4, 1.6, 3.0], dtype=torch.float64)
    one = Table(openmm.Discrete1DFunction(flat[:4]))
    assert one(0, t).tolist() == flat[[0, 1, 2, 3]].tolist()
    assert one(1, t).tolist() == [0.0] * 4
    two = Table(openmm.Discrete2DFunction(4, 6, flat))
    three = Table(openmm.Discrete3DFunction(4, 3, 2, flat))
    assert two(0, t, torch.tensor(5.0, dtype=torch.float64)).tolist() == flat[20:].tolist()
    y, z = (torch.tensor(v, dtype=torch.float64) for v in (2.0, 1.0))
    assert three(0, t, y, z).tolist() == flat[20:].tolist()
    assert one(0, torch.tensor([-1.0, 4.0, torch.nan])).isnan().all()
    assert (two.arity, three.arity) == (2, 3)


def test_slopes_of_a_periodic_grid():
    values = RNG.normal(size=(8, 3))
    values[-1] = values[0]
    expected = CubicSpline(np.arange(8.0), values, bc_type="periodic")(np.arange(8.0), 1)
    np.testing.assert_allclose(periodic_slopes(values), expected, atol=EXACT)


def test_splines_of_several_variables_are_refused():
    with pytest.raises(UnsupportedSystemError, match="g must be a Continuous1DFunction or a discrete one"):
        Table(openmm.Continuous2DFunction(2, 2, [0.0] * 4, 0, 1, 0, 1), "g")
