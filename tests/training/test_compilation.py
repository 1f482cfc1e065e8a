"""Compilation: nothing is trusted before a child process tried it, and eager is always there."""

import errno
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

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


class Hanging(DoubleWell):
    """An energy with which the process that unpickles it does not get any further, which a file then tells."""

    def __init__(self, reached):
        super().__init__()
        self.reached = str(reached)

    def __setstate__(self, state):
        Path(state["reached"]).touch()
        time.sleep(1000)


class Child:
    """In the place of the process that tries: agrees, or fails with a signal; at once, or when it is told."""

    def __init__(self, at_once=True):
        self.returncode, self.done = 0, threading.Event()
        if at_once:
            self.end()

    def end(self, returncode=0):
        self.returncode = returncode
        self.done.set()

    def kill(self):
        if not self.done.is_set():
            self.end(-signal.SIGKILL)

    def wait(self):
        return self.returncode

    def communicate(self, job):
        self.done.wait()
        return (b"" if self.returncode else compilation.AGREED), b"no luck"


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
    with compiled(coupling_flow(2, layers=2), Aborting(), rows=ROWS) as found:
        assert found.how.startswith("eager: the trial of compiled code failed (signal 6")


def test_a_child_whose_compiled_code_disagrees_means_eager():
    with compiled(coupling_flow(2, layers=2), MiscompiledInTheChild(), rows=ROWS) as found:
        assert found.how.startswith(
            "eager: the trial of compiled code failed (exit code 1: compiled reverse pass gives "
        )
    assert not list(compilation.cache_folder().glob("*.agreed"))


def test_a_child_that_takes_too_long_means_eager():
    with compiled(coupling_flow(2, layers=2), Miscompiled(), rows=ROWS, patience=0.01) as found:
        assert found.how.startswith("eager: the trial of compiled code did not end within")


def test_whoever_waits_for_a_trial_is_told():
    said = []
    with compiled(coupling_flow(2, layers=2), Miscompiled(), rows=ROWS, patience=0.01, say=said.append):
        assert said == ["compiling, and trying what was compiled, which takes minutes"]


@pytest.fixture
def child(monkeypatch):
    """One that goes on, and a compiler that changes nothing."""
    child = Child(at_once=False)
    monkeypatch.setattr(compilation.shutil, "which", lambda _: "g++")
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    monkeypatch.setattr(compilation.subprocess, "Popen", lambda *_, **__: child)
    return child


def decided(found):
    """What is decided after all, by one who looks now and again."""
    while found.how == "eager: compiled code was still being tried":
        found.look()
        time.sleep(0.001)
    return found.how


def test_work_goes_on_beside_a_trial_and_takes_up_compiled_code_when_it_is_found_right(child):
    flow, target, said = coupling_flow(2, layers=2), Miscompiled(), []
    pieces = hot_methods(flow, target)
    with compiled(flow, target, rows=ROWS, meanwhile=True, say=said.append) as found:
        found.look()
        assert found.how == "eager: compiled code was still being tried"
        assert not any(name in module.__dict__ for module, name in pieces)
        child.end()
        assert re.fullmatch(r"compiled after \d+ s", decided(found))
        assert said == ["taking up compiled code, which takes a minute"]
        methods = [module.__dict__[name] for module, name in pieces]
        found.look()
        assert methods == [module.__dict__[name] for module, name in pieces]
    assert not any(name in module.__dict__ for module, name in pieces)
    assert len(list(compilation.cache_folder().glob("*.agreed"))) == 1


def test_work_beside_a_trial_that_fails_stays_eager(child):
    flow, target = coupling_flow(2, layers=2), Miscompiled()
    with compiled(flow, target, rows=ROWS, meanwhile=True) as found:
        child.end(-6)
        assert decided(found) == "eager: the trial of compiled code failed (signal 6: no luck)"
        found.look()
        assert "_energy" not in target.__dict__
    assert not list(compilation.cache_folder().glob("*.agreed"))


def test_a_child_that_ends_well_but_says_nothing_is_not_believed(child, monkeypatch):
    monkeypatch.setattr(child, "communicate", lambda job: (b"", b""))
    with compiled(coupling_flow(2, layers=2), Miscompiled(), rows=ROWS) as found:
        assert found.how == "eager: the trial of compiled code failed (exit code 0: no message)"


def test_a_trial_beside_the_work_has_its_time_too(child):
    with compiled(coupling_flow(2, layers=2), Miscompiled(), rows=ROWS, meanwhile=True, patience=0.05) as found:
        assert decided(found).startswith("eager: the trial of compiled code did not end within")
        assert child.returncode == -signal.SIGKILL


def test_a_trial_does_not_outlive_the_work(child):
    with pytest.raises(ZeroDivisionError), compiled(coupling_flow(2), Miscompiled(), rows=ROWS, meanwhile=True):
        raise ZeroDivisionError
    assert child.returncode == -signal.SIGKILL


def test_a_trial_that_is_waited_for_does_not_outlive_an_interruption(child):
    def interrupt(message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), compiled(coupling_flow(2), Miscompiled(), rows=ROWS, say=interrupt):
        pass
    assert child.returncode == -signal.SIGKILL


def test_a_trial_that_cannot_be_started_means_eager(child, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(compilation.subprocess, "Popen", full)
    with compiled(coupling_flow(2), Miscompiled(), rows=ROWS) as found:
        assert found.how == "eager: a trial process cannot be started (Resource temporarily unavailable)"


def test_a_compiler_that_fails_leaves_the_eager_methods(child, monkeypatch):
    def refusing(f, **_):
        if f.__name__ == "_energy":
            raise RuntimeError("not on this Python")
        return f

    monkeypatch.setattr(torch, "compile", refusing)
    flow, target, before = coupling_flow(2), Miscompiled(), os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with pytest.raises(RuntimeError, match="not on"), compiled(flow, target, rows=ROWS, compile="always"):
        pass
    assert not any(name in module.__dict__ for module, name in hot_methods(flow, target))
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before


def runs(pid):
    """Whether there is such a process, and it has not ended."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return found.strip() not in ("", "Z", "Zs")


def until(holds):
    while not holds():
        time.sleep(0.05)


def test_a_child_that_hangs_is_ended(tmp_path):
    target = Hanging(tmp_path / "reached")
    with compiled(coupling_flow(2, layers=2), target, rows=ROWS, meanwhile=True) as found:
        pid = found._trial._child.pid
        until((tmp_path / "reached").exists)
        assert runs(pid)
    until(lambda: not runs(pid))


def test_a_child_ends_with_a_parent_that_was_killed(tmp_path):
    script = """
import sys, time
from test_compilation import ROWS, Hanging, compiled, coupling_flow
with compiled(coupling_flow(2, layers=2), Hanging(sys.argv[1]), rows=ROWS, meanwhile=True) as found:
    print(found._trial._child.pid, flush=True)
    time.sleep(1000)
"""
    reached = tmp_path / "reached"
    command = [sys.executable, "-c", script, str(reached)]
    with subprocess.Popen(command, cwd=os.path.dirname(__file__), stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        until(reached.exists)
        assert runs(pid)
        parent.kill()
    until(lambda: not runs(pid))


def test_what_went_wrong_in_a_child_is_told_not_what_is_printed_last(child, monkeypatch):
    errors = b"torch.SomeError: file too short\n\nSet SOMETHING=1 for more\n\n"
    monkeypatch.setattr(child, "communicate", lambda job: (b"", errors))
    with compiled(coupling_flow(2, layers=2), Miscompiled(), rows=ROWS) as found:
        assert found.how.endswith("failed (exit code 0: torch.SomeError: file too short)")


def test_without_a_compiler_everything_stays_eager(monkeypatch):
    monkeypatch.setattr(compilation.shutil, "which", lambda _: None)
    flow, target = coupling_flow(2, layers=2), Miscompiled()
    with compiled(flow, target, rows=ROWS) as found:
        assert "no C++ compiler" in found.how
        assert "_energy" not in target.__dict__


def test_a_short_run_or_a_wish_means_eager():
    flow, target = coupling_flow(2, layers=2), Miscompiled()
    with compiled(flow, target, rows=ROWS, patience=0.0) as found:
        assert "too short" in found.how
    with compiled(flow, target, rows=ROWS, compile="never") as found:
        assert "asked for" in found.how


def test_methods_are_eager_again_afterwards(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    flow, target = coupling_flow(2, layers=2), Miscompiled()
    with compiled(flow, target, rows=ROWS, compile="always") as found:
        assert found.how == "compiled"
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

    class Telling(Child):
        def __init__(self, *_, env, **__):
            super().__init__()
            used.append(env["TORCHINDUCTOR_CACHE_DIR"])

    monkeypatch.setattr(compilation.subprocess, "Popen", Telling)
    with compiled(coupling_flow(2, layers=2), DoubleWell(), rows=ROWS) as found:
        assert found.how == "compiled"
    assert used == [str(compilation.cache_folder())]


def test_a_trial_counts_for_other_weights_but_not_for_other_code(monkeypatch):
    monkeypatch.setattr(compilation.shutil, "which", lambda _: "g++")
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    trials = []
    monkeypatch.setattr(compilation.subprocess, "Popen", lambda *_, **__: trials.append(1) or Child())

    def tries(flow, target, rows=ROWS):
        before = len(trials)
        with compiled(flow, target, rows=rows) as found:
            assert found.how == "compiled"
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
    with compiled(flow, target, rows=ROWS) as found:
        assert found.how == "compiled"
        flow.sample(64, seed=0)
    assert len(list(compilation.cache_folder().glob("*.agreed"))) == 1
