"""Nonbonded interactions with a cutoff, a switching function, and parameters that depend on global ones."""

import numpy as np
import openmm
import pytest

from boltzgen.energies.forces import reaction_field
from boltzgen.energies.forces.nonbonded import NonbondedPairs
from boltzgen.energies.forces.reaction_field import ReactionFieldPairs, nonbonded_pairs


def pairs(cutoff=0.5, switch=None, offsets=True):
    rng = np.random.default_rng(0)
    force = openmm.NonbondedForce()
    if cutoff:
        force.setNonbondedMethod(force.CutoffNonPeriodic)
        force.setCutoffDistance(cutoff)
        force.setReactionFieldDielectric(40.0)
    if switch:
        force.setUseSwitchingFunction(True)
        force.setSwitchingDistance(switch)
    force.addGlobalParameter("a", 0.3)
    force.addGlobalParameter("b", 0.7)
    for i in range(9):
        force.addParticle(rng.normal(), rng.uniform(0.1, 0.3), rng.uniform(0, 1))
        if offsets:
            force.addParticleParameterOffset("a", i, rng.normal(), 0.02, 0.3)
    for i in range(5):
        index = force.addException(i, i + 1, rng.normal(), 0.2, (i % 2) * rng.uniform(0, 1))
        if offsets:
            force.addExceptionParameterOffset("b", index, 0.3, 0.1, 0.2)
    if offsets:
        force.addParticleParameterOffset("b", 0, 1.0, 0.02, 0.3)
    return force


@pytest.mark.parametrize("switch", [None, 0.3])
@pytest.mark.parametrize("offsets", [False, True])
def test_cutoff_switch_and_offsets_agree_with_openmm(switch, offsets, assert_parity):
    assert_parity(pairs(switch=switch, offsets=offsets), 9, size=0.8)


def test_offsets_without_cutoff_agree_with_openmm(assert_parity):
    assert_parity(pairs(cutoff=None), 9, size=0.8)


@pytest.mark.parametrize("wrong", ["_curvature", "_shift", "_cutoff", "_switch"])
def test_a_wrong_constant_would_be_seen(wrong, assert_parity, monkeypatch):
    evaluate = ReactionFieldPairs.evaluate

    def spoilt(self, r, inverse):
        before = getattr(self, wrong)
        setattr(self, wrong, before * (1 + 1e-5))
        found = evaluate(self, r, inverse)
        setattr(self, wrong, before)
        return found

    monkeypatch.setattr(reaction_field.ReactionFieldPairs, "evaluate", spoilt)
    with pytest.raises(AssertionError, match="differs from OpenMM"):
        assert_parity(pairs(switch=0.3), 9, size=0.8)


def test_each_method_has_its_form():
    assert type(nonbonded_pairs(pairs(cutoff=None))) is NonbondedPairs
    assert type(nonbonded_pairs(pairs())) is ReactionFieldPairs
