"""Numerical methods, tested by their theorems."""

import math
from itertools import pairwise

import pytest
import torch

from boltzgen.flows.ode import DORMAND_PRINCE, RK4, adaptive_steps, integrate


def decay(t, y):
    return -y


@pytest.mark.parametrize(("tableau", "order"), [(RK4, 4), (DORMAND_PRINCE, 5)])
def test_order_of_convergence(tableau, order):
    y = torch.ones(1, 1, dtype=torch.float64)
    exact = math.exp(-1)
    errors = [abs(float(integrate(decay, y, torch.full((k, 1), 1 / k), tableau)) - exact) for k in (8, 16, 32)]
    for first, second in pairwise(errors):
        assert abs(math.log2(first / second) - order) < 0.3
    nodes, rows, weights = tableau
    assert [sum(row) for row in rows] == pytest.approx(nodes)
    assert sum(w * c**3 for w, c in zip(weights, nodes, strict=True)) == pytest.approx(1 / 4)


def test_steps_add_up_to_one_for_every_column_by_itself():
    y = torch.tensor([[1.0, 1e-3, 50.0]], dtype=torch.float64)

    def rate(t, y):
        return -y * y

    steps = adaptive_steps(rate, y, 1e-8)
    assert torch.allclose(steps.sum(0), torch.ones(3, dtype=torch.float64))
    assert (steps[:, 2] > 0).sum() > (steps[:, 1] > 0).sum()
    alone = adaptive_steps(rate, y[:, :1], 1e-8)
    assert torch.allclose(alone[alone > 0], steps[:, 0][steps[:, 0] > 0], rtol=1e-9)
    assert (integrate(rate, y, steps, DORMAND_PRINCE) - y / (1 + y)).abs().max() < 1e-6


def test_a_lower_tolerance_takes_more_steps():
    y = torch.ones(1, 1, dtype=torch.float64)
    counts = [len(adaptive_steps(lambda t, y: (20 * t).sin() * y, y, tolerance)) for tolerance in (1e-3, 1e-6, 1e-9)]
    assert counts[0] < counts[1] < counts[2]
    assert torch.allclose(integrate(decay, y, adaptive_steps(decay, y, 1e-9), DORMAND_PRINCE), (-y).exp(), atol=1e-8)
