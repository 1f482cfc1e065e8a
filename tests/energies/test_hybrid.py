"""One energy, two engines: the same numbers, and a word on which force went where."""

import openmm
import pytest
import torch

from boltzgen.energies import ForceFieldEnergy, HybridEnergy, OpenMMEnergy, hybrid
from boltzgen.energies.hybrid import system_energy
from boltzgen.errors import EnergyError, UnsupportedSystemError

X = torch.rand(6, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def build(*forces):
    system = openmm.System()
    for i in range(4):
        system.addParticle(1.0 + i)
    for force in forces:
        system.addForce(force)
    return system


def bonds():
    force = openmm.HarmonicBondForce()
    force.addBond(0, 1, 0.15, 1000.0)
    return force


def likeness():
    return openmm.RMSDForce([openmm.Vec3(i, i * i, 0) for i in range(4)])


def unreadable():
    force = openmm.CustomCompoundBondForce(2, "f(x1,y2)")
    force.addTabulatedFunction("f", openmm.Continuous2DFunction(3, 3, [0.0, 1.0, 0.0] * 3, -1, 2, -1, 2))
    force.addBond([0, 1], [])
    return force


def variables():
    force = openmm.CustomCVForce("a*a+d")
    force.addCollectiveVariable("a", bonds())
    force.addCollectiveVariable("d", likeness())
    return force


def hydrogen_bonds():
    force = openmm.CustomHbondForce("k*(distance(a1,d1)-0.2)^2*cos(angle(a1,d1,d2))")
    force.addGlobalParameter("k", 50.0)
    force.addDonor(0, 1, -1, [])
    force.addAcceptor(2, 3, -1, [])
    return force


def triples():
    force = openmm.CustomManyParticleForce(3, "c*cos(angle(p1,p2,p3))/(distance(p1,p2)*distance(p2,p3))")
    force.addGlobalParameter("c", 2.0)
    force.setPermutationMode(force.UniqueCentralParticle)
    for _ in range(4):
        force.addParticle([], 0)
    return force


def surface():
    force = openmm.LCPOForce()
    force.setSurfaceTension(2.0)
    for radius in (0.3, 0.32, 0.34, 0.36):
        force.addParticle(radius, 0.6, -0.2, -0.001, 0.0003)
    return force


def directions():
    return openmm.OrientationRestraintForce(30.0, [openmm.Vec3(i, i * i, 0.1 * i) for i in range(4)], [])


def gyration():
    return openmm.RGForce()


LEFT_TO_OPENMM = {
    "CustomCVForce": variables,
    "CustomHbondForce": hydrogen_bonds,
    "CustomManyParticleForce": triples,
    "LCPOForce": surface,
    "OrientationRestraintForce": directions,
    "RGForce": gyration,
}


def gradient(energy, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(energy.energy(x).sum(), x)[0]


def test_both_parts_add_up_to_openmms_energy_and_forces():
    system = build(bonds(), likeness(), unreadable(), bonds())
    hybrid, whole = HybridEnergy(system, 300.0), OpenMMEnergy(system, 300.0)
    torch.testing.assert_close(hybrid.energy(X), whole.energy(X), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient(hybrid, X), gradient(whole, X), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(hybrid.at(600.0).energy(X), whole.energy(X) / 2)
    assert hybrid.evaluations.total == 18
    assert not torch.allclose(hybrid.compiled.energy(X), whole.energy(X))


@pytest.mark.parametrize("kind", LEFT_TO_OPENMM)
def test_every_kind_of_force_that_is_not_compiled_is_added_by_openmm(kind):
    if not hasattr(openmm, kind):
        pytest.skip(f"this OpenMM has no {kind}")
    system = build(bonds(), LEFT_TO_OPENMM[kind]())
    energy, whole = system_energy(system, 300.0), OpenMMEnergy(system, 300.0, platform="Reference")
    assert type(energy) is HybridEnergy
    assert gradient(energy, X).sub(gradient(energy.compiled, X)).abs().max() > 1e-2  # it does something
    tolerance = 1e-9 if energy.platform == "Reference" else 1e-5
    torch.testing.assert_close(energy.energy(X), whole.energy(X), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient(energy, X), gradient(whole, X), rtol=tolerance, atol=10 * tolerance)
    assert f"{kind}: OpenMM, {energy.platform} platform, since this kind of force is not compiled" in energy.describe()


def test_what_openmm_evaluates_alone_says_why():
    assert system_energy(build(likeness()), 300.0).describe() == (
        "RMSDForce: OpenMM, Reference platform, since this kind of force is not compiled"
    )


def test_the_description_says_where_and_why():
    lines = HybridEnergy(build(bonds(), likeness(), unreadable(), bonds()), 300.0).describe().splitlines()
    assert lines[:2] == ["HarmonicBondForce: torch, HarmonicBonds", "HarmonicBondForce 2: torch, HarmonicBonds"]
    assert lines[2] == "RMSDForce: OpenMM, Reference platform, since this kind of force is not compiled"
    assert lines[3].startswith("CustomCompoundBondForce: OpenMM, Reference platform, since CustomCompoundBondForce: f ")
    assert "Continuous2DFunction" in lines[3]
    assert OpenMMEnergy(build(bonds()), 300.0).describe() == "HarmonicBondForce: OpenMM, Reference platform"


def test_what_is_ignored_and_what_feels_its_place_is_said():
    ignored = "CMMotionRemover: ignored, since it acts on velocities alone"
    felt = "CustomExternalForce 2: may feel where the molecule is and how it is turned"
    for energy in (ForceFieldEnergy, OpenMMEnergy, HybridEnergy):
        fields = openmm.CustomExternalForce("x^2"), openmm.CustomExternalForce("y^2")
        for field in fields:
            field.addParticle(0, [])
        forces = [bonds(), openmm.CMMotionRemover(), *fields, *([likeness()] if energy is HybridEnergy else [])]
        found = energy(build(*forces), 300.0)
        lines = found.describe().splitlines()
        assert [lines.count(line) for line in (ignored, felt)] == [1, 1]


def test_as_much_is_compiled_as_can_be():
    assert type(system_energy(build(bonds()), 300.0)) is ForceFieldEnergy
    assert type(system_energy(build(likeness()), 300.0)) is OpenMMEnergy
    assert type(system_energy(build(bonds(), likeness()), 300.0)) is HybridEnergy
    constrained = build(bonds(), likeness())
    constrained.addConstraint(0, 1, 0.1)
    with pytest.raises(UnsupportedSystemError, match="constraints"):
        system_energy(constrained, 300.0)


@pytest.mark.parametrize(("mine", "its", "chosen"), [(1.0, 0.9, ForceFieldEnergy), (1.0, 0.5, OpenMMEnergy)])
def test_a_large_molecule_is_left_to_openmm_only_if_that_is_clearly_faster(mine, its, chosen, monkeypatch):
    system = build(bonds())
    times = {ForceFieldEnergy: mine, OpenMMEnergy: its}
    monkeypatch.setattr(hybrid, "_seconds", lambda energy, x: times[type(energy)])
    assert type(system_energy(system, 300.0)) is ForceFieldEnergy
    monkeypatch.setattr(hybrid, "_FASTER", 3)
    energy = system_energy(system, 300.0)
    assert type(energy) is chosen
    assert ("since it takes 500 ms for a frame where torch takes 1000" in energy.describe()) == (its == 0.5)
    torch.testing.assert_close(energy.energy(X), OpenMMEnergy(system, 300.0).energy(X), rtol=1e-10, atol=1e-10)
    assert energy.fingerprint == chosen(system, 300.0).fingerprint
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert type(system_energy(system, 300.0)) is ForceFieldEnergy


@pytest.mark.parametrize(("mine", "its", "chosen"), [(1.0, 0.9, HybridEnergy), (1.0, 0.5, OpenMMEnergy)])
def test_so_is_a_large_molecule_of_which_a_part_is_compiled(mine, its, chosen, monkeypatch):
    system = build(bonds(), likeness())
    monkeypatch.setattr(hybrid, "_seconds", lambda energy, x: {HybridEnergy: mine, OpenMMEnergy: its}[type(energy)])
    assert type(system_energy(system, 300.0)) is HybridEnergy  # of a small one always, so that draws keep their bits
    monkeypatch.setattr(hybrid, "_FASTER", 3)
    energy = system_energy(system, 300.0)
    assert type(energy) is chosen
    words = "HarmonicBondForce: OpenMM, Reference platform, since it takes 500 ms for a frame where it takes together"
    assert (words in energy.describe()) == (its == 0.5)


def test_both_ways_are_measured_with_their_gradient_and_not_counted():
    for make in (ForceFieldEnergy, OpenMMEnergy):
        energy = make(build(bonds()), 300.0)
        assert 0 < hybrid._seconds(energy, X) < 10
        assert energy.evaluations.total == 0


def test_what_openmm_does_not_accept_is_said_in_its_words():
    few, far, twice = openmm.NonbondedForce(), openmm.NonbondedForce(), openmm.CustomBondForce("g*r")
    few.addParticle(0.0, 1.0, 0.0)
    for _ in range(4):
        far.addParticle(0.0, 1.0, 0.0)
    far.addException(0, 9, 0.0, 1.0, 0.0)
    twice.addGlobalParameter("g", 1.0)
    again = openmm.CustomExternalForce("g*x")
    again.addGlobalParameter("g", 2.0)
    for forces in ([few], [far], [twice, again]):
        system = build(*forces)
        for make in (ForceFieldEnergy, system_energy):
            with pytest.raises(EnergyError, match=r"^OpenMM must be able to evaluate this System; got "):
                make(system, 300.0)


def test_frames_that_openmm_cannot_evaluate_are_infinite_without_gradient():
    hybrid = HybridEnergy(build(bonds(), likeness()), 300.0)
    spoilt = X.clone()
    spoilt[2, 1, 0] = torch.nan
    u, g = hybrid.energy(spoilt), gradient(hybrid, spoilt)
    kept = [0, 1, 3, 4, 5]
    assert u[2] == torch.inf
    assert not g[2].any()
    assert torch.equal(u[kept], hybrid.energy(X)[kept])
    assert torch.equal(g[kept], gradient(hybrid, X)[kept])


def test_second_derivatives_are_refused():
    hybrid = HybridEnergy(build(bonds(), likeness()), 300.0)
    x = X.clone().requires_grad_()
    (g,) = torch.autograd.grad(hybrid.energy(x).sum(), x, create_graph=True)
    with pytest.raises(EnergyError, match="differentiated only once"):
        torch.autograd.grad(g.sum(), x)


def test_workers_share_the_frames_and_end_with_the_energy():
    hybrid = HybridEnergy(build(bonds(), likeness()), 300.0, workers=1)
    torch.testing.assert_close(hybrid.energy(X), HybridEnergy(build(bonds(), likeness()), 300.0).energy(X))
    hybrid.close()


def test_fingerprints_know_formulae_and_what_openmm_evaluates_but_not_the_process():
    def quartic(text):
        force = openmm.CustomBondForce(text)
        force.addGlobalParameter("g", 2.0)
        force.addBond(0, 1, [])
        return force

    def other(k):
        force = openmm.CustomCompoundBondForce(2, f"{k}*f(x1,y2)")
        force.addTabulatedFunction("f", openmm.Continuous2DFunction(3, 3, [0.0, 1.0, 0.0] * 3, -1, 2, -1, 2))
        force.addBond([0, 1], [])
        return force

    def systems():
        yield from (build(quartic("g*r")), build(quartic("g*r^2")), build(other(1)), build(other(2)))
        yield from (build(bonds(), other(1)), build(bonds(), other(2)), build(quartic("r"), other(1)))

    found, again = ([system_energy(system, 300.0) for system in systems()] for _ in range(2))
    assert len({energy.fingerprint for energy in found}) == len(found)
    assert [energy.fingerprint for energy in again] == [energy.fingerprint for energy in found]
    before = found[-1].fingerprint
    found[-1]._owner = {"pid": 1}
    assert found[-1].fingerprint == before
