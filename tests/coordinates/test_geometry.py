"""Measuring and placing: mdtraj's dihedrals, and positions that have what was asked for."""

import math

import mdtraj
import pytest
import torch

from boltzgen.coordinates.geometry import Placement, angle, azimuth, dihedral, distance, wrap
from boltzgen.coordinates.zmatrix import z_matrix

ROUNDING = 1e-12


def internals(rows, n, seed=0):
    """Random r, θ and absolute azimuths of n configurations, batch last."""
    g = torch.Generator().manual_seed(seed)
    k = len(rows)
    r = 0.1 + 0.1 * torch.rand(k - 1, n, generator=g, dtype=torch.float64)
    theta = 0.3 + 2.5 * torch.rand(k - 2, n, generator=g, dtype=torch.float64)
    phi = math.pi * (2 * torch.rand(k - 2, n, generator=g, dtype=torch.float64) - 1)
    phi[0] = 0
    return r, theta, phi


def test_dihedral_has_mdtrajs_sign(alanine):
    x = torch.randn(50, 22, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    trajectory = mdtraj.Trajectory(x.numpy(), mdtraj.Topology.from_openmm(alanine.topology))
    quadruples = [[4, 6, 8, 14], [0, 21, 3, 9]]
    expected = mdtraj.compute_dihedrals(trajectory, quadruples)
    for k, atoms in enumerate(quadruples):
        torch.testing.assert_close(dihedral(x, atoms), torch.tensor(expected[:, k]).double(), atol=1e-4, rtol=0)


def test_wrap_is_half_open():
    turns = torch.tensor([-math.pi, math.pi, 3 * math.pi, -3 * math.pi, 0.0, 6.0], dtype=torch.float64)
    wrapped = wrap(turns)
    assert ((wrapped >= -math.pi) & (wrapped < math.pi)).all()
    torch.testing.assert_close(wrapped.cos(), turns.cos())


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


def test_placement_has_second_derivatives():
    rows = z_matrix(6, [(0, 1), (1, 2), (2, 3), (3, 4), (2, 5)], ["C"] * 6)
    inputs = tuple(v.requires_grad_() for v in internals(rows, 2))
    assert torch.autograd.gradgradcheck(Placement(rows), inputs)


def test_placement_is_smooth_where_angles_are_straight():
    rows = z_matrix(5, [(k, k + 1) for k in range(4)], ["C"] * 5)
    r, theta, phi = internals(rows, 1)
    theta = torch.full_like(theta, math.pi).requires_grad_()
    x = Placement(rows)(r, theta, phi)
    (gradient,) = torch.autograd.grad(x.square().sum(), theta)
    assert torch.isfinite(x).all()
    assert torch.isfinite(gradient).all()
