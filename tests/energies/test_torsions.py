"""Torsions of Ryckaert and Bellemans."""

import numpy as np
import openmm
import pytest

from boltzgen.energies.forces.torsions import RyckaertBellemansTorsions


def ryckaert_bellemans():
    rng = np.random.default_rng(0)
    force = openmm.RBTorsionForce()
    for _ in range(8):
        force.addTorsion(*(int(i) for i in rng.permutation(7)[:4]), *rng.normal(size=6))
    return force


def test_powers_of_the_cosine_agree_with_openmm(assert_parity):
    assert_parity(ryckaert_bellemans(), 7)


def test_a_wrong_sign_of_the_angle_would_be_seen(assert_parity, monkeypatch):
    series = RyckaertBellemansTorsions._series

    def mirrored(self, cosine, sine):
        return series(self, -cosine, sine)

    monkeypatch.setattr(RyckaertBellemansTorsions, "_series", mirrored)
    with pytest.raises(AssertionError, match="differs from OpenMM"):
        assert_parity(ryckaert_bellemans(), 7)
