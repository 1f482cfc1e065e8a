"""Several molecules: tied at their ends, each with the six degrees of freedom that it has beside another."""

import math

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from boltzgen import InternalCoordinates, Molecule, Pullback, anneal, draw, log_partition, molecular_flow
from boltzgen.coordinates.linking import links
from boltzgen.errors import InputError
from boltzgen.units import kT

WATER = (["O", "H", "H"], [(0, 1), (0, 2)], [[0, 0, 0], [0.096, 0, 0], [-0.024, 0.093, 0]])
ION = (["Na"], [], [[0, 0, 0]])
CYANIDE = (["H", "C", "N"], [(0, 1), (1, 2)], [[0, 0, 0], [0.107, 0, 0], [0.223, 0, 0]])
DIMER = (["Cl", "Cl"], [(0, 1)], [[0, 0, 0], [0.199, 0, 0]])
METHANE = (
    ["C", "H", "H", "H", "H"],
    [(0, 1), (0, 2), (0, 3), (0, 4)],
    0.063 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
)
RING = (["C", "C", "C"], [(0, 1), (1, 2), (0, 2)], [[0, 0, 0], [0.15, 0, 0], [0.075, 0.13, 0]])
CLUSTERS = {
    "two waters": [WATER, WATER],
    "water and ion": [WATER, ION],
    "three ions": [ION, ION, ION],
    "methane, water, ion": [METHANE, WATER, ION],
    "methane and hydrogen cyanide": [METHANE, CYANIDE],
    "water and chlorine": [WATER, DIMER],
    "ion, methane, chlorine": [ION, METHANE, DIMER],
}


def together(*molecules, spring=500.0):
    """The molecules a third of a nanometre from each other, bonds and angles harmonic, each tied to the first by a
    harmonic spring between first atoms."""
    topology, system, x = app.Topology(), openmm.System(), []
    chain, bond, angle = topology.addChain("A"), openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    hold = openmm.CustomBondForce(f"0.5*{spring}*r^2")
    for k, (elements, bonds, positions) in enumerate(molecules):
        residue, first = topology.addResidue(f"M{k}", chain), len(x)
        atoms = [topology.addAtom(f"{e}{i}", app.Element.getBySymbol(e), residue) for i, e in enumerate(elements)]
        for element in elements:
            system.addParticle(app.Element.getBySymbol(element).mass)
        x += (np.array(positions, dtype=float) + np.array([0.31 * k, 0.12 * k, 0.1 * k * k])).tolist()
        for i, j in bonds:
            topology.addBond(atoms[i], atoms[j])
            bond.addBond(first + i, first + j, math.dist(positions[i], positions[j]), 2e5)
        for i, j in bonds:
            for m, n in bonds:
                if j != n and i == m and j < n:
                    v, w = (np.subtract(positions[q], positions[i]) for q in (j, n))
                    theta = math.acos(v @ w / np.linalg.norm(v) / np.linalg.norm(w))
                    angle.addAngle(first + j, first + i, first + n, theta, 400.0)
        if k:
            hold.addBond(0, first, [])
    for force in (bond, angle, hold):
        system.addForce(force)
    return Molecule.from_openmm(system, topology, np.array(x) * unit.nanometer)


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_atom_of_every_molecule_is_placed_and_comes_back(name, near, square_map):
    cluster = together(*CLUSTERS[name])
    coordinates = InternalCoordinates(cluster)
    assert sorted(row.atom for row in coordinates.zmatrix) == list(range(cluster.n_atoms))
    y = near(coordinates, 20)
    x = coordinates(y)[0]
    back, log_det = coordinates.inverse(x)
    assert torch.isfinite(log_det).all()
    again = coordinates(back)[0]
    assert (torch.cdist(again, again) - torch.cdist(x, x)).abs().max() < 1e-6  # by squares of distances
    torch.testing.assert_close(coordinates(back)[1], -log_det)
    motion = torch.tensor([0.3, -0.2, 0.1, 0.7, 1.1, -2.0], dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda p: square_map(coordinates, p))(torch.cat([motion, y[0]]))
    expected = torch.linalg.slogdet(jacobian).logabsdet - motion[4].sin().log()
    torch.testing.assert_close(coordinates(y)[1][0], expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", CLUSTERS)
def test_molecules_turn_freely_beside_each_other(name):
    """Wherever they are and however they are turned, they lie in the chart; nothing is a sibling across a link."""
    cluster = together(*CLUSTERS[name])
    coordinates, generator = InternalCoordinates(cluster), torch.Generator().manual_seed(0)
    tied = [set(pair) for pair in links(cluster.positions, cluster.bonds, cluster.atom_labels)]
    assert len(tied) == len(CLUSTERS[name]) - 1
    assert sum(label.startswith("distance") for label in coordinates.labels) == len(tied)
    for row in coordinates.zmatrix[3:]:
        if {row.atom, row.bond} in tied or {row.bond, row.angle} in tied:
            assert row.kind == "circular"
    x, start = torch.tensor(cluster.positions).repeat(1000, 1, 1), 0
    for elements, _, _ in CLUSTERS[name]:
        atoms = slice(start, start + len(elements))
        turns = torch.linalg.qr(torch.randn(1000, 3, 3, generator=generator, dtype=x.dtype))[0]
        turns = turns * torch.linalg.det(turns)[:, None, None]
        centre = x[:, atoms].mean(1, keepdim=True)
        x[:, atoms] = (x[:, atoms] - centre) @ turns + torch.randn(1000, 1, 3, generator=generator, dtype=x.dtype)
        start += len(elements)
    assert coordinates.leaks(x) == {}


@pytest.mark.parametrize(("molecules", "ring"), [((WATER, RING), "M1"), ((RING, ION), "M0")])
def test_a_molecule_without_ends_is_refused(molecules, ring):
    with pytest.raises(InputError, match=rf"an atom with one neighbour at most; got none in that of {ring}"):
        InternalCoordinates(together(*molecules))


def test_a_guest_on_the_axis_of_its_host():
    """Collinear it is refused with the way out; where that is the minimum, means of angles keep off the poles."""
    carbon_dioxide = (["C", "O", "O"], [(0, 1), (0, 2)], [[0, 0, 0], [-0.12, 0, 0], [0.12, 0, 0]])
    on_the_axis = (["Na"], [], [[0, -0.12, -0.1]])
    with pytest.raises(InputError, match="or move one of several molecules aside"):
        InternalCoordinates(together(carbon_dioxide, on_the_axis))
    molecule = together(WATER, ION, spring=200.0)  # the minimum has the ion on the oxygen
    coordinates = InternalCoordinates(molecule)
    target = Pullback(molecule.energy(300.0), coordinates)
    untrained = draw(molecular_flow(coordinates.circular, *coordinates.harmonic_scales(300.0)), target, 4000, seed=1)
    assert untrained.u.isfinite().double().mean() > 0.9


def test_log_z_of_a_water_and_an_ion_on_a_spring_is_the_exact_one():
    """The ion is linked to a hydrogen, its spring goes to the oxygen: log Z is that of the water + 3/2 log 2π kT/k."""
    molecule = together(WATER, ION, spring=200.0)
    coordinates = InternalCoordinates(molecule)
    target = Pullback(molecule.energy(300.0), coordinates)
    flow = molecular_flow(coordinates.circular, *coordinates.harmonic_scales(1200.0), stiff_hidden=(32, 32))
    anneal(flow, target, hot=1200.0, steps=500, progress=False)
    samples = draw(flow, target, 20_000, seed=1)
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    log_z = 1.5 * math.log(2 * math.pi * kT(300.0) / 200.0)
    angle = math.acos(np.dot(*(np.divide(v, np.linalg.norm(v)) for v in WATER[2][1:])))
    for length in (np.linalg.norm(v) for v in WATER[2][1:]):
        log_z += math.log(torch.trapezoid(grid**2 * (-(2e5 / 2) * (grid - length) ** 2 / kT(300.0)).exp(), grid))
    theta = math.pi * grid
    log_z += math.log(torch.trapezoid(theta.sin() * (-(400.0 / 2) * (theta - angle) ** 2 / kT(300.0)).exp(), theta))
    found = log_partition(samples.log_w)
    assert found.standard_error < 0.02
    assert abs(found.value - log_z) < 4 * found.standard_error
    wrong = log_z + 1.5 * math.log(1.1)  # a power twin: a spring that is a tenth softer
    assert abs(found.value - wrong) > 4 * found.standard_error
