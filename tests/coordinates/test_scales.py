"""Harmonic scales: exact on harmonic energies, and right for a force field where it is cold."""

import math

import numpy as np
import pytest
import torch

from boltzgen.coordinates import InternalCoordinates
from boltzgen.coordinates.scales import _FORCE_CONSTANTS, _SOFTEST, harmonic_scales
from boltzgen.energies.energy import Energy
from boltzgen.errors import EnergyError, InputError
from boltzgen.molecule import Molecule
from boltzgen.units import kT


class Quadratic(Energy):
    """½ (y − m)ᵀ A (y − m) in the stiff coordinates."""

    def __init__(self, coordinates, m, a):
        super().__init__((coordinates.n_atoms, 3), 300.0)
        self.coordinates, self.m, self.a = coordinates, m, a

    def _energy(self, x):
        d = self.coordinates._inverse(x, None)[0][:, ~self.coordinates.circular] - self.m
        return 0.5 * ((d @ self.a) * d).sum(-1)


@pytest.fixture(scope="module")
def chain(butane):
    """Butane's coordinates, the typical width of each stiff one at 300 K, and a generator."""
    coordinates = InternalCoordinates(butane)
    widths = [math.sqrt(kT(300.0) / k) for k in _FORCE_CONSTANTS]
    unit = torch.tensor([widths[0]] * 13 + [widths[1]] * 12 + [widths[2]] * 11, dtype=torch.float64)
    return coordinates, unit[~coordinates.circular], torch.Generator().manual_seed(0)


def test_a_quadratic_energy_gives_back_its_mean_and_covariance(chain):
    coordinates, unit, g = chain
    d = len(unit)
    noise = torch.randn(d, d, generator=g, dtype=torch.float64)
    a = torch.eye(d) + 0.2 * noise @ noise.T / d
    a = a / unit[:, None] / unit
    y = coordinates.reference
    m = y[~coordinates.circular] + unit * torch.randn(d, generator=g, dtype=torch.float64)
    mean, factor = harmonic_scales(Quadratic(coordinates, m, a), coordinates, coordinates.circular, y)
    assert mean.dtype == factor.dtype == torch.float64
    assert ((mean - m) / unit).abs().max() < 1e-3
    torch.testing.assert_close((factor @ factor.T) / unit[:, None] / unit, torch.linalg.inv(a) / unit[:, None] / unit)
    assert torch.equal(factor, factor.tril())


def test_a_flat_direction_falls_back_to_a_multiple_of_the_typical_width(chain):
    coordinates, unit, _ = chain
    a = torch.diag(1 / unit**2)
    a[-1, -1] = 0.0
    m = coordinates.reference[~coordinates.circular]
    _, factor = harmonic_scales(Quadratic(coordinates, m, a), coordinates, coordinates.circular, coordinates.reference)
    widths = factor.diagonal() / unit
    torch.testing.assert_close(widths[:-1], torch.ones_like(widths[:-1]), rtol=1e-5, atol=0)
    torch.testing.assert_close(widths[-1], torch.tensor(_SOFTEST**-0.5, dtype=torch.float64), rtol=1e-5, atol=0)


def test_an_energy_that_is_infinite_at_the_minimum_is_an_error(chain):
    coordinates, unit, _ = chain
    m = torch.full_like(unit, math.nan)
    with pytest.raises(EnergyError, match="must be finite"):
        harmonic_scales(
            Quadratic(coordinates, m, torch.eye(len(unit), dtype=torch.float64)),
            coordinates,
            coordinates.circular,
            coordinates.reference,
        )


def test_the_mean_stays_in_the_chart_where_the_minimum_does_not(chain):
    """A hydrogen drawn to the other side of its carbon: the Newton steps end at the border."""
    coordinates, unit, _ = chain
    m = coordinates.reference[~coordinates.circular].clone()
    m[next(i for i, sign in enumerate(m[25:].sign(), start=25) if sign < 0)] *= -1
    quadratic = Quadratic(coordinates, m, (1 / unit.square()).diag())
    y = coordinates.reference.clone()
    y[~coordinates.circular], _ = harmonic_scales(quadratic, coordinates, coordinates.circular, y)
    assert torch.isfinite(coordinates(y[None])[1]).all()


def test_a_structure_that_minimises_to_another_hand_is_refused(alanine):
    x, place = alanine.positions.copy(), alanine.atom_labels.index
    centre, hydrogen, *others = (place(f"ALA2-{name}") for name in ("CA", "HA", "N", "C", "CB"))
    a, b, c = x[others]
    normal = np.cross(b - a, c - a) / np.linalg.norm(np.cross(b - a, c - a))
    x[hydrogen] -= 2 * ((x[hydrogen] - x[centre]) @ normal) * normal
    coordinates = InternalCoordinates(Molecule.from_openmm(alanine.system, alanine.topology, x))
    with pytest.raises(InputError, match=r"got another sign or side of improper ALA2-CB .*: build the coordinates"):
        coordinates.harmonic_scales(300.0)


@pytest.fixture(scope="module")
def cold(alanine):
    """Coordinates of alanine dipeptide and their values at the minimum."""
    coordinates = InternalCoordinates(alanine)
    return coordinates, coordinates.inverse(torch.tensor(alanine.minimized().positions)[None])[0]


def test_cold_alanine_dipeptide_is_harmonic(alanine, cold):
    """u − u_min of draws from N(m, L Lᵀ) is half a χ² of 53 degrees of freedom; without the correlations it is not."""
    coordinates, minimum = cold
    n, d = 2000, 53
    energy = alanine.energy(3.0)
    mean, factor = harmonic_scales(energy, coordinates, coordinates.circular, minimum[0])
    assert mean.shape == (d,)
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = torch.cat([torch.zeros(1, d, dtype=torch.float64), z])

    def mean_energy(factor):
        y = minimum.repeat(n + 1, 1)
        y[:, ~coordinates.circular] = mean + z @ factor.T
        with torch.no_grad():
            u = energy.energy(coordinates(y)[0])
        return (u[1:] - u[0]).mean().item()

    tolerance = 4 * math.sqrt(d / 2 / n) + 0.02 * d / 2  # noise, and what is left of anharmonicity at 3 K
    assert abs(mean_energy(factor) - d / 2) < tolerance
    uncorrelated = (factor @ factor.T).diagonal().sqrt().diag()
    assert abs(mean_energy(uncorrelated) - d / 2) > 2 * tolerance


def test_scales_of_a_molecule_grow_with_the_root_of_the_temperature(alanine, cold):
    coordinates, minimum = cold
    mean, factor = harmonic_scales(alanine.energy(300.0), coordinates, coordinates.circular, minimum[0])
    hot_mean, hot_factor = coordinates.harmonic_scales(1200.0)
    assert ((mean - hot_mean) / hot_factor.diagonal()).abs().max() < 1e-2
    torch.testing.assert_close(hot_factor, 2 * factor, rtol=1e-3, atol=1e-5)
