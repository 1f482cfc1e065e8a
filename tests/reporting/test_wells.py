"""Basins of a law with known wells: their number, their limits, their populations within their errors."""

import math

import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.reporting import basins

N = 20_000
CENTRES = torch.tensor([-120.0, 60.0]).deg2rad().double()  # of phi; psi has one well, across ±180°


def law(shares, n=N, seed=0):
    """phi of two wells with these shares drawn, psi of one."""
    generator = torch.Generator().manual_seed(seed)
    second = torch.rand(n, generator=generator) < shares[1]
    noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
    phi = CENTRES[second.long()] + math.radians(15) * noise[0]
    return phi, math.pi + math.radians(20) * noise[1], second


def test_populations_are_those_of_the_target_not_of_the_flow(chain):
    phi, psi, second = law((0.5, 0.5))
    log_w = torch.where(second, math.log(0.2), math.log(1.8)).double()  # 90 % and 10 %
    first, other = basins(chain(phi, psi, log_w))
    for basin, share, centre in ((first, 0.9, -120.0), (other, 0.1, 60.0)):
        assert abs(basin.population.value - share) < 4 * basin.population.standard_error < 0.02
        assert basin.flow == pytest.approx(0.5, abs=0.02)
        assert basin.centre == {"phi": pytest.approx(centre, abs=1)}  # psi divides nothing
        low, high = basin.limits["phi"]
        assert (centre - low) % 360 > 60
        assert (high - centre) % 360 > 60
    assert first.free_energy is None
    assert abs(other.free_energy.value - math.log(9)) < 4 * other.free_energy.standard_error < 0.2
    # the twin: a population taken from the flow would be found out
    assert abs(other.flow - 0.1) > 50 * other.population.standard_error


def test_wells_lie_side_by_side_around_the_circle(chain):
    phi, psi, _ = law((0.5, 0.5))
    one, two = (basin.limits["phi"] for basin in basins(chain(phi, psi)))
    assert one == two[::-1]


def test_both_torsions_divide(chain):
    phi, psi, _ = law((0.5, 0.5))
    found = basins(chain(phi, torch.where(torch.arange(N) % 3 == 0, psi, psi + math.pi)))
    assert len(found) == 4
    assert sum(basin.population.value for basin in found) == pytest.approx(1)
    assert [round(3 * basin.population.value, 1) for basin in found] == [1.0, 1.0, 0.5, 0.5]
    assert len(basins(chain(phi, psi), most=1)) == 1


def test_a_ripple_and_a_handful_of_draws_are_no_well(chain):
    generator = torch.Generator().manual_seed(1)
    phi = 2 * math.pi * torch.rand(N, generator=generator, dtype=torch.float64) - math.pi
    (single,) = basins(chain(phi, phi, 0.3 * (3 * phi).cos()))  # barriers of 0.6 kT
    assert (single.limits, single.population.value) == ({}, 1.0)
    few, psi, _ = law((1.0, 0.0))
    few[:20] = CENTRES[1]
    assert len(basins(chain(few, psi))) == 1
    few[:200] = CENTRES[1]
    assert len(basins(chain(few, psi))) == 2


def test_failed_draws_belong_to_no_equilibrium(chain):
    phi, psi, second = law((0.5, 0.5))
    log_w = torch.where(second, -math.inf, 0.0).double()
    (single,) = basins(chain(phi, psi, log_w, potential=torch.zeros(N)))
    assert single.population.value == 1.0


def test_what_has_no_torsions_has_no_basins(chain):
    with pytest.raises(InputError, match="torsions must name at least one"):
        basins(chain([0.1], [0.1], torsions={}))
    with pytest.raises(InputError, match="a draw of finite energy"):
        basins(chain([0.1], [0.1], [-math.inf], potential=torch.zeros(1)))
