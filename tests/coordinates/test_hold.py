"""Torsions that are held: near the reference, and log Z without what lies elsewhere."""

import math

import numpy as np
import pytest
import torch
from corpus import corpus

from boltzgen import Pullback, draw, molecular_flow
from boltzgen.coordinates import InternalCoordinates, dihedral
from boltzgen.coordinates.geometry import wrap
from boltzgen.errors import InputError
from boltzgen.molecule import Molecule

AMIDES = ["omega_1", "omega_2"]


@pytest.fixture(scope="module")
def held(alanine):
    return InternalCoordinates(alanine, hold=AMIDES)


def cis_share(coordinates, molecule):
    """Of hot draws from the harmonic approximation with a weight, those with an amide more than π/2 from trans."""
    flow = molecular_flow(coordinates.circular, *coordinates.harmonic_scales(1200.0))
    samples = draw(flow, Pullback(molecule.energy(1200.0), coordinates), 4000, seed=1)
    y = samples.x[torch.isfinite(samples.log_w)].double()
    assert len(y) > 3000
    trans = torch.stack([coordinates.torsion(y, name).cos() < 0 for name in AMIDES], 1).all(1)
    return 1 - trans.double().mean().item()


def test_no_draw_is_cis(alanine, held):
    assert cis_share(held, alanine) == 0.0
    assert cis_share(InternalCoordinates(alanine), alanine) > 0.5


def test_a_held_torsion_is_a_stiff_coordinate(alanine, held):
    free = InternalCoordinates(alanine)
    assert held.labels == free.labels
    assert held.log_symmetry == free.log_symmetry
    stiffened = [label for label, a, b in zip(free.labels, free.circular, held.circular, strict=True) if a and not b]
    assert len(stiffened) == int(free.circular.sum()) - int(held.circular.sum()) == 2
    y = held.reference.clone()
    column = held.labels.index(stiffened[0])
    name = next(name for name in AMIDES if torch.equal(held.torsion(y[None], name), wrap(y[None, column])))
    for turn, inside in ((1.5, True), (-1.5, True), (1.6, False), (-1.6, False)):
        turned = y.clone()
        turned[column] += turn
        x, log_det = held(turned[None])
        assert bool(torch.isfinite(log_det)) == inside
        x = free(turned[None])[0]
        assert bool(torch.isfinite(held.inverse(x)[1])) == inside
        assert list(held.leaks(x)) == ([] if inside else [stiffened[0]])
        assert wrap(dihedral(x, alanine.torsions[name]) - held.torsion(y[None], name) - turn).abs() < 1e-9


def test_the_fingerprint_knows_what_is_held(alanine, held):
    others = [InternalCoordinates(alanine, hold=hold) for hold in ((), "omega_1", AMIDES[::-1])]
    assert others[2].fingerprint == held.fingerprint
    assert len({other.fingerprint for other in others}) == 3


def test_log_z_is_the_free_one_times_the_share_of_trans(structure, draws):
    def u(omega):
        return 1.2 * (1 - (2 * omega).cos()) + 0.9 * omega.cos()

    positions = np.array([[-0.1, 0.1, 0], [0, 0, 0], [0.14, 0, 0], [0.2, -0.1, 0.01]])
    peroxide = structure(
        [(0, 1), (1, 2), (2, 3)], list("HOOH"), positions, torsions={"omega": [0, 1, 2, 3]},
        u=lambda x: u(dihedral(x, (0, 1, 2, 3))),
    )  # fmt: skip
    values = []
    for hold in ([], ["omega"]):
        coordinates = InternalCoordinates(peroxide, hold=hold)
        x, log_det = coordinates(draws(coordinates, 50_000, seed=len(hold)))
        width = coordinates._reach.clamp_max(math.pi).log().sum()  # all but the torsion is drawn alike
        w = (log_det - peroxide.u(x) + width).exp()
        values.append((w.mean().log().item(), (w.std() / w.mean() / math.sqrt(len(w))).item()))
    omega = torch.linspace(-math.pi, math.pi, 100_001, dtype=torch.float64)
    p = (-u(omega)).softmax(0)
    near = wrap(omega - coordinates.reference[-1]).abs() < math.pi / 2
    error = math.hypot(values[0][1], values[1][1])
    difference = values[1][0] - values[0][0]
    assert error < 0.02
    assert abs(difference - p[near].sum().log().item()) < 4 * error
    assert abs(difference) > 4 * error


def test_what_cannot_be_held(alanine):
    with pytest.raises(InputError, match=r"one of the molecule's \(omega_1, .*; got 'omega_3'"):
        InternalCoordinates(alanine, hold=["omega_3"])
    atoms = ["ACE1-O", "ACE1-C", "ALA2-N", "ALA2-CA"]
    named = Molecule.from_openmm(alanine.system, alanine.topology, alanine.positions, torsions={"other": atoms})
    with pytest.raises(InputError, match=r"coordinates of their own; got 'other', .*: hold the one about"):
        InternalCoordinates(named, hold=["other"])


def test_a_held_rotor_is_not_folded(structure, butane):
    free = InternalCoordinates(butane)
    row = next(row for row in free.zmatrix if row.atom == free.rotors[0].members[0])
    named = structure(butane.bonds, butane.elements, butane.positions, torsions={"methyl": row[:4]})
    held = InternalCoordinates(named, hold=["methyl"])
    assert len(held.rotors) == len(free.rotors) - 1
    assert held.circular.sum() == free.circular.sum() - 1
    assert held.log_symmetry == pytest.approx(free.log_symmetry - math.log(3))


def test_what_carries_a_held_torsion_elsewhere_is_not_folded(structure, near):
    """A t-butyl whose turn would put another methyl in the place of the one that is held: all that is held is in."""
    molecule = corpus("di-tert-butyl")
    free = InternalCoordinates(molecule)
    (turn,) = (rotor for rotor in free.rotors if rotor.rest)
    row = next(row for row in free.zmatrix if row.kind == "circular" and row.bond == turn.members[0])
    named = structure(molecule.bonds, molecule.elements, molecule.positions, torsions={"methyl": row[:4]})
    held, whole = (InternalCoordinates(named, fold=fold, hold=["methyl"]) for fold in (True, False))
    assert turn not in held.rotors
    assert len(held.rotors) == len(free.rotors) - 1  # the other t-butyl, towards the root, turns instead
    x = whole(near(whole, 200))[0]
    assert torch.isfinite(held.inverse(x)[1]).all()
