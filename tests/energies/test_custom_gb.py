"""Generalized Born by its formulae: every model that OpenMM ships, with salt and cutoffs, and models of one's own."""

from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.forces.born import GeneralizedBorn
from boltzgen.energies.forces.custom_gb import CustomGeneralizedBorn, generalized_born
from boltzgen.energies.parity import TOLERANCE, deviations, trial_positions

PDB = app.PDBFile(str(Path(__file__).parents[2] / "systems" / "alanine_dipeptide" / "structure.pdb"))
X = trial_positions(22, PDB.positions)
FLOAT32 = 2e-5
SETTINGS = {
    "pure water": {},
    "salt": {"implicitSolventKappa": 1.3 / unit.nanometer},
    "dielectrics": {"soluteDielectric": 2.0, "solventDielectric": 40.0, "implicitSolventKappa": 1.3 / unit.nanometer},
    "cutoff": {"nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": 0.6 * unit.nanometer},
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("model", ["hct", "obc1", "obc2", "gbn", "gbn2"])
def test_every_shipped_model_agrees_with_openmm(model, settings):
    system = app.ForceField("amber14-all.xml", f"implicit/{model}.xml").createSystem(PDB.topology, **SETTINGS[settings])
    energy = ForceFieldEnergy(system, 300.0, check=False)
    for name, deviation in deviations(energy, system, X).items():
        assert max(deviation.energy, deviation.gradient) < TOLERANCE, name
    for name, deviation in deviations(energy, system, X[:3].float()).items():
        assert max(deviation.energy, deviation.gradient) < FLOAT32, name


def own():
    rng = np.random.default_rng(0)
    force = openmm.CustomGBForce()
    force.addPerParticleParameter("q")
    force.addComputedValue("A", "q2*exp(-r)+q1", force.ParticlePair)
    force.addComputedValue("B", "A*x+q^2", force.SingleParticle)
    force.addEnergyTerm("B*A+z", force.SingleParticle)
    force.addEnergyTerm("B1*A2/(r+1)", force.ParticlePair)
    force.addEnergyTerm("B1*A1*r", force.ParticlePairNoExclusions)
    for _ in range(8):
        force.addParticle([rng.normal()])
    force.addExclusion(2, 5)
    return force


def test_a_model_of_ones_own_agrees_with_openmm(assert_parity):
    assert_parity(own(), 8)


@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_second_derivatives_through_the_values_of_atoms(alone):
    energy = ForceFieldEnergy(alone(own(), 8), 300.0, check=False)
    x = torch.rand(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def u(x):
        return energy.energy(x[None])[0]

    torch.testing.assert_close(torch.func.hessian(u)(x), torch.autograd.functional.hessian(u, x))


@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_torch_compile_sees_one_graph(alone):
    energy = ForceFieldEnergy(alone(own(), 8), 300.0, check=False)
    x = torch.rand(5, 8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    traced = torch.compile(energy._energy, dynamic=False, fullgraph=True, backend="aot_eager")
    (expected,) = torch.autograd.grad(energy.energy(x).sum(), x)
    torch.testing.assert_close(torch.autograd.grad(traced(x).sum(), x)[0], expected)


def test_obc_has_its_own_form_and_the_others_their_formulae():
    for model, kind in (("obc1", GeneralizedBorn), ("obc2", GeneralizedBorn), ("gbn2", CustomGeneralizedBorn)):
        system = app.ForceField("amber14-all.xml", f"implicit/{model}.xml").createSystem(PDB.topology)
        (force,) = (f for f in system.getForces() if isinstance(f, openmm.CustomGBForce))
        assert type(generalized_born(force)) is kind


@pytest.mark.parametrize("name", ["amber19-all.xml", pytest.param("charmm36_2024.xml", marks=pytest.mark.slow)])
def test_force_fields_with_correction_maps_agree_with_openmm(name):
    system = app.ForceField(name).createSystem(PDB.topology)
    found = deviations(ForceFieldEnergy(system, 300.0, check=False), system, X)
    assert "CMAPTorsionForce" in found
    assert max(max(deviation[:2]) for deviation in found.values()) < TOLERANCE


def test_a_neighbour_counted_once_would_be_seen(assert_parity, monkeypatch):
    total = "boltzgen.energies.forces.custom_gb.total_rows"
    from boltzgen.energies.forces.geometry import total_rows

    monkeypatch.setattr(total, lambda v, i, n: total_rows(v[: len(v) // 2], i[: len(i) // 2], n))
    with pytest.raises(AssertionError, match="differs from OpenMM"):
        assert_parity(own(), 8)
