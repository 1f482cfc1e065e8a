"""OpenMM as an energy: right, and exact row by row, on both platforms, here and in processes."""

import copy
import os
import pickle
import signal
import threading
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from boltzgen.energies.openmm_context import Frames
from boltzgen.energies.openmm_energy import OpenMMEnergy
from boltzgen.energies.openmm_xml import serialize
from boltzgen.errors import EnergyError, InputError, UnsupportedSystemError
from boltzgen.units import kT

PDB = Path(__file__).parents[2] / "systems" / "alanine_dipeptide" / "structure.pdb"
TEMPERATURE = 300.0
PLATFORMS = ("Reference", "CPU")
U_TOLERANCE = {"Reference": 1e-9, "CPU": 1e-3}  # kT; the CPU platform works in single precision
GRADIENT_TOLERANCE = {"Reference": 1e-7, "CPU": 5e-2}  # kT/nm, of gradients that are thousands

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def pdb():
    return app.PDBFile(str(PDB))


@pytest.fixture(scope="module")
def system(pdb):
    forcefield = app.ForceField("amber96.xml", "implicit/obc1.xml")
    return forcefield.createSystem(pdb.topology, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)


@pytest.fixture(scope="module")
def x(pdb):
    positions = torch.tensor(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    noise = torch.randn(7, *positions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return positions + 0.005 * noise


@pytest.fixture(scope="module", params=[(p, w) for p in PLATFORMS for w in (0, 2)], ids=lambda p: f"{p[0]}-{p[1]}")
def energy(request, system):
    platform, workers = request.param
    energy = OpenMMEnergy(system, TEMPERATURE, platform=platform, workers=workers)
    yield energy
    energy.close()


@pytest.fixture
def pooled(system):
    energy = OpenMMEnergy(system, TEMPERATURE, workers=2)
    yield energy
    energy.close()


def value_and_gradient(energy, x):
    x = x.clone().requires_grad_()
    u = energy.energy(x)
    return u.detach(), torch.autograd.grad(u.sum(), x)[0]


def pair():
    """Two atoms on a spring of 1000 kJ/mol/nm² at rest at 0.15 nm."""
    system, bond = openmm.System(), openmm.HarmonicBondForce()
    for _ in range(2):
        system.addParticle(12.0)
    bond.addBond(0, 1, 0.15, 1000.0)
    system.addForce(bond)
    return system


# ------------------------------------------------------------------------------------------------- the numbers


def test_value_and_gradient_are_those_of_openmm(energy, system, x):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    u, gradient = value_and_gradient(energy, x)
    for frame, u_i, gradient_i in zip(x, u, gradient, strict=True):
        context.setPositions(frame.numpy())
        state = context.getState(getEnergy=True, getForces=True)
        U = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        F = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        assert abs(u_i.item() - U / kT(TEMPERATURE)) < U_TOLERANCE[energy.platform]
        assert np.abs(gradient_i.numpy() + F / kT(TEMPERATURE)).max() < GRADIENT_TOLERANCE[energy.platform]


def test_gradient_is_the_slope_along_any_direction(system, x):
    energy = OpenMMEnergy(system, TEMPERATURE, platform="Reference")
    x = x[:3]
    _, gradient = value_and_gradient(energy, x)
    v, h = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2)), 1e-6
    slope = (energy.energy(x + h * v) - energy.energy(x - h * v)) / (2 * h)
    expected = (gradient * v).sum((1, 2))
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-4)
    assert not torch.allclose(slope, 1.001 * expected, rtol=1e-5, atol=1e-4), "the tolerance would pass anything"


def test_rows_know_nothing_of_each_other(energy, x):
    u, gradient = value_and_gradient(energy, x)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    shuffled = value_and_gradient(energy, x[order])
    alone = [value_and_gradient(energy, row[None]) for row in x]
    assert torch.equal(shuffled[0], u[order])
    assert torch.equal(shuffled[1], gradient[order])
    assert torch.equal(torch.cat([a[0] for a in alone]), u)
    assert torch.equal(torch.cat([a[1] for a in alone]), gradient)
    assert torch.equal(energy.energy(x), u), "the same without the gradient"


def test_dtype_is_kept_and_the_ledger_knows_which_needed_forces(system, x):
    energy = OpenMMEnergy(system, TEMPERATURE)
    u, gradient = value_and_gradient(energy, x.float())
    exact = value_and_gradient(energy, x.float().double())
    assert u.dtype == gradient.dtype == torch.float32
    assert torch.equal(u, exact[0].float())
    assert torch.equal(gradient, exact[1].float())
    energy.energy(x[:2])
    assert (energy.evaluations.energy, energy.evaluations.gradient) == (2, 14)
    assert energy.energy(x[:0]).shape == (0,)


def test_temperature_divides(system, x):
    cold, hot = OpenMMEnergy(system, 300.0), OpenMMEnergy(system, 600.0 * unit.kelvin)
    torch.testing.assert_close(cold.energy(x), 2 * hot.energy(x), rtol=1e-14, atol=0)
    torch.testing.assert_close(cold.at(600.0).energy(x), hot.energy(x), rtol=1e-14, atol=0)


def test_auto_is_reference_for_small_molecules_without_pair_expressions(system):
    assert OpenMMEnergy(system, TEMPERATURE).platform == "CPU"
    small, large = pair(), openmm.System()
    for _ in range(100):
        large.addParticle(1.0)
    assert OpenMMEnergy(small, TEMPERATURE).platform == "Reference"
    assert OpenMMEnergy(large, TEMPERATURE).platform == "CPU"


# --------------------------------------------------------------------------------- frames that cannot be evaluated

BAD = {
    "nan": lambda frame: frame.index_put_((torch.tensor(3), torch.tensor(1)), torch.tensor(torch.nan).double()),
    "inf": lambda frame: frame.index_put_((torch.tensor(3), torch.tensor(1)), torch.tensor(torch.inf).double()),
    "-inf": lambda frame: frame.index_put_((torch.tensor(0), torch.tensor(0)), torch.tensor(-torch.inf).double()),
    "all nan": lambda frame: frame.fill_(torch.nan),
    "coincident": lambda frame: frame.index_put_((torch.tensor(4),), frame[17].clone()),
    "one point": lambda frame: frame.zero_(),
    "huge": lambda frame: frame.mul_(1e300),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_frame_is_infinite_and_the_others_are_those_of_a_clean_batch(energy, x, bad):  # rows 1-3
    clean = value_and_gradient(energy, x)
    spoiled = x.clone()
    for k in (0, 3, 4):
        BAD[bad](spoiled[k])
    u, gradient = value_and_gradient(energy, spoiled)
    assert torch.equal(u[[0, 3, 4]], torch.full((3,), torch.inf, dtype=u.dtype))
    assert torch.equal(gradient[[0, 3, 4]], torch.zeros(3, 22, 3, dtype=u.dtype))
    for k in (1, 2, 5, 6):
        assert torch.equal(u[k], clean[0][k])
        assert torch.equal(gradient[k], clean[1][k])


@pytest.mark.parametrize("exponent", range(1, 9))
def test_atoms_close_together_never_give_nan(energy, x, exponent):  # row 4
    close = x[:2].clone()
    close[0, 4] = close[0, 17] + torch.tensor([10.0**-exponent, 0, 0])
    for frames in (close, close.float()):
        u, gradient = value_and_gradient(energy, frames)
        assert not u.isnan().any()
        assert u[1].isfinite()
        assert u[0] > u[1]
        assert gradient.isfinite().all()


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("workers", [0, 1])
def test_the_first_frame_of_the_first_batch_may_be_bad(system, x, platform, workers):  # row 5
    energy = OpenMMEnergy(system, TEMPERATURE, platform=platform, workers=workers)
    assert energy.energy(torch.full_like(x[:1], torch.nan)).tolist() == [torch.inf]
    assert energy.energy(torch.zeros_like(x[:1])).tolist() == [torch.inf]
    assert energy.energy(x[:1]).isfinite().all()
    energy.close()


def test_nothing_is_remembered_between_batches(energy, x):  # trap 1
    nudged = x.clone()
    nudged[2, 5] += 1e-6
    u, other = energy.energy(x), energy.energy(nudged)
    assert str(nudged) == str(x)
    assert u[2] != other[2]
    moving = x.clone()
    energy.energy(moving)
    moving[2, 5] += 1e-6
    assert torch.equal(energy.energy(moving), other)


# ------------------------------------------------------------------------------------------- where the origin lies


def test_far_from_the_origin_nothing_changes(energy, system, x):  # row 11
    u = energy.energy(x)
    assert (energy.energy(x + 1e6) - u).abs().max() < 2e-3
    if energy.platform == "CPU" and not energy.workers:
        uncentred = Frames(serialize(system), "CPU", centred=False)
        U, _ = uncentred.evaluate((x + 1e6).numpy(), forces=False)
        assert abs(U / kT(TEMPERATURE) - u.numpy()).max() > 1.0, "centring would not matter"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_external_field_sees_the_origin(platform):  # row 25
    system, field = openmm.System(), openmm.CustomExternalForce("100*(x^2+y^2+z^2)")
    for i in range(2):
        system.addParticle(1.0)
        field.addParticle(i, [])
    system.addForce(field)
    x = torch.randn(3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    energy = OpenMMEnergy(system, TEMPERATURE, platform=platform)
    u, gradient = value_and_gradient(energy, x)
    torch.testing.assert_close(u, 100 * x.square().sum((1, 2)) / kT(TEMPERATURE), rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, 200 * x / kT(TEMPERATURE), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------- user's mistakes


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), None, "300", 2.0 * unit.kilojoule])
def test_temperature_must_be_positive(temperature):  # rows 12, 13
    with pytest.raises(InputError, match="temperature must be"):
        OpenMMEnergy(pair(), temperature)


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [((4, 21, 3), "22 x 3"), ((4, 66), "reshape"), ((4, 65), "22 x 3"), ((4, 22, 2), "22 x 3"), ((22, 3), "22 x 3")],
)
def test_shape_must_be_that_of_the_molecule(system, shape, remedy):  # rows 14, 15
    with pytest.raises(InputError, match=rf"\(n, 22, 3\); got .*{remedy}"):
        OpenMMEnergy(system, TEMPERATURE).energy(torch.zeros(shape))


def test_platform_must_be_there():  # row 52
    with pytest.raises(InputError, match=r'platform must be "auto" or one of Reference.*CPU.*; got \'CUDAA\''):
        OpenMMEnergy(pair(), TEMPERATURE, platform="CUDAA")


def test_a_platform_that_failed_to_load_is_named_with_the_reason(monkeypatch):  # row 52
    failure = "Error loading library libOpenMMMissing.so: libMissing.so.1: cannot open shared object file"
    monkeypatch.setattr(openmm.Platform, "getPluginLoadFailures", lambda: ("other", failure))
    with pytest.raises(InputError, match=r"OpenMM says: .*libMissing\.so\.1"):
        OpenMMEnergy(pair(), TEMPERATURE, platform="Missing")


def test_auto_makes_do_with_the_platforms_there_are(monkeypatch):  # row 52
    large = openmm.System()
    for _ in range(65):
        large.addParticle(12.0)
    assert OpenMMEnergy(large, TEMPERATURE).platform == "CPU"
    monkeypatch.setattr("boltzgen.energies.openmm_energy.platforms", lambda: (["Reference"], []))
    energy = OpenMMEnergy(large, TEMPERATURE)
    assert energy.platform == "Reference"
    assert energy.energy(torch.zeros(1, 65, 3)).tolist() == [0.0]
    with pytest.raises(InputError, match=r'must be "auto" or one of Reference; got .CPU.: choose one that is there'):
        OpenMMEnergy(large, TEMPERATURE, platform="CPU")


@pytest.mark.parametrize("workers", [-1, 1.5, True, "many", None])
def test_workers_must_be_a_number_of_processes(workers):
    with pytest.raises(InputError, match="workers must be"):
        OpenMMEnergy(pair(), TEMPERATURE, workers=workers)


def test_workers_auto_is_one_per_core():
    cores = len(os.sched_getaffinity(0))
    assert OpenMMEnergy(pair(), TEMPERATURE, workers="auto").workers == (cores if cores > 1 else 0)
    assert type(OpenMMEnergy(pair(), TEMPERATURE, workers=np.int64(0)).workers) is int


def test_what_openmm_has_against_the_system_is_said_when_built():
    system = pair()
    system.addForce(openmm.NonbondedForce())  # without its particles
    with pytest.raises(EnergyError, match=r"OpenMM must be able to .* got NonbondedForce must have exactly"):
        OpenMMEnergy(system, TEMPERATURE, workers=2)


def test_constraints_are_refused(pdb):  # trap 3
    system = app.ForceField("amber96.xml").createSystem(pdb.topology, constraints=app.HBonds)
    with pytest.raises(UnsupportedSystemError, match="constraints=None"):
        OpenMMEnergy(system, TEMPERATURE)


def test_later_changes_to_the_system_have_no_effect():
    system, x = pair(), torch.tensor([[[0.0, 0, 0], [0.25, 0, 0]]])
    energy = OpenMMEnergy(system, TEMPERATURE)
    before = energy.energy(x)
    system.getForce(0).setBondParameters(0, 0, 1, 0.15, 9.0)
    energy.close()
    assert torch.equal(energy.energy(x), before)


def test_second_derivatives_are_refused(system, x):
    energy = OpenMMEnergy(system, TEMPERATURE)
    y = x[:2].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy.energy(y).sum(), y, create_graph=True)
    assert torch.equal(gradient, value_and_gradient(energy, x[:2])[1])
    with pytest.raises(EnergyError, match=r"only once; .* use ForceFieldEnergy"):
        gradient.square().sum().backward()


# -------------------------------------------------------------------------------------------- processes, copies


def test_processes_give_the_same_bits(system, pooled, x):
    here = OpenMMEnergy(system, TEMPERATURE)
    for n in (1, 2, 7):
        u, gradient = value_and_gradient(here, x[:n])
        there = value_and_gradient(pooled, x[:n])
        assert torch.equal(there[0], u)
        assert torch.equal(there[1], gradient)
    assert pooled.energy(x[:0]).shape == (0,)


def test_a_killed_worker_is_replaced(pooled, x):  # row 6
    u = pooled.energy(x)
    os.kill(pooled._engine["backend"].pids[1], signal.SIGKILL)
    assert torch.equal(pooled.energy(x), u)


def test_closing_is_not_the_end(pooled, x):
    u = pooled.energy(x)
    pooled.close()
    assert pooled._engine["backend"] is None
    assert torch.equal(pooled.energy(x), u)


def test_copies_and_pickles_evaluate_by_themselves(energy, x):
    u = energy.energy(x)
    for other in (copy.deepcopy(energy), pickle.loads(pickle.dumps(energy))):
        assert torch.equal(other.energy(x), u)
        assert other._engine["backend"] is not energy._engine["backend"]
        assert (other.temperature, other.platform, other.workers) == (TEMPERATURE, energy.platform, energy.workers)
        other.close()
    assert torch.equal(energy.energy(x), u)


def test_threads_take_turns(system, x):
    energy = OpenMMEnergy(system, TEMPERATURE)
    u = energy.energy(x)
    found = {}

    def evaluate(k):
        found[k] = [energy.energy(x[k:]) for _ in range(10)]

    threads = [threading.Thread(target=evaluate, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(v, u[k:]) for k in range(4) for v in found[k])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_its_own(energy, x):  # row 60
    u = energy.energy(x)
    backend = energy._engine["backend"]
    pid = os.fork()
    if pid == 0:
        right = False
        try:
            right = torch.equal(energy.energy(x), u) and energy._engine["backend"] is not backend
            energy.close()
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert energy._engine["backend"] is backend
    assert torch.equal(energy.energy(x), u)


@pytest.mark.filterwarnings("ignore")  # torch's own
def test_torch_compile_steps_aside(system, x):
    energy = OpenMMEnergy(system, TEMPERATURE)
    compiled = torch.compile(lambda y: 2 * energy._energy(y + 0.0), dynamic=False, backend="eager")
    y = x.clone().requires_grad_()
    u = compiled(y)
    expected = value_and_gradient(energy, x)
    assert torch.equal(u, 2 * expected[0])
    assert torch.equal(torch.autograd.grad(u.sum(), y)[0], 2 * expected[1])


def test_the_fingerprint_is_of_what_is_evaluated_and_not_of_how(system):
    energies = [OpenMMEnergy(system, 300.0, platform=p, workers=w) for p, w in zip(PLATFORMS, (0, 1), strict=True)]
    same = energies[0].fingerprint
    assert same == energies[1].fingerprint != OpenMMEnergy(system, 301.0).fingerprint
    energies[0].close()
    assert energies[0].fingerprint == same
