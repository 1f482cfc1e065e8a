"""The measure, exactly: against the square map, a closed form, and with rotors folded or not."""

import math

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from boltzgen.coordinates import InternalCoordinates, dihedral, z_matrix
from boltzgen.energies import Energy, Pullback
from boltzgen.molecule import Molecule
from boltzgen.sampling.dynamics import replica_exchange
from boltzgen.units import kT


@pytest.mark.parametrize("name", ["butane", "benzene", "PRO", "alanine"])
def test_log_det_is_that_of_the_square_map(structures, alanine, name, near, square_map):
    coordinates = InternalCoordinates(alanine if name == "alanine" else structures[name])
    y = near(coordinates, 2)
    for row, log_det in zip(y, coordinates(y)[1], strict=True):
        motion = torch.tensor([0.3, -0.2, 0.1, 0.7, 1.1, -2.0], dtype=torch.float64)
        p = torch.cat([motion, row])
        jacobian = torch.autograd.functional.jacobian(lambda p: square_map(coordinates, p), p)
        expected = torch.linalg.slogdet(jacobian).logabsdet - motion[4].sin().log()  # rigid motion has sin β
        torch.testing.assert_close(log_det, expected, atol=1e-9, rtol=0)


CHAIN = {"bonds": [(0, 1), (1, 2), (2, 3), (2, 4)], "elements": ["C"] * 5}
BOND, ANGLE = (0.15, 1.5e4), (1.9, 60.0)  # nm, kJ/mol/nm²; rad, kJ/mol/rad²: soft, so that the measure matters


@pytest.fixture(scope="module")
def harmonic():
    """Five atoms held together by harmonic bonds and by a harmonic spring on each angle of the z-matrix."""
    rows = z_matrix(5, **CHAIN)
    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    atoms = [topology.addAtom(f"C{k}", app.Element.getBySymbol("C"), residue) for k in range(5)]
    bonds, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    for _ in atoms:
        system.addParticle(12.0)
    for i, j in CHAIN["bonds"]:
        topology.addBond(atoms[i], atoms[j])
        bonds.addBond(i, j, *BOND)
    for row in rows[2:]:
        angles.addAngle(*row[:3], *ANGLE)
    system.addForce(bonds)
    system.addForce(angles)
    positions = np.array([[0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0], [0.3, 0.14, 0.1], [0.1, 0.24, 0.05]])
    return Molecule.from_openmm(system, topology, positions)


def harmonic_log_partition(temperature):
    """Closed form: the integrals over one r and one θ, as often as there are, 2π for a torsion, π for a sibling's."""
    r, theta = torch.linspace(1e-6, 0.6, 200_001).double(), torch.linspace(0, math.pi, 200_001).double()
    bond = torch.trapezoid(r**2 * (-BOND[1] / 2 * (r - BOND[0]) ** 2 / kT(temperature)).exp(), r)
    angle = torch.trapezoid(theta.sin() * (-ANGLE[1] / 2 * (theta - ANGLE[0]) ** 2 / kT(temperature)).exp(), theta)
    return (4 * bond.log() + 3 * angle.log()).item() + math.log(2 * math.pi) + math.log(math.pi)


def test_harmonic_molecule_has_the_log_partition_of_its_closed_form(harmonic, draws):
    temperature, n = 300.0, 20_000
    coordinates = InternalCoordinates(harmonic)
    assert [row.kind for row in coordinates.zmatrix[3:]].count("sibling") == 1
    target = Pullback(harmonic.energy(temperature), coordinates)
    sigma = [1.2 * math.sqrt(kT(temperature) / k) for k in (BOND[1], ANGLE[1])]
    law = torch.distributions.Normal(
        torch.tensor([BOND[0]] * 4 + [ANGLE[0]] * 3).double(), torch.tensor([sigma[0]] * 4 + [sigma[1]] * 3).double()
    )
    y = draws(coordinates, n)
    z = torch.randn(n, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y[:, :7] = law.mean + law.stddev * z
    log_q = law.log_prob(y[:, :7]).sum(-1) - math.log(2 * math.pi) - math.log(math.pi)

    def log_partition(log_w):
        w = (log_w - log_w.max()).exp()
        return (w.mean().log() + log_w.max()).item(), (w.std() / w.mean() / math.sqrt(n)).item()

    log_w = -target.energy(y) - log_q
    value, error = log_partition(log_w)
    exact = harmonic_log_partition(temperature)
    assert error < 0.02
    assert abs(value - exact) < 4 * error
    first_three = 2 * y[:, :2].clamp_min(1e-9).log().sum(-1) + y[:, 4].sin().clamp_min(1e-9).log()
    volume = first_three.mean()  # even if its mean were made good, the dropped term would show
    value, error = log_partition(log_w - first_three + volume)
    assert abs(value - exact) > 4 * error


def test_folding_does_not_change_log_z(structure, draws):
    """A hindered, floppy rotor: importance sampling with and without the fold agrees once log 3 is counted."""

    def u(x):
        azimuths = [dihedral(x, (k, 2, 1, 0)) for k in (3, 4, 5)]
        lengths = [(x[:, i] - x[:, j]).norm(dim=-1) for i, j in [(3, 4), (4, 5), (5, 3)]]
        return sum(100 * (r - 0.2) ** 2 for r in lengths) + sum(a.cos() + 0.8 * (2 * a + 0.5).cos() for a in azimuths)

    hydroperoxide = structure([(0, 1), (1, 2), (2, 3), (2, 4), (2, 5)], ["O", "O", "C", "H", "H", "H"], u=u)
    values = {}
    for fold in (True, False):
        coordinates = InternalCoordinates(hydroperoxide, fold=fold)
        assert len(coordinates.rotors) == fold
        y = draws(coordinates, 50_000, seed=int(fold))
        x, log_det = coordinates(y)
        # the law of the draws: the sibling behind is uniform on an interval as long as the azimuth of the one ahead
        log_q = -(y[:, -2 if coordinates._opposite[0] == 1 else -1]).log()
        w = (-u(x) + log_det + coordinates.log_symmetry - log_q).exp()
        values[fold] = (w.mean().log().item(), (w.std() / w.mean() / math.sqrt(len(w))).item())
    error = math.hypot(values[True][1], values[False][1])
    assert error < 0.03
    assert abs(values[True][0] - values[False][0]) < 4 * error
    assert abs(values[True][0] - math.log(3) - values[False][0]) > 4 * error


def test_bond_and_angle_of_a_dynamics_of_three_atoms_have_the_charts_measure(structure):
    """Trap 4: Cartesian sampling knows nothing of r1² r2² sin θ; without it the chart's averages are another law's."""

    class Floppy(Energy):
        """Two soft bonds, a soft angle and an attraction of the ends, in kT."""

        def __init__(self):
            super().__init__((3, 3), temperature=300.0)

        def _energy(self, x):
            a, b = x[:, 0] - x[:, 1], x[:, 2] - x[:, 1]
            return self.internal(a.norm(dim=-1), b.norm(dim=-1), (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)))

        @staticmethod
        def internal(r1, r2, cosine):
            return 300 * ((r1 - 0.15) ** 2 + (r2 - 0.2) ** 2) + 1.5 * cosine + 2 * r1 * r2

    water = structure([(0, 1), (1, 2)], ["H", "O", "H"], np.array([[0.15, 0, 0], [0, 0, 0], [-0.05, 0.2, 0]]))
    coordinates = InternalCoordinates(water)
    r = torch.linspace(0.002, 0.6, 80).double()
    theta = (torch.arange(200).double() + 0.5) * math.pi / 200
    y = torch.cartesian_prod(r, r, theta)
    x, log_det = coordinates(y)
    energy = Floppy()

    def functions(x):
        a, b = x[..., 0, :] - x[..., 1, :], x[..., 2, :] - x[..., 1, :]
        return torch.stack([a.norm(dim=-1), b.norm(dim=-1), (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))], -1)

    u = energy.energy(x)
    exact, wrong = ((torch.softmax(log_p, 0)[:, None] * functions(x)).sum(0) for log_p in (log_det - u, -u))
    run = replica_exchange(
        energy,
        torch.tensor(water.positions),
        temperatures=[300.0, 600.0],
        walkers=64,
        rounds=400,
        equilibration=100,
        steps=10,
        step_size=0.05,
        masses=1.0,
        seed=1,
    )
    means = functions(run.x).mean(0)  # of each walker
    value, error = means.mean(0), means.std(0) / math.sqrt(len(means))
    assert (error < 0.01).all()
    assert ((value - exact).abs() < 4 * error).all()
    assert ((value - wrong).abs() > 4 * error).all()
