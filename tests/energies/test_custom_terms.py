"""Custom bonds, angles, torsions, fields, compounds and centres: OpenMM's numbers for formulae of all they offer."""

import numpy as np
import openmm
import pytest
import torch

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.forces import custom_terms
from boltzgen.errors import UnsupportedSystemError

N = 8
RNG = np.random.default_rng(0)


def atoms(count):
    return [int(i) for i in RNG.permutation(N)[:count]]


def bonds():
    force = openmm.CustomBondForce("s*k*(r-r0)^2 + step(r-r0)*log(1+r); s=2*g")
    force.addGlobalParameter("g", 0.3)
    for name in ("k", "r0"):
        force.addPerBondParameter(name)
    for _ in range(6):
        force.addBond(*atoms(2), [RNG.normal(), RNG.uniform(0, 1)])
    return force


def angles():
    force = openmm.CustomAngleForce("k*(cos(theta)-cos(t0))^2+theta^3")
    for name in ("k", "t0"):
        force.addPerAngleParameter(name)
    for _ in range(6):
        force.addAngle(*atoms(3), [RNG.normal(), RNG.uniform(0, 3)])
    return force


def torsions():
    force = openmm.CustomTorsionForce("k*min(dt,2*pi-dt)^2; dt=abs(theta-t0); pi=3.1415926535")
    for name in ("k", "t0"):
        force.addPerTorsionParameter(name)
    for _ in range(6):
        force.addTorsion(*atoms(4), [RNG.normal(), RNG.uniform(-3, 3)])
    return force


def external():
    force = openmm.CustomExternalForce("k*((x-x0)^2+y^2+abs(z))")
    for name in ("k", "x0"):
        force.addPerParticleParameter(name)
    for i in range(5):
        force.addParticle(i, [RNG.normal(), RNG.normal()])
    return force


def compounds():
    force = openmm.CustomCompoundBondForce(
        4,
        "k*distance(p1,p2)*cos(angle(p2,p3,p4))*sin(dihedral(p1,p2,p3,p4))+x1*y3-pointdistance(x1,y1,z1,2,y2,0)"
        "+pointangle(x1,y1,z1,x2,y2,z2,x3,y3,z3)*cos(pointdihedral(x1,y1,z1,x2,y2,z2,x3,y3,z3,x4,y4,z4))"
        "+fun(distance(p3,p4))",
    )
    force.addPerBondParameter("k")
    force.addTabulatedFunction("fun", openmm.Continuous1DFunction(RNG.normal(size=9), 0.1, 0.8))
    for _ in range(6):
        force.addBond(atoms(4), [RNG.normal()])
    return force


def centroids():
    force = openmm.CustomCentroidBondForce(3, "k*distance(g1,g2)^2+angle(g1,g2,g3)+x1")
    force.addPerBondParameter("k")
    for _ in range(4):
        force.addGroup(atoms(3))
    force.addGroup(atoms(4), [1.0, 2.0, 3.0, 0.5])
    force.addBond([0, 1, 2], [1.0])
    force.addBond([4, 1, 3], [-1.0])
    return force


def constant():
    force = openmm.CustomBondForce("2*k")
    force.addPerBondParameter("k")
    force.addBond(0, 1, [1.5])
    return force


@pytest.mark.parametrize("make", [bonds, angles, torsions, external, compounds, centroids, constant])
def test_every_kind_agrees_with_openmm(make, assert_parity):
    assert_parity(make(), N)


def test_forces_without_terms_are_zero(assert_parity):
    assert_parity(openmm.CustomTorsionForce("theta"), N)


def test_an_angle_at_the_wrong_atom_would_be_seen(assert_parity, monkeypatch):
    measures = dict(custom_terms._MEASURES)
    right = measures["angle"]
    monkeypatch.setitem(custom_terms._MEASURES, "angle", lambda points, atoms: right(points, atoms.roll(1, 0)))
    with pytest.raises(AssertionError, match="differs from OpenMM"):
        assert_parity(angles(), N)


def test_wrong_weights_of_a_centre_would_be_seen(assert_parity, monkeypatch):
    monkeypatch.setattr("boltzgen.energies.force_field.particle_masses", lambda system: np.ones(N))
    with pytest.raises(AssertionError, match="differs from OpenMM"):
        assert_parity(centroids(), N)


def test_a_branch_that_is_not_taken_spoils_no_force(alone):
    force = openmm.CustomBondForce("select(step(r-1), sqrt(r-1), 3*r)")
    force.addBond(0, 1, [])
    energy = ForceFieldEnergy(alone(force, 2), 300.0)
    x = torch.tensor([[[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]], requires_grad=True)
    (g,) = torch.autograd.grad(energy.energy(x).sum() * energy.temperature * 8.31446261815324e-3, x)
    assert g[0, 1, 0].item() == pytest.approx(3.0)


def test_points_that_are_not_there_are_refused_by_name(alone):
    for text in ("distance(p1,p3)", "distance(p1,x1)", "distance(p1)", "angle(p1,p2)", "distance(p0,p1)"):
        force = openmm.CustomCompoundBondForce(2, text)
        force.addBond([0, 1], [])
        with pytest.raises(UnsupportedSystemError, match=r"^CustomCompoundBondForce: .*; got .*: "):
            ForceFieldEnergy(alone(force, 2), 300.0, check=False)
