"""−NH₂ turned inside out is −NH₂ with its hydrogens exchanged: one labelling in the chart, log 2 for the other."""

import math

import numpy as np
import openmm
import pytest
import torch
from openmm import app

import boltzgen as bg
from boltzgen.coordinates import InternalCoordinates, dihedral
from boltzgen.molecule import Molecule
from boltzgen.units import kT

LABELS = ["C", "N", "HC1", "HC2", "HC3", "HN1", "HN2"]
BONDS = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6)]
HYDROGENS = (5, 6)


@pytest.fixture(scope="module")
def methylamine():
    """Of springs; the planar amine lies 3 kT above the pyramid at 300 K."""
    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    atoms = [topology.addAtom(label, app.Element.getBySymbol(label[0]), residue) for label in LABELS]
    stretch, bend = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    for atom in atoms:
        system.addParticle(atom.element.mass)
    for i, j in BONDS:
        topology.addBond(atoms[i], atoms[j])
        stretch.addBond(i, j, 0.147 if j == 1 else 0.105, 3e5)
    for centre, around in ((0, [1, 2, 3, 4]), (1, [0, 5, 6])):
        for k, i in enumerate(around):
            for j in around[:k]:
                bend.addAngle(i, centre, j, 1.911, 150.0 if centre else 400.0)
    system.addForce(stretch)
    system.addForce(bend)
    azimuths = np.radians([60, 180, 300, 0, 120])
    x = np.zeros((7, 3))
    x[1, 0] = 0.147
    x[2:, 0] = [-0.035] * 3 + [0.182] * 2
    x[2:, 1:] = 0.099 * np.stack([np.cos(azimuths), np.sin(azimuths)], 1)
    return Molecule.from_openmm(system, topology, x, name="methylamine")


@pytest.fixture(scope="module")
def frames(methylamine):
    run = bg.simulate(
        methylamine.energy(300.0), methylamine.positions, methylamine.masses / kT(300.0),
        walkers=32, steps=600, thin=100, step_size=1e-3, friction=10.0, seed=1,
    )  # fmt: skip
    return run.x.flatten(0, 1).double()


def swapped(x):
    order = list(range(x.shape[1]))
    order[5], order[6] = HYDROGENS[::-1]
    return x[:, order]


def test_the_exchange_is_found_and_counted(methylamine):
    coordinates = InternalCoordinates(methylamine)
    assert coordinates.exchanges == [HYDROGENS]
    assert [sorted(rotor.members) for rotor in coordinates.rotors] == [[2, 3, 4]]  # the methyl behind the amine
    assert coordinates.log_symmetry == pytest.approx(math.log(2) + math.log(3))
    x = torch.tensor(methylamine.positions)[None]
    free = InternalCoordinates(methylamine, fold=False)
    volume = coordinates.inverse(x)[1] - math.log(3)  # an exchange folds nothing: no volume changes
    torch.testing.assert_close(volume, free.inverse(x)[1])
    assert (free.exchanges, free.log_symmetry) == ([], 0)


def test_a_dynamics_that_inverts_the_amine_stays_in_the_chart(methylamine, frames):
    coordinates = InternalCoordinates(methylamine)
    assert coordinates.leaks(frames) == {}
    inside = coordinates.into_chart(frames)
    turned = (inside != frames)[:, HYDROGENS].flatten(1).any(1)
    assert 0.02 < turned.double().mean() < 0.98
    assert torch.equal(inside[turned][:, HYDROGENS], frames[turned][:, HYDROGENS[::-1]])
    assert torch.equal(coordinates.into_chart(inside), inside)
    y, log_det = coordinates.inverse(frames)
    assert torch.isfinite(log_det).all()
    again = coordinates.inverse(swapped(frames))[0]
    torch.testing.assert_close(again, y, rtol=0, atol=1e-9)
    x = coordinates(y)[0]
    torch.testing.assert_close(torch.cdist(x, x), torch.cdist(inside, inside), rtol=0, atol=1e-7)
    free = InternalCoordinates(methylamine, fold=False)
    assert free.leaks(frames) == {}  # where nothing is exchanged, the amine turns inside out in the chart
    assert torch.equal(free.into_chart(frames), frames)


def test_hydrogens_that_the_energy_tells_apart_are_not_exchanged(methylamine):
    system = openmm.XmlSerializer.clone(methylamine.system)
    charged = openmm.CustomBondForce("100*r")
    charged.addBond(HYDROGENS[0], 2)
    system.addForce(charged)
    molecule = Molecule.from_openmm(system, methylamine.topology, methylamine.positions)
    coordinates = InternalCoordinates(molecule)
    assert (coordinates.exchanges, coordinates.log_symmetry) == ([], 0)
    x = torch.tensor(methylamine.positions)[None]
    for labelling in (x, swapped(x)):
        assert torch.isfinite(coordinates.inverse(labelling)[1])


@pytest.mark.parametrize("elements", ["OCNHH", "HNNHH"])
def test_log_z_is_that_of_a_chart_in_which_the_amine_inverts(structure, draws, elements):
    """A floppy amine, by importance sampling: half of the configurations, and log 2."""

    def u(x):
        azimuths = [dihedral(x, (k, 2, 1, 0)) for k in (3, 4)]
        apart = (x[:, 3] - x[:, 4]).norm(dim=-1)
        return 100 * (apart - 0.15) ** 2 + sum(a.cos() + 0.8 * (2 * a + 0.5).cos() for a in azimuths)

    positions = np.array([[0.1, 0.1, 0], [0, 0, 0], [0.14, 0, 0], [0.18, 0.09, 0.01], [0.18, -0.05, 0.09]])
    bonds = [(0, 1), (1, 2), (2, 3), (2, 4)]
    amine = structure(bonds, list(elements), positions, u=u)
    values = {}
    for fold in (True, False):
        coordinates = InternalCoordinates(amine, fold=fold)
        assert coordinates.exchanges == [(3, 4)] * fold
        x, log_det = coordinates(draws(coordinates, 50_000, seed=int(fold)))
        (sibling,) = (k for k, row in enumerate(coordinates.zmatrix[3:]) if row.kind == "sibling")
        log_q = -torch.log(2 * coordinates._reach[sibling, 0])  # all else is drawn alike
        w = (-u(x) + log_det + coordinates.log_symmetry - log_q).exp()
        values[fold] = w.mean().log().item(), (w.std() / w.mean() / math.sqrt(len(w))).item()
    error = math.hypot(values[True][1], values[False][1])
    assert error < 0.03
    assert abs(values[True][0] - values[False][0]) < 4 * error
    assert abs(values[True][0] - math.log(2) - values[False][0]) > 4 * error


def test_two_hydrogens_of_ammonia_are_exchanged(structure):
    positions = 0.1 * np.array([[0, 0, 0.4], [0.9, 0, 0], [-0.45, 0.78, 0], [-0.45, -0.78, 0]])
    coordinates = InternalCoordinates(structure([(0, 1), (0, 2), (0, 3)], list("NHHH"), positions))
    assert coordinates.exchanges == [(2, 3)]
    assert coordinates.log_symmetry == pytest.approx(math.log(2))
    mirrored = torch.tensor(positions * [1, 1, -1])[None]
    assert coordinates.leaks(mirrored) == {}
    torch.testing.assert_close(coordinates.inverse(mirrored)[0][0], coordinates.reference)
