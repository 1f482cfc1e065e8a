"""The terminal at the other end: readers that leave, encodings, options cut short."""

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import threading

import pytest

from boltzgen import BoltzmannGenerator, InputError, toys
from boltzgen.cli.main import main
from boltzgen.flows import coupling_flow
from boltzgen.molecule import find
from boltzgen.sampling import draw
from boltzgen.training import History


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    path = tmp_path_factory.mktemp("drawn") / "samples.npz"
    draw(coupling_flow(2, seed=1), toys.DoubleWell(), 500, seed=1).save(path)
    return path


def command(*arguments, **options):
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "boltzgen", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        **options,
    )


def test_a_reader_that_leaves_ends_a_command_quietly():
    with command("systems") as process:
        process.stdout.close()
        words = process.stderr.read().decode()
        assert (process.wait(timeout=60), words) == (141, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_any_encoding_of_the_terminal_will_do(encoding, ensemble):
    process = command("estimate", ensemble, env={"PYTHONIOENCODING": encoding})
    out, words = process.communicate(timeout=60)
    assert process.returncode == 0, words
    assert ("±" if encoding != "ascii" else "?") in out.decode(encoding)


def test_a_bare_machine_will_do_from_a_pdb_file_to_a_report(tmp_path):
    """No terminal, no locale, no display, no home; spaces, accents and markup in the names."""
    folder = tmp_path / "Ünïcode & <b>spaces"
    folder.mkdir()
    pdb = folder / "mein Molekül.pdb"
    pdb.write_bytes(find("alanine_dipeptide").structure.read_bytes())
    run = folder / "der Lauf"
    field = ["--forcefield", "amber96.xml", "implicit/obc1.xml", "--minutes", "0.02"]
    drawn, frames = folder / "Züge.npz", folder / "größe.dcd"
    steps = (
        ["sample", "alanine_dipeptide", "-n", "300", "--out", drawn],
        ["export", drawn, frames, "-n", "100"],
        ["train", pdb, *field, "--data", frames, "--out", run],
        ["sample", run, "-n", "300"],
        ["report", run],
    )
    for arguments in steps:
        process = subprocess.run(
            [sys.executable, "-m", "boltzgen", *map(str, arguments)],
            env={"PATH": os.environ["PATH"]}, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr.decode()
        assert b"Traceback" not in process.stderr
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "mein Molekül" in page
    assert frames.stat().st_size > 100 * 22 * 12
    assert not list(folder.rglob("*.tmp*"))


def test_a_stream_of_python_will_do(ensemble, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["estimate", str(ensemble)]) == 0
    assert "±" in out.getvalue()


@pytest.mark.parametrize(
    "arguments", [["train", "double_well", "--out", "x", "--min", "1"], ["estimate", "x.npz", "--tors", "phi"]]
)
def test_options_are_written_out(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_what_writes_a_file_says_so_in_json_too(ensemble, tmp_path, capsys):
    for arguments, expected in (
        (["merge", str(ensemble), "--out", str(tmp_path / "merged.npz")], {"n": 500}),
        (["init", "double_well", "--out", str(tmp_path / "toy.toml")], {}),
    ):
        assert main([*arguments, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"written": arguments[-1], **expected}


def test_merge_overwrites_nothing(ensemble, tmp_path, capsys):
    out = tmp_path / "merged.npz"
    out.write_text("mine")
    assert main(["merge", str(ensemble), "--out", str(out)]) == 3
    assert "must not exist yet" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_signal_that_falls_into_a_garbage_collection_is_not_lost():
    """Nothing that is raised there goes further: the training would go on for ever."""
    code = """
import gc, os, signal, sys, time
from boltzgen.cli import commands
from boltzgen.cli.main import main

def work(options):
    gc.callbacks.append(lambda *_: (gc.callbacks.clear(), os.kill(os.getpid(), getattr(signal, sys.argv[1]))))
    gc.collect()
    time.sleep(60)

commands.systems = work
sys.exit(main(["systems"]))
"""
    for name, status in (("SIGTERM", 143), ("SIGINT", 130)):
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (status, b"")


@pytest.mark.parametrize(
    ("command", "most"), [(["-m", "boltzgen", "train", "--help"], 0.5), (["-c", "import boltzgen"], 2.0)]
)
def test_help_and_import_are_quick(command, most):
    """Seconds of a processor, the best of three: those of the clock belong to whoever else is at work."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(found) < most


def test_a_name_that_is_no_utf8_trains_and_resumes_and_cannot_stand_in_a_configuration(tmp_path):
    system, out = os.fsdecode(b"w\xff"), os.fsdecode(b"r\xff")
    (tmp_path / system).mkdir()
    shutil.copy(find("double_well").folder / "system.toml", tmp_path / system)
    for arguments, status, says in (
        (["train", system, "--out", out, "--minutes", "0.01"], 0, b"next: boltzgen sample"),
        (["resume", out], 0, b"next: boltzgen sample"),
        (["init", system], 3, b"must have a name that is UTF-8"),
    ):
        process = command(*arguments, cwd=tmp_path)
        _, words = process.communicate(timeout=120)
        assert (process.returncode, says in words, b"Traceback" in words) == (status, True, False), words


def test_a_time_limit_of_ages_is_as_long_as_a_thread_can_wait(monkeypatch, capsys, tmp_path):
    limits = []

    class Clock(threading.Timer):
        def __init__(self, interval, *arguments):
            limits.append(interval)
            super().__init__(interval, *arguments)

    monkeypatch.setattr(threading, "Timer", Clock)
    assert main(["sample", str(tmp_path / "none"), "--max-time", "1e17"]) == 3
    assert limits == [threading.TIMEOUT_MAX]


def test_the_demo_draws_after_its_training_whatever_its_seed(monkeypatch, tmp_path):
    seeds = []

    def sample(self, n, *, seed, progress):
        seeds.append(seed)
        raise InputError("enough")

    monkeypatch.setattr(BoltzmannGenerator, "train", lambda self, **_: History(losses=[1.0]))
    monkeypatch.setattr(BoltzmannGenerator, "sample", sample)
    assert main(["demo", "--seed", str(2**63 - 1), "--out", str(tmp_path)]) == 3
    assert seeds == [0]
