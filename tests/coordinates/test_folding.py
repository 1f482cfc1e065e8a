"""Folding: a turn by one sector changes ψ by exactly that; rotors are relabelled after those that carry them."""

import math

import pytest
import torch

from boltzgen.coordinates.folding import Folding, _stages
from boltzgen.coordinates.symmetry import Rotor
from boltzgen.coordinates.zmatrix import Row

ROWS = [
    *(Row(0), Row(1, 0), Row(2, 0, 1)),
    *(Row(3, 2, 0, 1, "circular"), Row(4, 2, 0, 3, "sibling"), Row(5, 2, 0, 3, "sibling")),
    *(Row(6, 3, 2, 0, "circular"), Row(7, 3, 2, 6, "sibling")),
]
THREE, TWO = Rotor((3, 4, 5)), Rotor((6, 7))
TAU = torch.tensor([[0.4, 2.0, -2.1, -1.0, 3.0]], dtype=torch.float64).T


def test_the_reference_is_in_the_middle_of_its_sector():
    folding = Folding([THREE, TWO], ROWS, TAU)
    folded = folding.fold(TAU)
    assert folded[[0, 3]].abs().max() < 1e-12
    torch.testing.assert_close(folded[[1, 2, 4]], TAU[[1, 2, 4]])
    torch.testing.assert_close(folding.unfold(folded), TAU)


@pytest.mark.parametrize(("column", "k"), [(0, 3), (3, 2)])
def test_a_turn_by_one_sector_is_a_whole_period(column, k):
    folding = Folding([THREE, TWO], ROWS, TAU)
    y = torch.linspace(-3.1, 3.1, 7, dtype=torch.float64)
    tau = TAU.repeat(1, 7)
    tau[column] = y
    here = folding.unfold(tau)[column]
    tau[column] = y + 2 * math.pi
    torch.testing.assert_close(folding.unfold(tau)[column], here)
    assert (here.max() - here.min()).item() == pytest.approx(6.2 / k)
    turned = folding.unfold(tau)
    turned[column] += 2 * math.pi / k
    torch.testing.assert_close(folding.fold(turned)[column], y)


@pytest.mark.parametrize(("column", "k"), [(0, 3), (3, 2)])
def test_an_exchange_of_labels_keeps_y(column, k):
    """Azimuths (a, b, c) become (b, c, a), or (a, b) become (b, a): siblings are measured against another first."""
    folding = Folding([THREE, TWO], ROWS, TAU)
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
    torch.testing.assert_close(folding.fold(turned)[column], folding.fold(tau)[column])


def test_rotors_wait_for_those_that_carry_them():
    assert _stages([THREE, TWO], ROWS) == [[0], [1]]
    inner = Row(8, 3, 2, 0, "circular")
    assert _stages([Rotor((3, 4, 5)), Rotor((8, 9, 10))], [*ROWS, inner]) == [[0], [1]]
    apart = Row(11, 1, 0, 2, "circular")
    assert _stages([Rotor((3, 4, 5)), Rotor((11, 12, 13))], [*ROWS, apart]) == [[0, 1]]
    assert _stages([Rotor((3, 4, 5)), Rotor((11, 12))], [*ROWS, apart]) == [[0], [1]]  # of another order
