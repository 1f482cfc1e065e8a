"""Placing: positions that have what was asked for, and a gradient of closed form that is autograd's."""

import math

import pytest
import torch

from boltzgen.coordinates.geometry import angle, azimuth, distance, wrap
from boltzgen.coordinates.placement import Placement
from boltzgen.coordinates.zmatrix import z_matrix

ROUNDING = 1e-12
LINE = z_matrix(8, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (4, 6), (4, 7)], ["C"] * 8, linear={1, 2, 3})


def internals(rows, n, seed=0):
    """Random r, θ and absolute azimuths of n configurations, batch last."""
    g = torch.Generator().manual_seed(seed)
    k = len(rows)
    r = 0.1 + 0.1 * torch.rand(k - 1, n, generator=g, dtype=torch.float64)
    theta = 0.3 + 2.5 * torch.rand(k - 2, n, generator=g, dtype=torch.float64)
    phi = math.pi * (2 * torch.rand(k - 2, n, generator=g, dtype=torch.float64) - 1)
    phi[0] = 0
    return r, theta, phi


@pytest.mark.parametrize("name", ["butane", "benzene", "TRP"])
def test_placed_atoms_measure_what_was_asked_for(structures, name):
    s = structures[name]
    rows = z_matrix(s.n_atoms, s.bonds, s.elements)
    r, theta, phi = internals(rows, 20)
    x = Placement(rows)(r, theta, phi)
    number = {row.atom: i for i, row in enumerate(rows)}
    for i, row in enumerate(rows):
        if i > 0:
            torch.testing.assert_close(distance(x[:, row.atom], x[:, row.bond]), r[i - 1], atol=ROUNDING, rtol=0)
        if i > 1:
            found = angle(x[:, row.atom], x[:, row.bond], x[:, row.angle])
            torch.testing.assert_close(found, theta[i - 2], atol=ROUNDING, rtol=0)
        if i > 2:
            own = phi[i - 2] - (phi[number[row.torsion] - 2] if row.kind == "sibling" else 0)
            found = azimuth(*(x[:, k] for k in row[:4]))
            assert wrap(found - own).abs().max() < 1e-9


@pytest.mark.parametrize("rows", [z_matrix(6, [(0, 1), (1, 2), (2, 3), (3, 4), (2, 5)], ["C"] * 6), LINE])
def test_placement_has_first_and_second_derivatives(rows):
    inputs = tuple(v.requires_grad_() for v in internals(rows, 2))
    assert torch.autograd.gradcheck(Placement(rows), inputs)
    assert torch.autograd.gradgradcheck(Placement(rows), inputs)


@pytest.mark.parametrize("name", ["butane", "benzene", "TRP"])
def test_the_gradient_is_that_of_autograd(structures, name):
    s = structures[name]
    placement = Placement(rows := z_matrix(s.n_atoms, s.bonds, s.elements))
    inputs = tuple(v.requires_grad_() for v in internals(rows, 3))
    force = torch.randn(3, s.n_atoms, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad((placement(*inputs) * force).sum(), inputs)
    expected = torch.autograd.grad((placement.place(*inputs)[0] * force).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=ROUNDING, rtol=0)


@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_placement_goes_through_the_transformations_of_torch():
    r, theta, phi = internals(LINE, 1)
    placement = Placement(LINE)

    def scalar(theta):
        return placement(r, theta, phi).sin().sum()

    def plain(theta):
        return placement.place(r, theta, phi)[0].sin().sum()

    expected = torch.autograd.functional.hessian(plain, theta)
    torch.testing.assert_close(torch.func.hessian(scalar)(theta), expected)
    torch.testing.assert_close(torch.func.jacrev(torch.func.jacrev(scalar))(theta), expected)
    direction = torch.linspace(-1, 1, len(theta), dtype=theta.dtype)[:, None]
    slope = torch.func.jvp(scalar, (theta,), (direction,))[1]
    torch.testing.assert_close(slope, (torch.func.grad(plain)(theta) * direction).sum())


def test_placement_is_smooth_where_angles_are_straight():
    rows = z_matrix(5, [(k, k + 1) for k in range(4)], ["C"] * 5)
    r, theta, phi = internals(rows, 1)
    theta = torch.full_like(theta, math.pi).requires_grad_()
    x = Placement(rows)(r, theta, phi)
    (gradient,) = torch.autograd.grad(x.square().sum(), theta)
    assert torch.isfinite(x).all()
    assert torch.isfinite(gradient).all()
