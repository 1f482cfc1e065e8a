"""Harmonic scales: exact on harmonic energies, and right for a force field where it is cold."""

import math

import numpy as np
import pytest
import torch

from boltzgen.coordinates import InternalCoordinates
from boltzgen.coordinates.scales import _FORCE_CONSTANTS, _SOFTEST, harmonic_scales
from boltzgen.coordinates.symmetry import relabel
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


@pytest.mark.parametrize("curvature", [0.0, -1.0, -30.0])
def test_a_flat_or_negative_direction_falls_back_to_a_multiple_of_the_typical_width(chain, curvature):
    """A saddle, which minimising in the stiff coordinates cannot leave: in one coordinate, and in a mixture of two."""
    coordinates, unit, _ = chain
    m = coordinates.reference[~coordinates.circular]
    for direction in (torch.eye(len(unit), dtype=torch.float64)[-1], torch.eye(len(unit), dtype=torch.float64)[-2:]):
        v = direction.reshape(-1, len(unit)).sum(0) / math.sqrt(direction.sum())
        a = (torch.eye(len(unit), dtype=torch.float64) + (curvature - 1) * torch.outer(v, v)) / torch.outer(unit, unit)
        quadratic = Quadratic(coordinates, m, a)
        mean, factor = harmonic_scales(quadratic, coordinates, coordinates.circular, coordinates.reference)
        torch.testing.assert_close(mean, m, rtol=0, atol=1e-9)
        covariance = factor @ factor.T / torch.outer(unit, unit)
        expected = torch.eye(len(unit), dtype=torch.float64) + (1 / _SOFTEST - 1) * torch.outer(v, v)
        torch.testing.assert_close(covariance, expected, rtol=1e-4, atol=1e-4)


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


# ---------------------------------------------------------------------- from frames


@pytest.fixture(scope="module")
def framed(cold):
    """Coordinates, the harmonic mean and factor at 300 K, and a wider, shifted law N(m, L Lᵀ) with draws of it."""
    coordinates, _ = cold
    mean, factor = coordinates.harmonic_scales(300.0)
    d, g = len(mean), torch.Generator().manual_seed(0)
    mixed = factor @ (torch.eye(d) + 0.3 * torch.randn(d, d, generator=g, dtype=torch.float64) / math.sqrt(d))
    shifted = mean + 0.2 * factor.diagonal()
    y = coordinates.reference.repeat(8000, 1)
    y[:, ~coordinates.circular] = shifted + torch.randn(8000, d, generator=g, dtype=torch.float64) @ mixed.T
    turns = torch.rand(8000, int(coordinates.circular.sum()), generator=g, dtype=torch.float64)
    y[:, coordinates.circular] = 2 * math.pi * turns - math.pi
    return coordinates, (mean, factor), (shifted, mixed @ mixed.T), y


def relative(a, b):
    """Eigenvalues of a in units of b, both covariances."""
    half = torch.linalg.cholesky(b)
    return torch.linalg.eigvalsh(torch.linalg.solve(half, torch.linalg.solve(half, a).T))


def test_frames_give_back_the_law_they_were_drawn_from(framed):
    coordinates, (harmonic, harmonic_factor), (m, c), y = framed
    x, _ = coordinates(y)
    mean, factor = coordinates.frame_scales(relabel(x, coordinates.rotors[0], 1), 300.0)
    assert mean.dtype == factor.dtype == torch.float64
    assert torch.equal(factor, factor.tril())
    n, d = len(y), len(m)
    chi2 = n * torch.linalg.solve_triangular(factor, (mean - m)[:, None], upper=False).square().sum()
    assert chi2 < d + 4 * math.sqrt(2 * d)
    edge = math.sqrt(d / n)  # of Marchenko and Pastur's law
    values = relative(factor @ factor.T, c)
    assert (1 - edge) ** 2 - 0.03 < values.min() < values.max() < (1 + edge) ** 2 + 0.03
    assert relative(harmonic_factor @ harmonic_factor.T, c).max() > (1 + edge) ** 2 + 0.1
    assert ((harmonic - m) / factor.diagonal()).abs().mean() > 0.05


def test_a_direction_in_which_frames_do_not_move_keeps_its_harmonic_width(framed):
    coordinates, (_, harmonic), _, y = framed
    y = y.clone()
    y[:, 4] = coordinates.reference[4]  # a bond that was constrained
    _, factor = coordinates.frame_scales(coordinates(y)[0], 300.0)
    found, expected = (torch.linalg.inv(f @ f.T)[4, 4] ** -0.5 for f in (factor, harmonic))
    assert 0.7 < found / expected < 1.4  # given all else; the frames' own would be zero


def test_too_few_frames_leave_the_harmonic_scales(framed):
    coordinates, harmonic, _, y = framed
    few = coordinates(y[:50])[0].repeat(10, 1, 1)
    with pytest.warns(UserWarning, match=r"at least 106 different ones to tell how 53 stiff .* got 50: the harmonic"):
        found = coordinates.frame_scales(few, 300.0)
    for a, b in zip(found, harmonic, strict=True):
        torch.testing.assert_close(a, b)


def test_frames_of_the_mirror_image_have_no_scales(framed):
    coordinates, _, _, y = framed
    with pytest.raises(InputError, match="of the mirror image"):
        coordinates.frame_scales(-coordinates(y[:200])[0], 300.0)
