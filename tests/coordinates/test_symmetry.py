"""Sides of a plane, and rotors: what only relabels equal atoms is found in the graph and confirmed by the energy."""

import math

import pytest
import torch

from boltzgen.coordinates.placement import Placement
from boltzgen.coordinates.symmetry import (
    Rotor,
    centre_and_reach,
    confirmed,
    find_rotors,
    inverting,
    opposite_siblings,
    relabel,
)
from boltzgen.coordinates.zmatrix import Row

METHYL = [Row(k) for k in range(3)] + [
    Row(3, 2, 1, 0, "circular"),
    Row(4, 2, 1, 3, "sibling"),
    Row(5, 2, 1, 3, "sibling"),
]
THIRD = 2 * math.pi / 3


def rotors_of(rows, azimuths, elements):
    """`find_rotors` with the neighbours that the rows themselves tie, placed at these azimuths, siblings' relative."""
    neighbours = [[] for _ in elements]
    for a, b in [(0, 1), (1, 2), *(row[:2] for row in rows[3:])]:
        neighbours[a].append(b)
        neighbours[b].append(a)
    placing = [Row(1), Row(0, 1), Row(2, 1, 0), *rows[3:]]
    turn = dict(zip([row.atom for row in rows[3:]], azimuths, strict=True))
    phi = [0.0] + [turn[row.atom] + (turn[row.torsion] if row.kind == "sibling" else 0.0) for row in rows[3:]]
    r, theta = torch.full((len(rows) - 1, 1), 0.1).double(), torch.full((len(rows) - 2, 1), 1.9).double()
    x = Placement(placing)(r, theta, torch.tensor(phi).double()[:, None])[..., 0].T.numpy()
    return find_rotors(rows, elements, neighbours, x)


def test_siblings_keep_to_their_side():
    azimuths = [1.0, THIRD, -THIRD]
    centre, reach = centre_and_reach(METHYL, azimuths)
    assert centre == [0.0, math.pi / 2, -math.pi / 2]
    assert reach == [math.inf, math.pi / 2, math.pi / 2]
    for k in (1, 2):
        assert abs(azimuths[k] - centre[k]) < reach[k]
        assert abs(-azimuths[k] - centre[k]) > reach[k]  # its mirror image


@pytest.mark.parametrize("azimuth", [3.1, -3.1, 2.9])
def test_planar_siblings_stay_opposite(azimuth):
    rows = [*METHYL[:4], METHYL[4]]
    assert centre_and_reach(rows, [0.3, azimuth]) == ([0.0, math.pi], [math.inf, math.pi / 2])


def test_ring_torsions_are_centred_on_the_reference():
    assert centre_and_reach([*METHYL[:3], Row(3, 2, 1, 0, "ring")], [0.7]) == ([0.7], [math.pi])


def test_siblings_on_either_side_stay_more_than_half_a_turn_apart_across_the_first():
    assert opposite_siblings(METHYL, [1.0, THIRD, -THIRD]) == [(1, 2)]
    assert opposite_siblings(METHYL, [1.0, -1.7, 2.4]) == [(2, 1)]
    assert opposite_siblings(METHYL, [1.0, 1.0, -1.0]) == []  # a cage that opens to the other side
    assert opposite_siblings(METHYL, [1.0, 3.0, -THIRD]) == []
    assert opposite_siblings(METHYL[:5], [1.0, THIRD]) == []


def test_methyl_is_a_rotor_with_members_in_turning_order():
    elements = ["O", "C", "C", "H", "H", "H"]
    assert rotors_of(METHYL, [1.0, THIRD, -THIRD], elements) == {3: [Rotor((3, 4, 5))]}
    assert rotors_of(METHYL, [1.0, -THIRD, THIRD], elements) == {3: [Rotor((3, 5, 4))]}


def test_other_ends_are_not_rotors():
    azimuths = [1.0, THIRD, -THIRD]
    assert rotors_of(METHYL, azimuths, ["O", "C", "C", "H", "H", "F"]) == {}
    assert rotors_of(METHYL[:5], azimuths[:2], ["O", "C", "N", "H", "H"]) == {}
    assert rotors_of([*METHYL, Row(6, 5, 2, 1, "circular")], [*azimuths, 0.0], ["C"] * 7) == {}
    assert rotors_of([*METHYL[:3], METHYL[3]._replace(kind="ring"), *METHYL[4:]], azimuths, ["C"] * 6) == {}


def test_two_alike_in_a_plane_are_a_rotor_of_two():
    for azimuth in (3.1, -3.1):
        assert rotors_of(METHYL[:5], [1.0, azimuth], ["C", "C", "C", "O", "O"]) == {3: [Rotor((3, 4))]}
        assert rotors_of(METHYL[:5], [1.0, azimuth], ["C", "C", "C", "O", "N"]) == {}
    assert rotors_of(METHYL[:5], [1.0, 2.0], ["C", "C", "N", "H", "H"]) == {}  # an amine's two are not opposite


def test_branches_towards_the_root_are_a_rotor_behind_those_that_go_along():
    rows = [Row(1), Row(0, 1), Row(6, 1, 0), Row(2, 1, 0, 6, "sibling"), *METHYL[3:]]
    neighbours = [[1], [0, 2, 6], [1, 3, 4, 5], [2], [2], [2], [1]]
    x = torch.tensor([[-1, 2, 0], [0, 0, 0], [2, 0, 0], [3, 1, 1], [3, -1, 1], [3, 0, -1], [-1, -2, 0]]) * 0.05
    methyl, oxygens = Rotor((3, 4, 5)), Rotor((0, 6))
    for elements, rotors in (("OCCHHHO", [methyl, oxygens]), ("OCCHHFO", [oxygens]), ("OCCHHHN", [methyl])):
        assert find_rotors(rows, [*elements], neighbours, x.double().numpy()) == {3: rotors}
    closed = [[1, 6], *neighbours[1:6], [1, 0]]
    apart = [*rows[:2], Row(2, 1, 0), Row(6, 0, 1, 2, "ring"), *METHYL[3:]]  # 6 is at 0 in the tree, though tied to 1
    assert find_rotors(apart, [*"OCCHHHO"], closed, x.double().numpy()) == {3: [methyl]}


@pytest.mark.parametrize("azimuth", [THIRD, -THIRD, 3.0])
def test_a_pyramid_that_inverts_has_the_whole_circle(azimuth):
    assert centre_and_reach(METHYL[:5], [0.3, azimuth], inverting=[2]) == ([0.0, math.pi], [math.inf, math.pi])


def test_nitrogens_invert_unless_that_only_exchanges_hydrogens():
    rows, neighbours = METHYL[:5], [[1], [0, 2], [1, 3, 4], [2], [2]]
    assert inverting(rows, ["C", "C", "N", "C", "H"], neighbours) == {2}
    assert inverting(rows, ["C", "C", "N", "H", "H"], neighbours) == set()
    assert inverting(rows, ["C", "C", "P", "C", "H"], neighbours) == set()


def test_relabelling_three_times_is_none():
    x = torch.randn(2, 6, 3)
    rotor = Rotor((3, 5, 4))
    once = relabel(x, rotor, 1)
    assert torch.equal(once[:, 3], x[:, 5])
    assert torch.equal(relabel(once, rotor, 2), x)
    assert torch.equal(relabel(x, rotor, -1), relabel(x, rotor, 2))


def test_the_energy_confirms_a_rotor_or_does_not():
    rotors = [Rotor((0, 1, 2)), Rotor((3, 4, 5))]
    positions = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def charged(charges):
        q = torch.tensor(charges, dtype=torch.float64)
        return lambda x: (q * x.square().sum(-1)).sum(-1)

    assert confirmed(rotors, charged([0.1, 0.1, 0.1, 0.3, 0.3, 0.3]), positions) == rotors
    assert confirmed(rotors, charged([0.1, 0.1, 0.1, 0.3, 0.3001, 0.3]), positions) == rotors[:1]


def test_alanine_dipeptide_turns_three_methyls(alanine):
    from boltzgen.coordinates import InternalCoordinates

    rotors = InternalCoordinates(alanine).rotors
    names = [{alanine.atom_labels[k][:4] for k in rotor.members} for rotor in rotors]
    assert sorted(map(sorted, names)) == [["ACE1"], ["ALA2"], ["NME3"]]
    energy = alanine.energy(300.0)
    x = torch.tensor(alanine.positions)[None] + 0.005 * torch.randn(5, 22, 3, dtype=torch.float64)
    for rotor in rotors:
        torch.testing.assert_close(energy.energy(relabel(x, rotor, 1)), energy.energy(x), rtol=1e-10, atol=1e-9)
    swapped = relabel(x, Rotor((1, 4, 8)), 1)
    assert (energy.energy(swapped) - energy.energy(x)).abs().min() > 1


@pytest.mark.parametrize("hidden", ["by a clash", "behind a flat bottom"])
def test_unlike_atoms_are_told_apart_where_the_structure_does_not_show_them(hidden):
    positions = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    positions[4] = positions[3] + torch.tensor([1e-3, 0.0, 0.0])

    def u(x):
        apart = (x[:, 3] - x[:, 4]).norm(dim=-1)
        if hidden == "by a clash":
            return 1e-3 * x[:, 0].square().sum(-1) + (0.03 / apart) ** 12
        return (x[:, 0].norm(dim=-1) - positions[0].norm() - 0.3).clamp_min(0)

    assert confirmed([Rotor((0, 1, 2))], u, positions) == []
