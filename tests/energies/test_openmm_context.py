"""One Context, frame by frame: what is not finite never reaches OpenMM, and what comes back is never NaN."""

from types import SimpleNamespace

import numpy as np
import openmm
import pytest

from boltzgen.energies.openmm_context import Frames

PLATFORMS = ("Reference", "CPU")


def frames(platform, expression="1000*(r-0.15)^2", centred=True):
    """Two atoms with an energy that depends on their distance."""
    system, bond = openmm.System(), openmm.CustomBondForce(expression)
    for _ in range(2):
        system.addParticle(12.0)
    bond.addBond(0, 1, [])
    system.addForce(bond)
    return Frames(openmm.XmlSerializer.serialize(system), platform, centred=centred)


def at(*distances):
    x = np.zeros((len(distances), 2, 3))
    x[:, 1, 0] = distances
    return x


@pytest.mark.parametrize("platform", PLATFORMS)
def test_energies_and_forces(platform):
    energy, force = frames(platform).evaluate(at(0.15, 0.25), forces=True)
    np.testing.assert_allclose(energy, [0.0, 10.0], atol=1e-5)
    np.testing.assert_allclose(force[:, 0], [[0, 0, 0], [200, 0, 0]], atol=1e-3)
    np.testing.assert_allclose(force[:, 1], -force[:, 0], atol=1e-3)
    assert frames(platform).evaluate(at(0.15), forces=False)[1] is None


def test_openmm_sees_only_what_is_finite():
    evaluated = frames("Reference")
    context, seen = evaluated._context, []
    evaluated._context = SimpleNamespace(
        setPositions=lambda x: seen.append(x.copy()) or context.setPositions(x), getState=context.getState
    )
    energy, force = evaluated.evaluate(at(np.nan, 0.25, np.inf, -np.inf, 0.15), forces=True)
    assert len(seen) == 2
    assert np.isfinite(seen).all()
    np.testing.assert_allclose(energy, [np.inf, 10.0, np.inf, np.inf, 0.0], atol=1e-9)
    assert not force[[0, 2, 3]].any()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_nan_of_openmm_becomes_infinite(platform):
    energy, force = frames(platform, "sqrt(r-0.1)").evaluate(at(0.05, 0.2, 0.05), forces=True)
    np.testing.assert_allclose(energy, [np.inf, 0.1**0.5, np.inf], rtol=1e-6)
    assert not force[::2].any()
    assert force[1].any()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_force_that_is_nan_is_zero_where_the_energy_is_known(platform):
    energy, force = frames(platform).evaluate(at(0.0, 0.25), forces=True)
    np.testing.assert_allclose(energy, [22.5, 10.0], rtol=1e-5)
    assert not force[0].any()


def test_a_refused_frame_is_infinite_not_the_one_before():
    evaluated = frames("Reference")
    context = evaluated._context

    def refuse_the_hot(**what):
        state = context.getState(**what)
        if state.getPotentialEnergy()._value > 5.0:
            raise openmm.OpenMMException("Particle coordinate is NaN")
        return state

    evaluated._context = SimpleNamespace(setPositions=context.setPositions, getState=refuse_the_hot)
    energy, force = evaluated.evaluate(at(0.25, 0.16, 0.25), forces=True)
    np.testing.assert_allclose(energy, [np.inf, 0.1, np.inf])
    assert not force[::2].any()


def test_what_is_no_fault_of_a_frame_is_not_hidden():
    evaluated = frames("Reference")
    evaluated._context = None
    with pytest.raises(AttributeError):
        evaluated.evaluate(at(0.15), forces=False)


def test_the_positions_given_are_left_alone():
    x = at(0.15, 0.25) + 1.0
    before = x.copy()
    frames("CPU").evaluate(x, forces=True)
    assert np.array_equal(x, before)
