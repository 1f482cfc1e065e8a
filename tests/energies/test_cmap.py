"""Correction maps: OpenMM's patches, of any size, in every corner."""

import numpy as np
import openmm
import pytest

from boltzgen.energies.forces import cmap


def maps():
    rng = np.random.default_rng(0)
    force = openmm.CMAPTorsionForce()
    for size in (2, 3, 7, 24):
        force.addMap(size, rng.normal(size=size * size).tolist())
    for k in range(12):
        first, second = (tuple(int(i) for i in rng.permutation(8)[:4]) for _ in range(2))
        force.addTorsion(k % 4, *first, *second)
    return force


def test_maps_of_every_size_agree_with_openmm(assert_parity):
    assert_parity(maps(), 8)


def test_two_angles_in_the_wrong_order_would_be_seen(assert_parity, monkeypatch):
    patches = cmap._patches
    monkeypatch.setattr(cmap, "_patches", lambda energies: patches(energies.T))
    with pytest.raises(AssertionError, match="differs from OpenMM"):
        assert_parity(maps(), 8)


def test_a_force_without_torsions_is_zero(assert_parity):
    assert_parity(openmm.CMAPTorsionForce(), 3)
