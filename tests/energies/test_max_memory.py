"""`max_memory`: what an energy and its gradient take at their height, eager and compiled, measured by the allocator."""

import functools
import weakref
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit
from torch.profiler import profile

from boltzgen.energies import ForceFieldEnergy, HybridEnergy, force_field
from boltzgen.energies.hybrid import system_energy
from boltzgen.errors import InputError
from boltzgen.molecule import Molecule

PDB = app.PDBFile(str(Path(__file__).parents[2] / "systems" / "alanine_dipeptide" / "structure.pdb"))
POSITIONS = torch.tensor(np.array(PDB.positions.value_in_unit(unit.nanometer)))
PAIRS = 231
FORCE_FIELDS = {  # files, and the bytes per frame and pair in float32 that are documented
    "vacuum": (("amber96.xml",), 80),
    "obc1": (("amber96.xml", "implicit/obc1.xml"), 170),
    "gbsa": (("amber99sbildn.xml", "amber99_obc.xml"), 170),
    "hct": (("amber96.xml", "implicit/hct.xml"), 900),
    "gbn2": (("amber14-all.xml", "implicit/gbn2.xml"), 900),
}
BESIDES = 2.5e5  # bytes: positions, gradients, what is made of parameters


@functools.cache
def system(name):
    return app.ForceField(*FORCE_FIELDS[name][0]).createSystem(PDB.topology, constraints=None)


def energy(name, **settings):
    return ForceFieldEnergy(system(name), 300.0, check=False, **settings)


def frames(n, dtype=torch.float32):
    noise = torch.randn(n, *POSITIONS.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (POSITIONS + 0.01 * noise).to(dtype)


def with_gradient(function, x):
    leaf = x.clone().requires_grad_()
    u = function(leaf)
    return u.detach(), torch.autograd.grad(u.sum(), leaf)[0]


def peak(call, *arguments):
    """The most bytes that a second call of it has at any moment."""
    call(*arguments)
    with profile(profile_memory=True) as record:
        call(*arguments)
    sizes = [event.nbytes() for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    return int(np.cumsum(sizes).max())


@pytest.fixture
def compiled_without_compiler(monkeypatch):
    """`torch.compile` as far as it goes without C++; the numbers of frames in the pieces that are compiled."""
    sizes = []

    def traced(self, x):
        sizes.append(len(x))
        return reduced(self, x)

    reduced = torch.compile(ForceFieldEnergy._reduced, dynamic=False, backend="aot_eager")
    monkeypatch.setattr(force_field, "_compiled_reduced", lambda: traced)
    return sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FORCE_FIELDS)
def test_an_energy_and_its_gradient_take_no_more_than_they_may(name, dtype):
    """In every force field and precision, whether one frame fits, some, or all; and nearly all that is documented."""
    each = FORCE_FIELDS[name][1] * dtype.itemsize / 4 * PAIRS
    for fitting, n in ((1, 3), (20, 20), (20, 21), (20, 90)):
        frugal = energy(name, max_memory=fitting * each)
        x = frames(n, dtype)
        assert frugal._at_once(x)[1] == fitting
        assert peak(with_gradient, frugal.energy, x) < fitting * each + BESIDES, (fitting, n)
        with torch.no_grad():
            assert peak(frugal.energy, x) < fitting * each + BESIDES, (fitting, n)
    whole = energy(name)
    assert peak(with_gradient, whole._reduced, frames(90, dtype)) > 0.7 * 90 * each


@pytest.mark.parametrize("name", ["gbsa", "gbn2"])
def test_nothing_but_a_gradient_is_kept_for_the_gradient(name):
    x = frames(400).requires_grad_()
    frugal = energy(name, max_memory=1e6)
    saved = []

    def pack(tensor):
        saved.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        u = frugal._energy(x)
    assert torch.isfinite(u).all()
    known = {b.untyped_storage().data_ptr() for b in frugal.buffers()}
    held = [tensor.untyped_storage() for one in saved if (tensor := one()) is not None]
    kept = {storage.data_ptr(): storage.nbytes() for storage in held if storage.data_ptr() not in known}
    assert 0 < sum(kept.values()) <= 2 * 400 * 66 * 4  # positions and gradient


@pytest.mark.filterwarnings("default")  # torch warns of itself
@pytest.mark.parametrize("name", ["gbsa", "gbn2"])
def test_compiled_code_takes_no_more_either(name, compiled_without_compiler):
    """A batch that is larger than fits is compiled in pieces of one size: 7 frames thrice, of 20 frames."""
    torch.compiler.reset()
    x, each = frames(20), FORCE_FIELDS[name][1] * PAIRS
    x[19, 3, 1] = torch.nan
    frugal, whole = energy(name, max_memory=7 * each), energy(name)
    faster = torch.compile(frugal.energy, dynamic=False, backend="aot_eager")
    u, g = with_gradient(faster, x)
    assert compiled_without_compiler == [7, 7, 7]
    for mine, its in zip((u, g), with_gradient(whole.energy, x), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-3)
    assert u[19] == torch.inf
    with torch.no_grad():
        torch.testing.assert_close(faster(x), u, rtol=1e-6, atol=1e-4)
    assert peak(with_gradient, faster, x) < 7 * each + BESIDES
    assert peak(with_gradient, whole.energy, x) > 2 * 7 * each
    compiled_without_compiler.clear()
    with_gradient(torch.compile(frugal._energy, dynamic=False, fullgraph=True, backend="aot_eager"), x[:7])
    assert not compiled_without_compiler  # what fits is one piece


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_code_from_the_compiler_takes_no_more_either():
    each = 170 * PAIRS
    x, frugal = frames(110), energy("gbsa", max_memory=40 * each)
    faster = torch.compile(frugal._energy, dynamic=False)
    (u, g), (u_eager, g_eager) = with_gradient(faster, x), with_gradient(frugal._energy, x)
    torch.testing.assert_close(u, u_eager, rtol=1e-5, atol=1e-3)
    assert ((g - g_eager).abs().amax((1, 2)) / g_eager.abs().amax((1, 2))).max() < 2e-5
    assert peak(with_gradient, faster, x) < 40 * each + BESIDES


def test_molecules_and_hybrids_pass_it_on():
    molecule = Molecule.load("alanine_dipeptide")
    few = 3 * 170 * PAIRS
    hybrid = system("gbsa")
    hybrid = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(hybrid))
    hybrid.addForce(openmm.RMSDForce([openmm.Vec3(*x) for x in POSITIONS.tolist()]))
    x = frames(8, torch.float64)
    for build in (
        lambda **s: molecule.energy(300.0, **s),
        lambda **s: molecule.energy(300.0, "torch", **s),
        lambda **s: HybridEnergy(hybrid, 300.0, positions=POSITIONS.numpy(), **s),
        lambda **s: system_energy(hybrid, 300.0, POSITIONS.numpy(), **s),
    ):
        frugal, whole = build(max_memory=few), build()
        torch.testing.assert_close(
            with_gradient(frugal.energy, x), with_gradient(whole.energy, x), rtol=1e-9, atol=1e-6
        )
        inner = getattr(frugal, "compiled", frugal)
        assert inner._at_once(x)[1] == 1
        assert getattr(whole, "compiled", whole)._at_once(x)[1] > 1000
        with pytest.raises(InputError, match="positive number of bytes"):
            build(max_memory=0)
    molecule.energy(300.0, "openmm", max_memory=few)
