"""Generalized Born as expressions: recognised exactly, its constants read, anything else left to its formulae."""

import numpy as np
import openmm
import pytest
import torch
from openmm.app.internal import customgbforces

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.forces.custom_born import recognized_born
from boltzgen.energies.parity import TOLERANCE, deviations
from boltzgen.errors import UnsupportedSystemError

N_ATOMS = 9


def born(model=customgbforces.GBSAOBC2Force, particles=True, **settings):
    """OpenMM's own force, with random charges and radii, some spheres within others."""
    force = model(**settings)
    rng = np.random.default_rng(0)
    if particles:
        for _ in range(N_ATOMS):
            force.addParticle([rng.normal(), rng.uniform(0.05, 0.2), rng.uniform(0.5, 1.5)])
    force.finalize()
    return force


def rewritten(old=None, new="", constants=None):
    """OpenMM's OBC 2 with one piece of its text replaced, and constants turned into global parameters."""
    original, force = born(SA="ACE"), openmm.CustomGBForce()
    for p in range(original.getNumPerParticleParameters()):
        force.addPerParticleParameter(original.getPerParticleParameterName(p))
    for name, value in (constants or {}).items():
        force.addGlobalParameter(name, value)
    replaced = 0

    def edit(text):
        nonlocal replaced
        replaced += old is not None and old in text
        for name in constants or {}:
            text = ";".join(part for part in text.split(";") if not part.strip().startswith(name + "="))
        return text.replace(old, new) if old else text

    for v in range(original.getNumComputedValues()):
        name, text, kind = original.getComputedValueParameters(v)
        force.addComputedValue(name, edit(text), kind)
    for t in range(original.getNumEnergyTerms()):
        text, kind = original.getEnergyTermParameters(t)
        force.addEnergyTerm(edit(text), kind)
    for i in range(N_ATOMS):
        force.addParticle(original.getParticleParameters(i))
    assert old is None or replaced
    return force


def alone(force):
    system = openmm.System()
    for _ in range(N_ATOMS):
        system.addParticle(12.0)
    system.addForce(force)
    return system


def agreement(force):
    x = 0.5 * torch.rand(20, N_ATOMS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    system = alone(force)
    found = deviations(ForceFieldEnergy(system, 300.0, check=False), system, x)["CustomGBForce"]
    return max(found.energy, found.gradient)


@pytest.mark.parametrize("model", [customgbforces.GBSAOBC1Force, customgbforces.GBSAOBC2Force])
@pytest.mark.parametrize(
    "settings",
    [{}, {"SA": "ACE"}, {"SA": "ACE", "solventDielectric": 40.0, "soluteDielectric": 2.0}],
    ids=["no surface", "surface", "dielectrics"],
)
def test_what_openmm_writes_is_recognised(model, settings):
    assert agreement(born(model, **settings)) < TOLERANCE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.8*psi^2", "0.7*psi^2"),
        ("4.85", "4.5e0"),
        ("offset=0.009", "offset=0.012"),
        ("28.3919551", "30."),
        ("+0.14", "+0.16"),
        ("; ", ";  "),
        ("+", " + "),
    ],
)
def test_other_numbers_and_white_space_are_read(old, new):
    assert agreement(rewritten(old, new)) < TOLERANCE


def test_constants_may_be_global_parameters():
    constants = {"solventDielectric": 60.0, "soluteDielectric": 1.5, "offset": 0.01}
    assert agreement(rewritten(constants=constants)) < TOLERANCE


def test_a_misread_number_would_be_seen(monkeypatch):
    class Misread(float):
        def __new__(cls, text):
            return super().__new__(cls, 5.0 if text == "4.85" else float(text))

    monkeypatch.setattr("boltzgen.energies.forces.custom_born.float", Misread, raising=False)
    assert agreement(rewritten()) > TOLERANCE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.25*(r", "0.26*(r"),
        ("max(or1, D)", "max(or1, D+0)"),
        ("tanh(psi", "tanh(1.0*psi"),
        ("-0.5*138.935485", "-0.4*138.935485"),
        ("(radius/B)^6", "(radius/B)^5"),
        ("exp(-r^2/(4*B1*B2))", "exp(-r^2/(2*B1*B2))"),
        ("; kappa=0", "; kappa=0; charge=2"),
        ("; kappa=0", "; r=2"),
        ("-138.935485*(1/solute", "-139*(1/solute"),
        ("offset=0.009", "offset=2*0.0045"),
    ],
)  # fmt: skip
def test_any_other_text_is_refused(old, new):
    with pytest.raises(
        UnsupportedSystemError,
        match=r'^CustomGBForce must be OBC .* as OpenMM writes it; got .*: use backend="openmm"$',
    ):
        recognized_born(rewritten(old, new))


@pytest.mark.parametrize(
    "force",
    [
        lambda: born(kappa=1.0),
        lambda: born(customgbforces.GBSAHCTForce),
        lambda: born(customgbforces.GBSAGBnForce, particles=False),
    ],
    ids=["salt", "HCT", "GBn"],
)
def test_other_models_are_refused(force):
    with pytest.raises(UnsupportedSystemError, match="CustomGBForce must be OBC"):
        recognized_born(force())


def test_missing_and_doubled_expressions_are_refused():
    doubled = rewritten()
    doubled.addEnergyTerm(*doubled.getEnergyTermParameters(0))
    with pytest.raises(UnsupportedSystemError, match="twice"):
        recognized_born(doubled)
    with pytest.raises(UnsupportedSystemError, match="CustomGBForce must be OBC"):
        recognized_born(openmm.CustomGBForce())
    both = rewritten()
    both.addComputedValue("B", *born(customgbforces.GBSAOBC1Force).getComputedValueParameters(1)[1:])
    with pytest.raises(UnsupportedSystemError, match="CustomGBForce must be OBC"):
        recognized_born(both)


def test_pairs_that_respect_exclusions_are_refused():
    excluding = rewritten()
    last = excluding.getNumEnergyTerms() - 1
    text, kind = excluding.getEnergyTermParameters(last)
    assert kind == openmm.CustomGBForce.ParticlePairNoExclusions
    excluding.setEnergyTermParameters(last, text, openmm.CustomGBForce.ParticlePair)
    with pytest.raises(UnsupportedSystemError, match="CustomGBForce must be OBC"):
        recognized_born(excluding)
