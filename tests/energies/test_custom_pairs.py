"""Custom nonbonded interactions: exclusions, groups, tables, computed values and cutoffs, as in OpenMM."""

import numpy as np
import openmm
import pytest

N = 9


def tabulated():
    rng = np.random.default_rng(0)
    force = openmm.CustomNonbondedForce(
        "4*eps*((sig/r)^12-(sig/r)^6)+fun(r)+c1*c2*g+q*r; sig=.5*(s1+s2); eps=sqrt(e1*e2); q=d(t1,t2)"
    )
    for name in "set":
        force.addPerParticleParameter(name)
    values = rng.normal(size=9)
    values[-1] = values[0]
    force.addGlobalParameter("g", 1.5)
    force.addTabulatedFunction("fun", openmm.Continuous1DFunction(values, 0.1, 0.8, True))
    force.addTabulatedFunction("d", openmm.Discrete2DFunction(3, 3, rng.normal(size=9)))
    force.addComputedValue("c", "s*e+g")
    for i in range(N):
        force.addParticle([rng.uniform(0.1, 0.3), rng.uniform(0, 1), i % 3])
    return force


def excluding():
    force = tabulated()
    for i in range(4):
        force.addExclusion(i, i + 1)
    return force


def grouped(second=(2, 3, 4, 5)):
    rng = np.random.default_rng(1)
    force = openmm.CustomNonbondedForce("a1*exp(-r)+a2*r")
    force.addPerParticleParameter("a")
    for _ in range(N):
        force.addParticle([rng.normal()])
    force.addInteractionGroup([0, 1, 2, 3], list(second))
    force.addInteractionGroup([0, 1], [0, 1, 2])
    force.addExclusion(0, 4)
    return force


def cut(switch=None):
    force = openmm.CustomNonbondedForce("1/r+sqrt(1-r/2)")
    force.setNonbondedMethod(force.CutoffNonPeriodic)
    force.setCutoffDistance(0.6)
    if switch:
        force.setUseSwitchingFunction(True)
        force.setSwitchingDistance(switch)
    for _ in range(N):
        force.addParticle([])
    return force


@pytest.mark.parametrize("make", [tabulated, excluding, grouped, cut, lambda: cut(0.4)])
def test_every_kind_of_pairs_agrees_with_openmm(make, assert_parity):
    assert_parity(make(), N)


@pytest.mark.parametrize("function", ["without_exclusions", "within_cutoff"])
def test_forgotten_exclusions_and_cutoffs_would_be_seen(function, assert_parity, monkeypatch):
    wrong = {"without_exclusions": lambda force, i, j: (i, j), "within_cutoff": lambda force: "f"}[function]
    monkeypatch.setattr(f"boltzgen.energies.forces.custom_pairs.{function}", wrong)
    with pytest.raises(AssertionError, match="differs from OpenMM"):
        assert_parity(excluding() if function == "without_exclusions" else cut(), N)
