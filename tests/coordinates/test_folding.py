"""Folding: a turn by one sector changes ψ by exactly that; rotors are relabelled after those that carry them."""

import math

import pytest
import torch

from boltzgen.coordinates.folding import Folding, _repeated, _stages, foldable
from boltzgen.coordinates.symmetry import Rotor
from boltzgen.coordinates.zmatrix import Row

ROWS = [
    *(Row(0), Row(1, 0), Row(2, 0, 1)),
    *(Row(3, 2, 0, 1, "circular"), Row(4, 2, 0, 3, "sibling"), Row(5, 2, 0, 3, "sibling")),
    *(Row(6, 3, 2, 0, "circular"), Row(7, 3, 2, 6, "sibling")),
]
THREE, TWO = Rotor((3, 4, 5)), Rotor((6, 7))
TURNS = {3: [THREE], 6: [TWO]}
THETA = torch.full((6, 1), 1.9, dtype=torch.float64)
TAU = torch.tensor([[0.4, 2.0, -2.1, -1.0, 3.0]], dtype=torch.float64).T


def test_the_reference_is_in_the_middle_of_its_sector():
    folding = Folding(TURNS, ROWS, THETA, TAU)
    folded = folding.fold(THETA, TAU)
    assert folded[[0, 3]].abs().max() < 1e-12
    torch.testing.assert_close(folded[[1, 2, 4]], TAU[[1, 2, 4]])
    torch.testing.assert_close(folding.unfold(THETA, folded), TAU)


@pytest.mark.parametrize(("column", "k"), [(0, 3), (3, 2)])
def test_a_turn_by_one_sector_is_a_whole_period(column, k):
    folding = Folding(TURNS, ROWS, THETA, TAU)
    y = torch.linspace(-3.1, 3.1, 7, dtype=torch.float64)
    tau = TAU.repeat(1, 7)
    tau[column] = y
    here = folding.unfold(THETA, tau)[column]
    tau[column] = y + 2 * math.pi
    torch.testing.assert_close(folding.unfold(THETA, tau)[column], here)
    assert (here.max() - here.min()).item() == pytest.approx(6.2 / k)
    turned = folding.unfold(THETA, tau)
    turned[column] += 2 * math.pi / k
    torch.testing.assert_close(folding.fold(THETA, turned)[column], y)


@pytest.mark.parametrize(("column", "k"), [(0, 3), (3, 2)])
def test_an_exchange_of_labels_keeps_y(column, k):
    """Azimuths (a, b, c) become (b, c, a), or (a, b) become (b, a): siblings are measured against another first."""
    folding = Folding(TURNS, ROWS, THETA, TAU)
    tau = TAU + torch.tensor([[0.1, 0.2, -0.15, -0.1, 0.05]], dtype=torch.float64).T
    first, *siblings = tau[column : column + k, 0].tolist()
    azimuths = [first, *(first + sibling for sibling in siblings)]
    azimuths = [*azimuths[1:], azimuths[0]]
    turned = tau.clone()
    turned[column] = azimuths[0]
    for j in range(1, k):  # back into the interval that the chart keeps the sibling in
        middle = TAU[column + j, 0].item()
        relative = azimuths[j] - azimuths[0]
        turned[column + j] = relative - 2 * math.pi * round((relative - middle) / (2 * math.pi))
    torch.testing.assert_close(folding.fold(THETA, turned)[column], folding.fold(THETA, tau)[column])


def test_rotors_wait_for_those_that_carry_them():
    assert _stages(TURNS, ROWS, []) == [[0], [1]]
    inner = Row(8, 3, 2, 0, "circular")
    assert _stages({8: [Rotor((8, 9, 10))], 3: [THREE]}, [*ROWS, inner], []) == [[1], [0]]
    apart = Row(11, 1, 0, 2, "circular")
    assert _stages({3: [THREE], 11: [Rotor((11, 12, 13))]}, [*ROWS, apart], []) == [[0, 1]]
    assert _stages({3: [THREE], 11: [Rotor((11, 12))]}, [*ROWS, apart], []) == [[1], [0]]  # of another order


def test_hydrogens_are_exchanged_before_a_turn_is_measured_by_them_and_after_it_carries_them():
    across = {6: [Rotor((0, 4, 5))]}
    assert _stages(across, ROWS, [(6, 7)]) == [[1], [0]]
    assert _stages({3: [THREE]}, ROWS, [(6, 7)]) == [[0], [1]]


def test_two_orders_about_one_bond_go_round_together():
    """Six steps of a sixth: three hydrogens twice round, two ring carbons three times."""
    assert _repeated((3, 4, 5), 6) == (3, 5, 4, 3, 5, 4)
    assert _repeated((6, 7), 6) == (6, 7, 6, 7, 6, 7)
    assert _repeated((3, 4, 5), 3) == (3, 4, 5)
    for k in range(6):
        assert (2 * _repeated((0, 1, 2), 6)[k] + 3 * _repeated((0, 1), 6)[k]) % 6 == k


def test_rotors_that_move_what_the_others_are_measured_against_are_left_out():
    """Two methyls across a ring: each could flip it, one may."""
    rows = [
        *(Row(0), Row(1, 0), Row(2, 0, 1)),
        *(Row(3, 1, 0, 2, "circular"), Row(4, 2, 0, 1, "circular")),
    ]
    flips = {3: [Rotor((2, 9), ((4, 8),))], 4: [Rotor((1, 9), ((3, 7),))]}
    assert foldable(flips, rows) == {3: flips[3]}
    assert foldable({3: [Rotor((3, 5, 6)), *flips[3]]}, rows) == {3: [Rotor((3, 5, 6)), *flips[3]]}
    assert foldable({3: [Rotor((3, 5)), *flips[3]]}, rows) == {
        3: [Rotor((3, 5))]
    }  # of one order: nothing is left of it
