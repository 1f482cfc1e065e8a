"""The compiled energy: the numbers of OpenMM, at every order of differentiation, in every corner."""

import copy
import functools
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from boltzgen.energies import force_field
from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.forces import Frames, rows
from boltzgen.energies.parity import TOLERANCE, deviations, require_parity
from boltzgen.errors import EnergyError, InputError, UnsupportedSystemError
from boltzgen.units import kT

PDB = app.PDBFile(str(Path(__file__).parents[2] / "systems" / "alanine_dipeptide" / "structure.pdb"))
POSITIONS = torch.tensor(np.array(PDB.positions.value_in_unit(unit.nanometer)))
FORCE_FIELDS = {
    "vacuum": ("amber96.xml",),
    "obc1": ("amber96.xml", "implicit/obc1.xml"),
    "obc2": ("amber96.xml", "implicit/obc2.xml"),
    "gbsa": ("amber99sbildn.xml", "amber99_obc.xml"),
    "amber14": ("amber14-all.xml",),
    "gbn2": ("amber14-all.xml", "implicit/gbn2.xml"),
}
FLOAT32 = 2e-5  # relative, energies to the scale of their batch, forces to that of their frame
FINITE_DIFFERENCE = 1e-6  # relative; step 1e-5 nm
INDEPENDENT = 1e-12


def system(name, **settings):
    return app.ForceField(*FORCE_FIELDS[name]).createSystem(PDB.topology, constraints=None, **settings)


def compiled(name, temperature=300.0, **settings):
    return ForceFieldEnergy(system(name), temperature, check=False, **settings)


def distorted(n, distortion, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return POSITIONS + distortion * torch.randn(n, *POSITIONS.shape, dtype=torch.float64, generator=generator)


def simulated(n, temperature):
    """Frames of molecular dynamics in vacuum, 20 fs apart."""
    integrator = openmm.LangevinMiddleIntegrator(temperature, 10.0, 0.001)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system("vacuum"), integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(POSITIONS.numpy())
    context.setVelocitiesToTemperature(temperature, 1)
    frames = []
    for _ in range(n):
        integrator.step(20)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return torch.tensor(np.array(frames))


@pytest.fixture(scope="module")
def configurations():
    return {"perturbed": distorted(100, 0.01), "hot": simulated(100, 1000.0), "clashing": distorted(30, 0.15)}


@pytest.fixture(scope="module")
def obc1():
    return compiled("obc1")


def gradient(energy, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(energy.energy(x).sum(), x)[0]


def pair(*forces):
    """Two carbons with these forces."""
    pair = openmm.System()
    for _ in range(2):
        pair.addParticle(12.0)
    for force in forces:
        pair.addForce(force)
    return pair


def bond(length=0.15, stiffness=1000.0):
    force = openmm.HarmonicBondForce()
    force.addBond(0, 1, length, stiffness)
    return force


# -- parity with OpenMM


@pytest.mark.parametrize("name", FORCE_FIELDS)
def test_every_force_agrees_with_openmm(name, configurations):
    reference, energy = system(name), compiled(name)
    for x in configurations.values():
        for force, deviation in deviations(energy, reference, x).items():
            assert deviation.energy < TOLERANCE, force
            assert deviation.gradient < TOLERANCE, force


@pytest.mark.parametrize("name", FORCE_FIELDS)
def test_single_precision_agrees_with_double(name, configurations):
    energy = compiled(name)
    for x in (configurations["perturbed"], configurations["hot"]):
        single, double = energy.per_force(x.float()), energy.per_force(x.float().double())
        for force, U in double.items():
            assert single[force].dtype == torch.float32
            assert (single[force] - U).abs().max() < FLOAT32 * U.square().mean().sqrt(), force
        difference = (gradient(energy, x.float()) - gradient(energy, x.float().double())).abs().amax((1, 2))
        assert (difference / gradient(energy, x).abs().amax((1, 2))).max() < FLOAT32


def test_parameters_of_every_kind_agree_with_openmm():
    """Twelve atoms with random parameters: phases other than 0 and π, charged exceptions, spheres within spheres."""
    rng = np.random.default_rng(3)
    n = 12
    mixed = openmm.System()
    bonds, angles, torsions = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce(), openmm.PeriodicTorsionForce()
    nonbonded, born = openmm.NonbondedForce(), openmm.GBSAOBCForce()
    for _ in range(n):
        mixed.addParticle(12.0)
        nonbonded.addParticle(rng.normal(), rng.uniform(0.1, 0.4), rng.choice([0.0, 1.0]))
        born.addParticle(rng.normal(), rng.uniform(0.05, 0.3), rng.uniform(0.5, 2.0))
    for _ in range(20):
        i, j, k, end = (int(a) for a in rng.permutation(n)[:4])
        bonds.addBond(i, j, rng.uniform(0.1, 0.2), rng.uniform(0, 1e5))
        angles.addAngle(i, j, k, rng.uniform(0, math.pi), rng.uniform(0, 500))
        for _ in range(3):
            order, phase, height = int(rng.integers(1, 7)), rng.uniform(-4, 4), rng.normal()
            torsions.addTorsion(*((i, j, k, end) if rng.random() < 0.5 else (end, k, j, i)), order, phase, height)
        nonbonded.addException(i, j, rng.normal(), rng.uniform(0.1, 0.4), rng.uniform(0, 2), replace=True)
    born.setSurfaceAreaEnergy(1.0)
    born.setSoluteDielectric(2.0)
    for force in (bonds, angles, torsions, nonbonded, born):
        mixed.addForce(force)
    x = 0.5 * torch.rand(30, n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = deviations(ForceFieldEnergy(mixed, 300.0), mixed, x)
    assert len(found) == 5
    for force, deviation in found.items():
        assert max(deviation[:2]) < TOLERANCE, force


PLANTED = [
    ("HarmonicBondForce", "length"),
    ("HarmonicBondForce", "stiffness"),
    ("HarmonicAngleForce", "angle"),
    ("PeriodicTorsionForce", "cosines"),
    ("NonbondedForce", "charge"),
    ("NonbondedForce", "size"),
    ("CustomGBForce", "neighbour_radius"),
    ("CustomGBForce", "surface"),
]


@pytest.mark.parametrize(("force", "parameter"), PLANTED)
def test_one_wrong_parameter_is_found_and_its_force_named(force, parameter):
    energy = compiled("obc1")
    module = energy._forces[energy._names.index(force)]
    values = getattr(module, parameter + "_float64").view(-1)
    values[int(values.abs().argmax())] *= 1 + 1e-5
    with pytest.raises(
        EnergyError, match=rf"^{force} in torch must agree with OpenMM Reference .* worst at atoms \d+, "
    ):
        require_parity(energy, system("obc1"), POSITIONS)


def test_the_comparison_is_made_when_the_energy_is_built(monkeypatch):
    monkeypatch.setattr("boltzgen.energies.forces.nonbonded.COULOMB", 138.9)
    with pytest.raises(EnergyError, match=r"^NonbondedForce"):
        ForceFieldEnergy(system("vacuum"), 300.0)
    ForceFieldEnergy(system("vacuum"), 300.0, check=False)


# -- the contract of an Energy


def test_energy_is_the_sum_of_the_forces_over_the_thermal_energy(obc1):
    x = distorted(4, 0.02)
    U = obc1.per_force(x)
    assert set(U) == {
        "HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce", "NonbondedForce", "CustomGBForce",
    }  # fmt: skip
    torch.testing.assert_close(obc1.energy(x), sum(U.values()) / kT(300.0))
    torch.testing.assert_close(obc1.at(600.0).energy(x), obc1.energy(x) / 2)


def test_the_minimum_has_the_published_energy(obc1):
    assert sum(obc1.per_force(POSITIONS[None]).values()).item() == pytest.approx(-173.0415, abs=1e-4)


def test_forces_with_one_name_are_told_apart():
    U = ForceFieldEnergy(pair(bond(0.1), bond(0.2)), 300.0).per_force(torch.eye(3)[None, :2])
    assert list(U) == ["HarmonicBondForce", "HarmonicBondForce 2"]
    assert U["HarmonicBondForce"] != U["HarmonicBondForce 2"]


def test_description_says_where_each_force_is_evaluated(obc1):
    assert "CustomGBForce: torch, GeneralizedBorn" in obc1.describe().splitlines()


def test_gradient_is_the_slope_along_a_line(obc1):
    x, step = distorted(5, 0.02), 1e-5
    direction = distorted(5, 1.0, seed=1) - POSITIONS
    slope = (obc1.energy(x + step * direction) - obc1.energy(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient(obc1, x) * direction).sum((1, 2)), slope, rtol=FINITE_DIFFERENCE, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_position_spoils_its_own_row_only(obc1, bad, dtype):
    clean = distorted(7, 0.02).to(dtype)
    spoilt = clean.clone()
    spoilt[3, 5, 1] = bad
    kept = [0, 1, 2, 4, 5, 6]
    u, g = obc1.energy(spoilt), gradient(obc1, spoilt)
    assert u[3] == torch.inf
    assert (g[3] == 0).all()
    assert torch.equal(u[kept], obc1.energy(clean)[kept])
    assert torch.equal(g[kept], gradient(obc1, clean)[kept])
    for U in obc1.per_force(spoilt).values():
        assert not U.isnan().any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_position_that_no_force_sees_spoils_its_row(bad):
    far = openmm.CustomNonbondedForce("1/r")
    far.setNonbondedMethod(far.CutoffNonPeriodic)
    for _ in range(2):
        far.addParticle([])
    x = torch.eye(3)[None, :2].repeat(2, 1, 1)
    x[0, 1, 2] = bad
    energy = ForceFieldEnergy(pair(far), 300.0)
    assert energy.energy(x).isinf().tolist() == [True, False]
    assert energy.per_force(x)["CustomNonbondedForce"].isinf().tolist() == [True, False]
    assert not gradient(energy, x)[0].any()


CLASHES = {"bonded": (0, 1), "not bonded": (4, 16)}
SOLVENTS = ["obc1", "gbsa", "gbn2"]


@pytest.fixture(scope="module")
def solvated():
    """The energy in each solvent, built once."""
    return functools.cache(compiled)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("atoms", CLASHES)
@pytest.mark.parametrize("solvent", SOLVENTS)
def test_coincident_atoms_have_infinite_energy(solvated, solvent, atoms, dtype):
    energy, (i, j) = solvated(solvent), CLASHES[atoms]
    x = distorted(3, 0.02).to(dtype)
    x[1, i] = x[1, j]
    u, g = energy.energy(x), gradient(energy, x)
    assert u.isinf().tolist() == [False, True, False]
    assert (g[1] == 0).all()
    assert g.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("atoms", CLASHES)
@pytest.mark.parametrize("solvent", SOLVENTS)
def test_close_atoms_have_a_large_or_infinite_energy(solvated, solvent, atoms, dtype):
    """Distances of 0.1 to 1e-8 nm."""
    energy, (i, j) = solvated(solvent), CLASHES[atoms]
    x = distorted(1, 0.02).to(dtype).repeat(8, 1, 1)
    for k in range(8):
        x[k, i] = x[k, j] + torch.tensor([10.0 ** -(k + 1), 0.0, 0.0], dtype=dtype)
    u, g = energy.energy(x), gradient(energy, x)
    assert not u.isnan().any()
    assert (u > -1e3).all()
    assert g.isfinite().all()
    assert not g[u.isinf()].any()


def test_far_from_the_origin_nothing_changes(obc1):
    x = distorted(3, 0.02)
    shift = torch.tensor([1e6, -1e6, 1e6], dtype=torch.float64)  # rounds positions to 1e-10 nm
    torch.testing.assert_close(obc1.energy(x + shift), obc1.energy(x), rtol=0, atol=1e-4)


def test_each_row_is_evaluated_on_its_own(obc1):
    x = distorted(9, 0.03)
    alone = torch.cat([obc1.energy(row[None]) for row in x])
    torch.testing.assert_close(obc1.energy(x), alone, rtol=INDEPENDENT, atol=INDEPENDENT)
    assert obc1.energy(x[:0]).shape == (0,)


def test_a_batch_evaluated_in_pieces_is_that_of_its_rows(obc1):
    n = 2 * obc1._at_once(POSITIONS)[0] + 7
    x = distorted(n, 0.02)
    u, force = obc1.energy(x), gradient(obc1, x)
    few = torch.cat([obc1.energy(rows) for rows in x.split(50)])
    torch.testing.assert_close(u, few, rtol=INDEPENDENT, atol=INDEPENDENT)
    spoilt, bad = x.clone(), obc1._at_once(x)[0] + 3
    spoilt[bad, 5, 1] = torch.nan
    kept = torch.arange(n) != bad
    assert torch.equal(obc1.energy(spoilt)[kept], u[kept])
    assert obc1.energy(spoilt)[bad] == torch.inf
    assert torch.equal(gradient(obc1, spoilt)[kept], force[kept])
    assert not gradient(obc1, spoilt)[bad].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_that_may_keep_little_has_the_same_bits(obc1, dtype, monkeypatch):
    monkeypatch.setattr(force_field, "_AT_ONCE", 20 * dtype.itemsize * 231**0.5)
    x = distorted(80, 0.01).to(dtype)
    frugal = compiled("obc1", max_memory=20 * 231 * 42.5 * dtype.itemsize)  # 20 frames, in the same pieces

    def found(energy):
        leaf = x.clone().requires_grad_()
        u = energy.energy(leaf)
        (slope,) = torch.autograd.grad(u.sum(), leaf, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.square().sum(), leaf)
        return u.detach(), slope.detach(), curvature

    for mine, its in zip(found(frugal), found(compiled("obc1")), strict=True):
        assert torch.equal(mine, its)
    with pytest.raises(InputError, match="positive number of bytes"):
        compiled("obc1", max_memory=0)


@pytest.mark.parametrize("fitting", [0.5, 1, 3])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_no_piece_is_larger_than_the_memory_allows(device, fitting, monkeypatch):
    """On a processor as on other devices, of which "meta" is one without numbers; in batches of any size."""
    pieces = []
    reduced = ForceFieldEnergy._reduced
    monkeypatch.setattr(ForceFieldEnergy, "_reduced", lambda self, x: (pieces.append(len(x)), reduced(self, x))[1])
    for dtype, bytes_per_pair in ((torch.float32, 80), (torch.float64, 160)):
        energy = compiled("vacuum", max_memory=fitting * 231 * bytes_per_pair).to(device)
        for n in (1, 2, 3, 8):
            x = distorted(n, 0.01).to(device, dtype)
            pieces.clear()
            energy.energy(x)
            assert max(pieces) == min(n, max(1, fitting))
            pieces.clear()
            gradient(energy, x)
            assert (max(pieces), sum(pieces)) == (min(n, max(1, fitting)), n)


def test_forces_are_told_apart_in_no_larger_pieces(obc1, monkeypatch):
    x, pieces = distorted(8, 0.01), []
    whole = obc1.per_force(x)
    frugal = compiled("obc1", max_memory=3 * 231 * 340)
    potentials = frugal._potentials
    monkeypatch.setattr(frugal, "_potentials", lambda x: (pieces.append(len(x)), potentials(x))[1])
    for name, U in frugal.per_force(x).items():
        torch.testing.assert_close(U, whole[name])
    assert pieces == [3, 3, 2]
    assert [len(U) for U in frugal.per_force(x[:0]).values()] == [0] * len(whole)


def test_shapes_and_temperatures_are_checked(obc1):
    with pytest.raises(InputError, match=r"\(n, 22, 3\)"):
        obc1.per_force(torch.zeros(2, 66))
    with pytest.raises(InputError, match="temperature"):
        ForceFieldEnergy(pair(bond()), math.nan)
    with pytest.raises(InputError, match=r"positions must have shape \(2, 3\)"):
        ForceFieldEnergy(pair(bond()), 300.0, positions=POSITIONS)


def test_the_system_is_read_once():
    force = bond()
    changing = pair(force)
    energy = ForceFieldEnergy(changing, 300.0)
    x = torch.eye(3)[None, :2]
    before = energy.energy(x)
    changing.getForce(0).setBondParameters(0, 0, 1, 0.3, 1.0)
    assert torch.equal(energy.energy(x), before)


def test_systems_without_pairs_or_forces():
    lonely = openmm.System()
    lonely.addParticle(12.0)
    for force in (openmm.NonbondedForce(), openmm.GBSAOBCForce()):
        force.addParticle(1.0, 0.2, 0.5)
        lonely.addForce(force)
    U = ForceFieldEnergy(lonely, 300.0).per_force(torch.zeros(2, 1, 3))
    assert U["NonbondedForce"].tolist() == [0.0, 0.0]
    assert (U["GBSAOBCForce"] < 0).all()
    assert ForceFieldEnergy(pair(), 300.0).energy(torch.zeros(2, 2, 3)).tolist() == [0.0, 0.0]


# -- singular geometries


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_straight_lines_have_finite_energies_and_gradients(dtype):
    line = openmm.System()
    for _ in range(4):
        line.addParticle(12.0)
    angles, torsions = openmm.HarmonicAngleForce(), openmm.PeriodicTorsionForce()
    angles.addAngle(0, 1, 2, 2.0, 100.0)
    torsions.addTorsion(0, 1, 2, 3, 3, 0.5, 2.0)
    line.addForce(angles)
    line.addForce(torsions)
    energy = ForceFieldEnergy(line, 300.0)
    straight = torch.arange(4, dtype=dtype)[:, None] * torch.tensor([0.0, 0.0, 0.1], dtype=dtype)
    folded, bent, together = straight.clone(), straight.clone(), torch.zeros(4, 3, dtype=dtype)
    folded[2] = folded[0]
    bent[3, 1] = 0.1
    x = torch.stack([straight, folded, bent, together])
    U = energy.per_force(x)
    assert all(value.isfinite().all() for value in U.values())
    torch.testing.assert_close(
        U["HarmonicAngleForce"][:3], 50.0 * torch.tensor([math.pi - 2.0, 2.0, math.pi - 2.0], dtype=dtype).square()
    )
    assert gradient(energy, x).abs().max() < INDEPENDENT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("m", "phase"), [(1, 0.0), (2, 1.0), (3, 0.0)])
def test_a_torsion_without_a_dihedral_pulls_nowhere(m, phase, dtype):
    """Although its series has a slope where cos φ = sin φ = 0; nor by autograd, which compiled code takes."""
    line, torsions = openmm.System(), openmm.PeriodicTorsionForce()
    for _ in range(4):
        line.addParticle(12.0)
    torsions.addTorsion(0, 1, 2, 3, m, phase, 3.0)
    line.addForce(torsions)
    x = torch.tensor([[[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [0.25, 0.1, 0.0]]], dtype=dtype)
    energy = ForceFieldEnergy(line, 300.0)

    def by_autograd(x):
        x = x.detach().requires_grad_()
        (force,) = energy._forces
        return torch.autograd.grad(force(Frames(rows(x), energy._i, energy._j)).sum(), x)[0]

    assert (gradient(energy, x) == 0).all()
    assert (by_autograd(x) == 0).all()
    x[0, 1, 2] = 0.01
    assert (gradient(energy, x) != 0).any()
    torch.testing.assert_close(by_autograd(x) * energy._beta, gradient(energy, x), rtol=1e-4, atol=1e-3)


def test_an_angle_with_a_side_of_length_zero_pulls_nowhere_and_spares_its_neighbours():
    three, angles = pair(bond()), openmm.HarmonicAngleForce()
    three.addParticle(12.0)
    angles.addAngle(1, 2, 0, 2.0, 100.0)
    three.addForce(angles)
    x = torch.tensor([[[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.2, 0.0, 0.0]]], dtype=torch.float64)
    alone = ForceFieldEnergy(pair(bond()), 300.0)
    both = gradient(ForceFieldEnergy(three, 300.0), x)
    assert torch.equal(both[:, :2], gradient(alone, x[:, :2]))
    assert (both[:, 2] == 0).all()


def test_a_bond_of_length_zero_pulls_nowhere_and_spares_its_neighbour():
    bonds = bond()
    bonds.addBond(1, 2, 0.15, 1000.0)
    three = pair(bonds)
    three.addParticle(12.0)
    energy = ForceFieldEnergy(three, 300.0)
    x = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.25]]])
    assert energy.energy(x).item() == pytest.approx(0.5 * 1000.0 * (0.15**2 + 0.1**2) / kT(300.0))
    pull = 1000.0 * 0.1 / kT(300.0)
    torch.testing.assert_close(gradient(energy, x)[0, :, 2], torch.tensor([0.0, -pull, pull]))


# -- higher derivatives


@pytest.mark.filterwarnings("default")  # torch warns of itself
@pytest.mark.parametrize("name", ["obc1", "gbsa"])
@pytest.mark.parametrize("distortion", [0.01, 0.1])
def test_second_derivatives_are_differences_of_gradients(name, distortion):
    energy = compiled(name)
    x, step = distorted(1, distortion)[0], 1e-6
    hessian = torch.func.hessian(lambda y: energy.energy(y[None])[0])(x)
    twice = torch.autograd.functional.hessian(lambda y: energy.energy(y[None])[0], x)
    torch.testing.assert_close(hessian, twice, rtol=1e-9, atol=1e-9 * twice.abs().max().item())
    along = distorted(1, 1.0, seed=1)[0] - POSITIONS
    (slope, _), (curvature, tangent) = torch.func.jvp(
        torch.func.grad_and_value(lambda y: energy.energy(y[None])[0]), (x,), (along,)
    )
    torch.testing.assert_close(tangent, (slope * along).sum(), rtol=1e-9, atol=0)
    torch.testing.assert_close(curvature, torch.einsum("aibj,bj->ai", hessian, along))
    unit_steps = step * torch.eye(66, dtype=torch.float64).view(66, 22, 3)
    differences = (gradient(energy, x + unit_steps) - gradient(energy, x - unit_steps)) / (2 * step)
    torch.testing.assert_close(
        hessian.reshape(66, 66),
        differences.reshape(66, 66),
        rtol=FINITE_DIFFERENCE,
        atol=1e-7 * hessian.abs().max().item(),
    )


def test_a_gradient_can_be_trained_on(obc1):
    """Double backward through create_graph, as force matching needs it."""
    x = distorted(2, 0.02).requires_grad_()
    (force,) = torch.autograd.grad(obc1.energy(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(force.square().sum(), x)
    rows = [torch.autograd.functional.hessian(lambda y: obc1.energy(y[None])[0], row) for row in x.detach()]
    expected = [2 * torch.einsum("aibj,bj->ai", h, f) for h, f in zip(rows, force.detach(), strict=True)]
    torch.testing.assert_close(second, torch.stack(expected), rtol=1e-9, atol=1e-3)


# -- as a module


def test_precision_survives_moves_copies_and_pickles(obc1):
    x = distorted(3, 0.02)
    expected = obc1.energy(x)
    for energy in (copy.deepcopy(obc1), pickle.loads(pickle.dumps(obc1))):
        assert torch.equal(energy.energy(x), expected)
    moved = copy.deepcopy(obc1).float().double().to("cpu", torch.float32)
    assert torch.equal(moved.energy(x), expected)
    assert moved.energy(x.float()).dtype == torch.float32
    assert not obc1.state_dict()
    assert copy.deepcopy(obc1).to("meta").energy(x.to("meta")).device.type == "meta"


def test_another_process_gets_the_same_numbers(obc1, tmp_path):
    x = distorted(3, 0.02)
    (tmp_path / "energy.pickle").write_bytes(pickle.dumps((obc1, x)))
    code = (
        "import pickle, sys; energy, x = pickle.load(open(sys.argv[1], 'rb')); "
        "print(*[u.hex() for u in energy.energy(x).tolist()])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "energy.pickle")]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert [float.fromhex(u) for u in output.split()] == obc1.energy(x).tolist()


@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_torch_compile_sees_one_graph(obc1):
    traced = torch.compile(obc1._energy, dynamic=False, fullgraph=True, backend="aot_eager")
    x = distorted(3, 0.02)
    leaf = x.clone().requires_grad_()
    u = traced(leaf)
    torch.testing.assert_close(u.detach(), obc1.energy(x), rtol=INDEPENDENT, atol=INDEPENDENT)
    (g,) = torch.autograd.grad(u.sum(), leaf)
    torch.testing.assert_close(g, gradient(obc1, x), rtol=INDEPENDENT, atol=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_compiled_code_agrees_with_eager(obc1):
    x = torch.cat([distorted(32, 0.02), distorted(32, 0.05)]).float()
    faster = torch.compile(obc1._energy, dynamic=False)
    leaf = x.clone().requires_grad_()
    u = faster(leaf)
    (g,) = torch.autograd.grad(u.sum(), leaf)
    torch.testing.assert_close(u.detach(), obc1.energy(x), rtol=1e-5, atol=1e-3)
    expected = gradient(obc1, x)
    assert ((g - expected).abs().amax((1, 2)) / expected.abs().amax((1, 2))).max() < FLOAT32


# -- what is refused


def test_forces_that_are_not_compiled_are_refused_by_name():
    unknown = openmm.RMSDForce([openmm.Vec3(0, 0, 0), openmm.Vec3(1, 0, 0)])
    unknown.setName("likeness")
    with pytest.raises(UnsupportedSystemError, match=r'^likeness must be .* got RMSDForce: use backend="openmm"$'):
        ForceFieldEnergy(pair(unknown), 300.0)
    unreadable = openmm.CustomBondForce("k*(r-0.1)^4")
    unreadable.setName("quartic")
    system = pair(unreadable)
    with pytest.raises(UnsupportedSystemError, match=r"^quartic: an expression must be .* the unknown variable 'k'"):
        ForceFieldEnergy(system, 300.0, check=False)
    with pytest.raises(EnergyError, match="OpenMM must be able to evaluate this System; got Unknown variable"):
        ForceFieldEnergy(system, 300.0)


def test_a_cutoff_in_the_built_in_solvent_is_refused():
    force = openmm.GBSAOBCForce()
    force.setNonbondedMethod(force.CutoffNonPeriodic)
    for charge in (0.5, -0.5):
        force.addParticle(charge, 0.15, 0.8)
    with pytest.raises(UnsupportedSystemError, match=r"^GBSAOBCForce must use NoCutoff"):
        ForceFieldEnergy(pair(force), 300.0)


def test_systems_that_cannot_be_sampled_are_refused():
    with pytest.raises(UnsupportedSystemError, match="constraints"):
        ForceFieldEnergy(
            app.ForceField("amber96.xml").createSystem(PDB.topology, constraints=app.HBonds), 300.0, check=False
        )


def test_the_remover_of_centre_of_mass_motion_is_no_energy():
    assert list(ForceFieldEnergy(pair(bond(), openmm.CMMotionRemover()), 300.0).per_force(torch.eye(3)[None, :2])) == [
        "HarmonicBondForce"
    ]
