"""Straight angles: found in the positions, and measured as `Placement` places them, along any line."""

import math

import numpy as np
import pytest
import torch

from boltzgen.coordinates.geometry import wrap
from boltzgen.coordinates.linear import CarriedFrames, straight_centres
from boltzgen.coordinates.placement import Placement
from boltzgen.coordinates.zmatrix import z_matrix

BONDS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 6), (5, 7), (5, 8)]
"""6-0, then the line 0-1-2-3-4-5, and two ends 7, 8 on 5."""
LINEAR = {1, 2, 3, 4}


@pytest.mark.parametrize(("degrees", "straight"), [(180, True), (165, True), (155, False), (110, False)])
def test_straight_is_within_twenty_degrees(degrees, straight):
    angle = math.radians(degrees)
    positions = np.array([[1.0, 0, 0], [0, 0, 0], [math.cos(angle), math.sin(angle), 0]])
    assert straight_centres(positions, [(0, 1), (1, 2)]) == ({1} if straight else set())


def test_only_atoms_of_two_neighbours_are_straight():
    positions = np.array([[1.0, 0, 0], [0, 0, 0], [-1, 0, 0], [0, 1, 0]])
    assert straight_centres(positions, [(0, 1), (1, 2), (1, 3)]) == set()


def test_what_is_placed_beyond_a_line_is_measured_there():
    rows = z_matrix(9, BONDS, ["C"] * 9, linear=LINEAR)
    assert [row.kind for row in rows].count("linear") == 4
    assert rows[0].atom not in LINEAR
    carried = CarriedFrames(rows)
    assert rows[0].atom == 5
    assert {row.atom for row in carried.rows} == {3, 2, 1, 0, 6}  # the line, and what turns about its end
    g = torch.Generator().manual_seed(0)
    n = 50
    r = 0.1 + 0.1 * torch.rand(8, n, generator=g, dtype=torch.float64)
    theta = 0.3 + 2.5 * torch.rand(7, n, generator=g, dtype=torch.float64)
    phi = math.pi * (2 * torch.rand(7, n, generator=g, dtype=torch.float64) - 1)
    phi[0] = 0
    x = Placement(rows)(r, theta, phi)
    own_theta, own_tau = carried.measure(x, torch.zeros_like(theta), torch.zeros_like(phi[1:]))
    columns = [i for i, row in enumerate(rows) if row in carried.rows]
    lines = [i for i in columns if rows[i].kind == "linear"]
    assert (own_theta[[i - 2 for i in lines]] - theta[[i - 2 for i in lines]]).abs().max() < 1e-10
    assert wrap(own_tau[[i - 3 for i in columns]] - phi[[i - 2 for i in columns]]).abs().max() < 1e-9


def test_a_straight_line_is_in_the_middle_of_the_chart():
    rows = z_matrix(9, BONDS, ["C"] * 9, linear=LINEAR)
    theta, phi = torch.full((7, 1), 1.9, dtype=torch.float64), torch.ones(7, 1, dtype=torch.float64)
    for i, row in enumerate(rows):
        if row.kind == "linear":
            theta[i - 2], phi[i - 2] = math.pi / 2, 0.0
    x = Placement(rows)(torch.full((8, 1), 0.12, dtype=torch.float64), theta, phi)[..., 0].T.numpy()
    assert straight_centres(x, BONDS) == LINEAR
    assert np.linalg.matrix_rank(x[:6] - x[0], tol=1e-10) == 1
