"""A training killed at any moment, with damaged checkpoints, on a full disk: it comes to the bits of one left alone."""

import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from contextlib import suppress

import pytest
import torch

from boltzgen import BoltzmannGenerator
from boltzgen.energies.toys import DoubleWell
from boltzgen.flows import coupling_flow
from boltzgen.run_folder import RunFolder
from boltzgen.training import autosave
from boltzgen.training.checkpoint import load_checkpoint

CONTEXT = multiprocessing.get_context("forkserver")  # pays for the imports once
CONTEXT.set_forkserver_preload(["boltzgen.generator", "torch._dynamo", "pytest"])
WRITES = ("fsync", "replace")
"""The calls of which a write consists; to die at one of them is to die in the middle of a write."""
DISK_FULL = 3
SHORT, LONG = 30, 400
"""Steps of a training."""


def live(folder, steps, every, dies_at, largest):
    """One life of a training, in a process of its own.

    Arguments:
        steps: the budget of all lives together.
        every: seconds between checkpoints; 0 for one after every step.
        dies_at: number of the call among WRITES at which the process kills itself, or None.
        largest: bytes that a file may have, beyond which the disk is full, or None.
    """
    torch.set_num_threads(1)
    autosave._SECONDS = every
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    calls = []

    def dying(original):
        def call(*arguments):
            calls.append(1)
            if len(calls) == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        return call

    for name in WRITES:
        setattr(os, name, dying(getattr(os, name)))
    generator = BoltzmannGenerator(DoubleWell(), flow=flow(), seed=3)
    try:
        generator.train(run_dir=folder, steps=steps, compile="never", progress=False)
    except OSError:
        sys.exit(DISK_FULL)


def flow():
    return coupling_flow(2, layers=2, transform="affine", hidden=(16,), seed=3)


def start(folder, steps, *, every=0.0, dies_at=None, largest=None):
    process = CONTEXT.Process(target=live, args=(str(folder), steps, every, dies_at, largest))
    process.start()
    return process


def ends(process, seconds=120):
    """The exit code of a life; minus the number of the signal that ended it."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        pytest.fail("a life that does not end")
    return process.exitcode


def outcome(folder):
    """All that a training leaves behind, to the last bit, but for the hours it took."""
    saved = load_checkpoint(folder / "generator.pt", kind="generator")
    history = saved["history"] | {"seconds": None}
    history["rounds"] = [{**one, "seconds": None} for one in history["rounds"]]
    weights = {name: tensor.numpy().tobytes() for name, tensor in saved["flow"].items()}
    return repr(history), weights


def tidy(folder, starts):
    """Whether the folder tells of every start that got as far as a step, and holds whole files and nothing half."""
    assert len(RunFolder(folder).read()["starts"]) <= starts
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    names = {path.name for path in folder.iterdir()}
    return names <= {
        ".lock", ".owner", "run.json", "metrics.jsonl", "training.pt", "training.pt.previous", "generator.pt",
        "generator.pt.previous",
    }  # fmt: skip


def half_written(folder):
    return [path for path in folder.glob(".*") if path.name not in (".lock", ".owner")]


def damage(path, how, rng):
    """Cuts a file short, or flips one of its bits."""
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        del data[int(how * len(data)) :]
    path.write_bytes(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a training of so many steps comes to if nobody disturbs it, and the seconds that it takes."""
    known = {}

    def of(steps):
        if steps not in known:
            folder = tmp_path_factory.mktemp("whole")
            assert ends(start(folder, steps)) == 0
            known[steps] = outcome(folder), load_checkpoint(folder / "training.pt")["history"]["seconds"]
        return known[steps]

    return of


def test_kills_within_writes_and_damaged_checkpoints_change_no_bit(tmp_path, whole):
    rng = random.Random(1)
    undisturbed, _ = whole(SHORT)
    for life, (dies_at, how) in enumerate([(16, "flip"), (19, 0.5), (3, 0.99), (22, 0.0), (21, "flip")]):
        assert ends(start(tmp_path, SHORT, dies_at=dies_at)) == -signal.SIGKILL, life
        if how is not None and (tmp_path / "training.pt.previous").exists() and (tmp_path / "training.pt").exists():
            damage(tmp_path / "training.pt", how, rng)
    assert ends(start(tmp_path, SHORT)) == 0
    assert outcome(tmp_path) == undisturbed
    assert tidy(tmp_path, starts=6)


def test_a_disk_that_is_full_for_a_life_changes_no_bit(tmp_path, whole):
    assert ends(start(tmp_path, SHORT, dies_at=20)) == -signal.SIGKILL
    before = (tmp_path / "training.pt").read_bytes()
    assert ends(start(tmp_path, SHORT, largest=len(before) // 2)) == DISK_FULL
    assert (tmp_path / "training.pt").read_bytes() == before
    assert not (tmp_path / "generator.pt").exists()
    assert ends(start(tmp_path, SHORT)) == 0
    assert outcome(tmp_path) == whole(SHORT)[0]
    assert tidy(tmp_path, starts=3)


def owned(folder, pid):
    """Whether the process is at work in the folder."""
    owner = folder / ".owner"
    return owner.exists() and owner.read_text().startswith(f"process {pid} ")


def disturbed(folder, steps, wanted, seconds, rng):
    """Lives that end at random moments, and what ended them: SIGKILL mostly, SIGTERM now and then."""
    ended, within, damaged = {signal.SIGKILL: 0, signal.SIGTERM: 0}, 0, 0
    for run in range(100):
        place = folder / str(run)
        lives = 0
        while True:
            lives += 1
            life = start(place, steps, every=rng.choice([0.0, 0.02]))
            if ended[signal.SIGKILL] < wanted:
                while life.is_alive() and not owned(place, life.pid):
                    time.sleep(0.01)
                time.sleep(rng.uniform(0.0, 1.5 * seconds / wanted))
                number = rng.choice([signal.SIGKILL] * 4 + [signal.SIGTERM])
                with suppress(ProcessLookupError):
                    os.kill(life.pid, number)
            code = ends(life)
            if code == 0:
                break
            assert code in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM), code
            ended[signal.SIGKILL if code == -signal.SIGKILL else signal.SIGTERM] += 1
            within += bool(place.exists() and half_written(place))
            if (place / "training.pt.previous").exists() and (place / "training.pt").exists() and rng.random() < 0.3:
                damage(place / "training.pt", rng.choice(["flip", 0.0, 0.5, 0.99]), rng)
                damaged += 1
        yield place, lives
        if ended[signal.SIGKILL] >= wanted:
            print(f"{ended}, {within} within a write, {damaged} checkpoints damaged, {run + 1} trainings")
            assert within > 0
            return


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_kills_at_random_moments_change_no_bit(tmp_path, whole):
    undisturbed, seconds = whole(LONG)
    for folder, lives in disturbed(tmp_path, LONG, 24, seconds, random.Random(3)):
        assert outcome(folder) == undisturbed
        assert tidy(folder, lives)
