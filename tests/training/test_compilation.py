"""Compilation: nothing is trusted before a child process tried it, and eager is always there."""

import importlib.metadata
import os
import signal
import subprocess
import tempfile

import openmm
import pytest
import torch

from boltzgen.energies import ForceFieldEnergy
from boltzgen.energies.toys import DoubleWell, ManyWell
from boltzgen.flows import coupling_flow, molecular_flow
from boltzgen.training import compilation
from boltzgen.training.compilation import compiled, hot_methods

ROWS = (64, 64)


class Miscompiled(DoubleWell):
    """An energy whose 'compiled' form differs: the patched torch.compile below adds 1 to its results."""

    compiled_methods = ("_energy",)


class Aborting(DoubleWell):
    """An energy that kills the process that unpickles it."""

    def __setstate__(self, state):
        os.kill(os.getpid(), signal.SIGABRT)


def off_by_one(f, **_):
    """In the place of torch.compile: energies that are 1 too high."""
    return lambda *args: f(*args) + 1.0 if f.__name__ == "_energy" else f(*args)


class MiscompiledInTheChild(Miscompiled):
    """An energy that brings its wrong compiler along to the process that unpickles it."""

    def __setstate__(self, state):
        super().__setstate__(state)
        torch.compile = off_by_one


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))


@pytest.fixture
def two_atoms():
    system, bond = openmm.System(), openmm.HarmonicBondForce()
    for _ in range(2):
        system.addParticle(12.0)
    bond.addBond(0, 1, 0.15, 1000.0)
    system.addForce(bond)
    return ForceFieldEnergy(system, 300.0).at(1200.0)


def test_a_child_that_aborts_means_eager():
    with compiled(coupling_flow(2, layers=2), Aborting(), rows=ROWS) as how:
        assert how.startswith("eager: the trial of compiled code failed (signal 6")


def test_a_child_whose_compiled_code_disagrees_means_eager():
    with compiled(coupling_flow(2, layers=2), MiscompiledInTheChild(), rows=ROWS) as how:
        assert how.startswith("eager: the trial of compiled code failed (exit code 1: compiled reverse pass gives ")
    assert not list(compilation.cache_folder().glob("*.agreed"))


def test_a_child_that_takes_too_long_means_eager():
    with compiled(coupling_flow(2, layers=2), Miscompiled(), rows=ROWS, patience=0.01) as how:
        assert how.startswith("eager: the trial of compiled code did not end within")


def test_whoever_waits_for_a_trial_is_told():
    said = []
    with compiled(coupling_flow(2, layers=2), Miscompiled(), rows=ROWS, patience=0.01, say=said.append):
        assert said == ["compiling, and trying what was compiled, which takes minutes"]


def test_without_a_compiler_everything_stays_eager(monkeypatch):
    monkeypatch.setattr(compilation.shutil, "which", lambda _: None)
    flow, target = coupling_flow(2, layers=2), Miscompiled()
    with compiled(flow, target, rows=ROWS) as how:
        assert "no C++ compiler" in how
        assert "_energy" not in target.__dict__


def test_a_short_run_or_a_wish_means_eager():
    flow, target = coupling_flow(2, layers=2), Miscompiled()
    with compiled(flow, target, rows=ROWS, patience=0.0) as how:
        assert "too short" in how
    with compiled(flow, target, rows=ROWS, compile="never") as how:
        assert "asked for" in how


def test_methods_are_eager_again_afterwards(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    flow, target = coupling_flow(2, layers=2), Miscompiled()
    with compiled(flow, target, rows=ROWS, compile="always") as how:
        assert how == "compiled"
        assert all(name in module.__dict__ for module, name in hot_methods(flow, target))
    assert not any(name in module.__dict__ for module, name in hot_methods(flow, target))


@pytest.mark.parametrize("before", [None, "the default of torch", "chosen"])
def test_the_cache_of_a_process_is_its_own_affair_unless_it_compiles(monkeypatch, tmp_path, before):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    folder = {"the default of torch": f"{tempfile.gettempdir()}/torchinductor_me", "chosen": str(tmp_path)}.get(before)
    if folder:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", folder)
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    flow, target = coupling_flow(2, layers=2), Miscompiled()
    with compiled(flow, target, rows=ROWS, compile="never"):
        assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == folder
    with compiled(flow, target, rows=ROWS, compile="always"):
        used = os.environ["TORCHINDUCTOR_CACHE_DIR"]
    assert used == (folder if before == "chosen" else str(compilation.cache_folder()))
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == folder


def test_the_trial_compiles_into_the_same_cache(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_me")
    monkeypatch.setattr(compilation.shutil, "which", lambda _: "g++")
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    used = []

    def trial(*arguments, env, **_):
        used.append(env["TORCHINDUCTOR_CACHE_DIR"])
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(compilation.subprocess, "run", trial)
    with compiled(coupling_flow(2, layers=2), DoubleWell(), rows=ROWS) as how:
        assert how == "compiled"
    assert used == [str(compilation.cache_folder())]


def test_a_trial_counts_for_other_weights_but_not_for_other_code(monkeypatch):
    monkeypatch.setattr(compilation.shutil, "which", lambda _: "g++")
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    trials = []

    def trial(*arguments, **_):
        trials.append(1)
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(compilation.subprocess, "run", trial)

    def tries(flow, target, rows=ROWS):
        before = len(trials)
        with compiled(flow, target, rows=rows) as how:
            assert how == "compiled"
        return len(trials) - before

    target = Miscompiled()
    assert tries(coupling_flow(2, layers=2), target) == 1
    target.energy(torch.zeros(3, 2))
    assert tries(coupling_flow(2, layers=2, seed=5), target) == 0
    assert tries(coupling_flow(2, layers=4), target) == 1
    assert tries(coupling_flow(2, layers=2), target, (64, 128)) == 1
    assert tries(coupling_flow(2, layers=2), DoubleWell()) == 1


def test_force_fields_are_compiled_too(two_atoms):
    assert any(name == "_energy" for _, name in hot_methods(coupling_flow(2), two_atoms))


def test_another_release_of_either_library_is_tried_anew(monkeypatch):
    flow, target = coupling_flow(2), DoubleWell()
    name = compilation._same_code(flow, target, ROWS)
    assert compilation._same_code(coupling_flow(2), DoubleWell(), ROWS) == name
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "99.0")
    other = compilation._same_code(flow, target, ROWS)
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert len({name, other, compilation._same_code(flow, target, ROWS)}) == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::FutureWarning:torch")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("flow", "target"),
    [
        (coupling_flow(2, layers=2, hidden=(16,)), DoubleWell()),
        (
            molecular_flow(
                [False] * 30 + [True, True], torch.zeros(30), torch.eye(30), torsion_hidden=(8,), stiff_layers=1
            ),
            ManyWell(),
        ),
    ],
    ids=["plane", "two torsions"],
)
def test_a_real_trial_agrees_and_is_remembered(flow, target):
    with compiled(flow, target, rows=ROWS) as how:
        assert how == "compiled"
        flow.sample(64, seed=0)
    assert len(list(compilation.cache_folder().glob("*.agreed"))) == 1
