"""Branches that turn into each other: found with all that hangs on them, and never where one differs."""

import numpy as np
import pytest
from corpus import corpus

from boltzgen.coordinates.automorphism import stereocentres, turned_branches


def graph(bonds):
    neighbours = [[] for _ in range(1 + max(map(max, bonds)))]
    for i, j in bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    return neighbours


PHENYL = graph([(0, 1), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (6, 7), (7, 8)])
"""0 is the atom that the ring 1-6 hangs on, 7 and 8 lie on its axis."""


def test_a_ring_turns_about_its_axis():
    cycles = turned_branches([2, 3], 1, PHENYL, ["C"] * 9, np.zeros((9, 3)) + np.arange(9)[:, None])
    assert cycles == [(2, 3), (4, 5)]


@pytest.mark.parametrize("odd", [2, 3, 4, 5])
def test_one_other_element_is_enough(odd):
    elements = ["C"] * 9
    elements[odd] = "N"
    assert turned_branches([2, 3], 1, PHENYL, elements, np.zeros((9, 3)) + np.arange(9)[:, None]) is None


def test_one_more_bond_is_enough():
    assert turned_branches([1, 2], 0, graph([(0, 1), (0, 2), (0, 3), (1, 4), (2, 5), (5, 6)]), ["C"] * 7, X[:7]) is None


X = np.random.default_rng(0).normal(size=(20, 3))
ARMS = graph([(0, 1), (0, 2), (0, 3), *((k, 4 + 3 * (k - 1) + j) for k in (1, 2, 3) for j in range(3)), (0, 13)])
"""Three arms 1, 2, 3 on 0, each with three ends."""


def arms(mirror):
    """Positions with each arm a turn of the one before; the third one's ends in mirror order if wanted."""
    end = np.array([[0.2, 1.0, 0.3], [0.2, -0.6, 0.7], [0.4, -0.3, -0.8]])
    x = np.zeros((14, 3))
    for k in range(3):
        c, s = np.cos(2 * np.pi * k / 3), np.sin(2 * np.pi * k / 3)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        x[1 + k] = turn @ [1, 0, 0.3]
        ends = end[[1, 0, 2]] if mirror and k == 2 else end
        x[4 + 3 * k : 7 + 3 * k] = x[1 + k] + ends @ turn.T
    x[13] = [0, 0, -1]
    return x


def test_three_arms_turn_with_their_ends():
    assert turned_branches([1, 2, 3], 0, ARMS, ["C"] * 14, arms(False)) == [
        *((1, 2, 3), (4, 7, 10), (5, 8, 11), (6, 9, 12))
    ]


def test_ends_are_paired_so_that_no_hand_changes():
    cycles = turned_branches([1, 2, 3], 0, ARMS, ["C"] * 14, arms(True))
    x = arms(True)

    def hand(centre, ends):
        return np.sign(np.linalg.det(x[list(ends)] - x[centre]))

    ends = list(zip(*cycles[1:], strict=True))
    assert len({hand(k + 1, ends[k]) for k in range(3)}) == 1
    assert hand(3, (10, 11, 12)) != hand(1, (4, 5, 6))  # so that the order as it comes would have been wrong


@pytest.mark.parametrize(
    ("name", "centres"),
    [
        ("ACE-ALA-NME", {"CA"}),
        ("ACE-GLY-ILE-NME", {"CA", "CB"}),
        ("ACE-THR-NME", {"CA", "CB"}),
        ("glucose", {"C1", "C2", "C3", "C4", "C5"}),
        ("cholesterol", {"C1", "C6", "C7", "C10", "C11", "C14", "C15"}),  # CHARMM's numbers, and its short tail
        ("isobutane", set()),
    ],
)
def test_stereocentres_have_four_different_neighbours(name, centres):
    molecule = corpus(name)
    found = stereocentres(molecule.bonds, molecule.elements)
    assert {molecule.atom_labels[k].rpartition("-")[2] for k in found} == centres
