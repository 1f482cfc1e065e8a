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

from boltzgen import BoltzmannGenerator, autosave
from boltzgen.checkpoint import load_checkpoint
from boltzgen.cli.main import main
from boltzgen.energies import Energy
from boltzgen.energies.toys import DoubleWell
from boltzgen.flows import coupling_flow, molecular_flow
from boltzgen.run_folder import RunFolder
from boltzgen.training.parted import has_parts

CONTEXT = multiprocessing.get_context("forkserver")  # pays for the imports once
CONTEXT.set_forkserver_preload(["boltzgen.generator", "boltzgen.cli.main", "torch._dynamo", "pytest"])
WRITES = ("fsync", "replace")
"""The calls of which a write consists; to die at one of them is to die in the middle of a write."""
DISK_FULL = 3
SHORT, LONG = 30, {"well": 400, "hinge": 400, "command": 120}
"""Steps of a training."""
KINDS = ["well", "hinge", "command"]
"""What is trained: flows that learn as a whole and in two parts, by Python; and the first by the command line."""


class Hinge(Energy):
    """A bond whose length follows a torsion: what a molecule's flow, in two parts, learns."""

    def __init__(self) -> None:
        super().__init__((2,))

    def _energy(self, x):
        length, phi = x.unbind(-1)
        return 50 * (length - 0.3 * phi.cos()).square() - 3.0 * (2 * phi).cos() - 2.0 * phi.cos()


def generator(kind):
    """One that learns as a whole, or one that learns in two parts, as those of molecules do."""
    if kind == "well":
        flow = coupling_flow(2, layers=2, transform="affine", hidden=(16,), seed=3)
        return BoltzmannGenerator(DoubleWell(), flow=flow, seed=3)
    flow = molecular_flow(
        [False, True], torch.zeros(1), torch.full((1, 1), 0.5), torsion_bins=8, torsion_hidden=(16,), stiff_layers=2,
        stiff_hidden=(16,), seed=3,
    )  # fmt: skip
    assert has_parts(flow)
    return BoltzmannGenerator(Hinge(), flow=flow, seed=3)


def live(folder, kind, steps, every, dies_at, largest):
    """One life of a training, in a process of its own.

    Arguments:
        kind: one of KINDS.
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
    if kind == "command":
        train = ["train", "double_well", "--out", folder, "--steps", str(steps), "--no-compile"]
        sys.exit(main(["resume", folder] if RunFolder(folder).record.exists() else train))
    try:
        generator(kind).train(run_dir=folder, steps=steps, compile="never", progress=False)
    except OSError:
        sys.exit(DISK_FULL)


def start(folder, steps, *, kind="well", every=0.0, dies_at=None, largest=None):
    process = CONTEXT.Process(target=live, args=(str(folder), kind, steps, every, dies_at, largest))
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
    if how == "flip" and data:  # or it was cut to nothing before
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        del data[int(how * len(data)) :]
    path.write_bytes(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a training of so many steps comes to if nobody disturbs it, and the seconds that it takes."""
    known = {}

    def of(steps, kind="well"):
        if (steps, kind) not in known:
            folder = tmp_path_factory.mktemp("whole")
            assert ends(start(folder, steps, kind=kind)) == 0
            known[steps, kind] = outcome(folder), load_checkpoint(folder / "training.pt")["history"]["seconds"]
        return known[steps, kind]

    return of


@pytest.mark.parametrize("kind", KINDS)
def test_kills_within_writes_and_damaged_checkpoints_change_no_bit(kind, tmp_path, whole):
    rng, damaged = random.Random(1), []
    undisturbed, _ = whole(SHORT, kind)
    for life, (dies_at, how) in enumerate([(16, "flip"), (19, 0.5), (3, 0.99), (22, 0.0), (21, "flip")]):
        assert ends(start(tmp_path, SHORT, kind=kind, dies_at=dies_at)) == -signal.SIGKILL, life
        if (tmp_path / "training.pt.previous").exists() and (tmp_path / "training.pt").exists():
            damage(tmp_path / "training.pt", how, rng)
            damaged.append(how)
    assert {"flip", 0.5} <= set(damaged)
    assert ends(start(tmp_path, SHORT, kind=kind)) == 0
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


def disturbed(folder, kind, steps, wanted, seconds, rng):
    """Lives that end at random moments, and what ended them: SIGKILL mostly, SIGTERM now and then."""
    ended, within, damaged = {signal.SIGKILL: 0, signal.SIGTERM: 0}, 0, 0
    for run in range(100):
        place = folder / str(run)
        lives = 0
        while True:
            lives += 1
            life = start(place, steps, kind=kind, every=rng.choice([0.0, 0.02]))
            if ended[signal.SIGKILL] < wanted or not (within and damaged):
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
        if ended[signal.SIGKILL] >= wanted and within and damaged:
            print(f"{ended}, {within} within a write, {damaged} checkpoints damaged, {run + 1} trainings")
            return
    raise AssertionError("too few of the kills came in time")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_many_kills_at_random_moments_change_no_bit(kind, tmp_path, whole):
    steps = LONG[kind]
    undisturbed, seconds = whole(steps, kind)
    for folder, lives in disturbed(tmp_path, kind, steps, 24, seconds, random.Random(3)):
        assert outcome(folder) == undisturbed
        assert tidy(folder, lives)
