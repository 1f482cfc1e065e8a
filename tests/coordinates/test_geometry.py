"""Measuring: mdtraj's dihedrals, and angles in one period."""

import math

import mdtraj
import torch

from boltzgen.coordinates.geometry import dihedral, wrap


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
