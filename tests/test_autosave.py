"""A training saves itself in time: every minute, on signals, at its end; and a full disk does not end it."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from boltzgen import autosave as module
from boltzgen.autosave import Autosave
from boltzgen.checkpoint import load_checkpoint
from boltzgen.cli.main import main
from boltzgen.energies.toys import DoubleWell
from boltzgen.flows import coupling_flow
from boltzgen.molecule import find
from boltzgen.sampling.extension import extend
from boltzgen.training import anneal, reverse_kl, train
from boltzgen.training.learner import Learner

STEPS = 40


def flow_of(seed=0):
    return coupling_flow(2, layers=2, transform="affine", hidden=(16,), seed=seed)


def weights(flow):
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


def objective(flow):
    return reverse_kl(flow, DoubleWell(), 64)


def sends(number, at):
    """The objective, which sends this process a signal at its step `at`."""
    calls = []

    def loss(flow):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), number)
        return objective(flow)

    return loss


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_is_answered_after_the_step_and_the_run_resumes_to_the_same_bits(number, raised, tmp_path):
    whole, path = flow_of(), tmp_path / "training.pt"
    train(whole, objective, steps=STEPS, progress=False)
    before = signal.getsignal(number)
    with pytest.raises(raised) as stop:
        train(flow_of(), sends(number, at=17), steps=STEPS, checkpoint=path, progress=False)
    if raised is SystemExit:
        assert stop.value.code == 143
    assert signal.getsignal(number) is before
    assert load_checkpoint(path)["done"] == 17
    resumed = flow_of(seed=9)
    train(resumed, objective, steps=STEPS, checkpoint=path, progress=False)
    assert torch.equal(weights(resumed), weights(whole))


def test_usr1_saves_and_the_training_goes_on(tmp_path):
    path, seen = tmp_path / "training.pt", []
    signalling = sends(signal.SIGUSR1, at=5)

    def loss(flow):
        seen.append(load_checkpoint(path)["done"] if path.exists() else None)
        return signalling(flow)

    train(flow_of(), loss, steps=10, checkpoint=path, progress=False)
    assert seen == [None] * 5 + [5] * 5


def test_usr1_saves_the_draws_so_far_and_the_drawing_goes_on():
    kept, flow, target = [], flow_of(), DoubleWell()
    original = target.energy

    def energy(x):
        if not kept and target.evaluations.energy > 2000:
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(x)

    target.energy = energy
    before = signal.getsignal(signal.SIGUSR1)
    samples = extend(None, flow, target, 5 * 1024, seed=1, keep=lambda some: kept.append(len(some)))
    assert len(samples) == 5 * 1024
    assert kept == [3 * 1024]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_usr1_ends_no_command_that_has_nothing_to_save(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "boltzgen.cli.runs.target_of", lambda *_: os.kill(os.getpid(), signal.SIGUSR1) or find("butane")
    )
    assert main(["init", "butane", "--out", str(tmp_path / "butane.toml")]) == 0


@pytest.mark.parametrize(("at", "saved"), [(7, 7), (10 + 8 + 3, 10 + 8), (10 + 3 * 8, 10 + 2 * 8)])
def test_annealing_answers_a_signal_within_a_step_and_resumes_to_the_same_bits(at, saved, tmp_path, monkeypatch):
    whole, path = flow_of(), tmp_path / "training.pt"
    anneal(whole, DoubleWell(), steps=100, progress=False)
    steps, original = [], Learner.step

    def step(self, *arguments, **options):
        steps.append(1)
        if len(steps) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(SystemExit):
        anneal(flow_of(), DoubleWell(), steps=100, checkpoint=path, progress=False)
    monkeypatch.setattr(Learner, "step", original)
    assert len(steps) == at
    assert len(load_checkpoint(path)["history"]["losses"]) == saved
    resumed = flow_of(seed=9)
    anneal(resumed, DoubleWell(), steps=100, checkpoint=path, progress=False)
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("last", [signal.SIGUSR1, signal.SIGINT])
def test_a_request_to_end_is_not_forgotten_over_a_later_signal(last, tmp_path):
    with Autosave(tmp_path / "t.pt", lambda: {"done": 1}, fingerprint="") as autosave:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), last)
        with pytest.raises(SystemExit):
            autosave()
    assert load_checkpoint(tmp_path / "t.pt") == {"done": 1}


def test_a_full_disk_does_not_end_the_training_before_its_end(tmp_path, monkeypatch):
    path = tmp_path / "training.pt"
    train(flow_of(), objective, steps=2, checkpoint=path, progress=False)
    kept = path.read_bytes()
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    full = []

    def fsync(_):
        full.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    state = {"done": 3}
    with Autosave(path, lambda: state, fingerprint="") as autosave:
        with pytest.warns(RuntimeWarning, match=r"goes on without a new checkpoint: .*cannot write .* MiB free"):
            autosave()
        assert path.read_bytes() == kept
        with pytest.raises(OSError, match="No space left"):
            autosave.finish()
    assert len(full) == 2


def test_without_a_path_signals_are_left_alone():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with Autosave(None, dict, fingerprint="") as autosave:
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
        autosave()
        autosave.finish()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_the_command_ends_with_a_checkpoint_and_the_code_of_its_signal(number, code, tmp_path):
    command = [sys.executable, "-m", "boltzgen", "train", "double_well", "--minutes", "5", "--out", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline().startswith("double_well")
        assert process.stderr.readline().startswith("interrupt it at any time; it goes on with: boltzgen resume")
        assert process.stderr.readline().startswith("training:")
        time.sleep(0.5)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == code
    assert f"go on with: boltzgen resume {tmp_path}" in rest
    assert len(load_checkpoint(tmp_path / "training.pt")["history"]["losses"]) > 0


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_during_the_last_save_ends_the_program_after_it(number, raised, tmp_path, monkeypatch):
    path, original = tmp_path / "training.pt", Autosave.finish

    def finish(self):
        os.kill(os.getpid(), number)
        original(self)

    monkeypatch.setattr(Autosave, "finish", finish)
    with pytest.raises(raised):
        train(flow_of(), objective, steps=3, checkpoint=path, progress=False)
    assert load_checkpoint(path)["done"] == 3
