"""Commands in several processes: how many, what becomes of them when one is lost, and of signals."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from boltzgen.checkpoint import load_checkpoint
from boltzgen.cli import launching
from boltzgen.cli.main import main
from boltzgen.cli.settings import Settings


def run(capture, *arguments):
    code = main([str(a) for a in arguments])
    out = capture.readouterr()
    return code, out.out, out.err


TRIED = """
import signal, sys
from boltzgen.cli import launching
from boltzgen.cli.main import main
launching._TRIED_MINUTES, launching.processors = 0.02, lambda: 2
code = main(sys.argv[1:])
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not that of torch's launcher
sys.exit(code)
"""


@pytest.mark.timeout(240)
def test_as_many_processes_as_train_fastest_are_tried_and_named(tmp_path):
    training = ["train", "double_well", "--out", "run", "--minutes", "0.02", "--processes", "auto"]
    command = [sys.executable, "-c", TRIED, *training]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert re.search(r"threads of each 1: \d+ with 1, \d+ with 2; going on with [12]\n", done.stderr), done.stderr
    assert done.stderr.count("next: boltzgen sample") == 1  # those tried are silent
    assert (tmp_path / "run" / "generator.pt").exists()


@pytest.mark.parametrize("code", [130, 143])
def test_an_interruption_while_numbers_of_processes_are_tried_ends_the_command(capsys, tmp_path, monkeypatch, code):
    tried = []
    monkeypatch.setattr(launching, "processors", lambda: 4)
    monkeypatch.setattr(launching, "launch", lambda arguments, processes, silent_in: tried.append(processes) or code)
    training = ("train", "double_well", "--out", tmp_path / "run", "--threads", 2, "--processes", "auto")
    assert run(capsys, *training)[0] == code
    assert tried == [1]
    monkeypatch.setattr(launching, "launch", lambda arguments, processes, silent_in: tried.append(processes) or 1)
    assert launching.fastest(Settings(system="double_well", threads=2)) == 1
    assert tried == [1, 1, 2]  # of two threads each, on four processors
    assert "none tried with success; going on with 1" in capsys.readouterr().err


def test_draws_take_all_processors_without_a_trial(capsys, monkeypatch):
    started = []
    monkeypatch.setattr("boltzgen.cli.main.processors", lambda: 6)
    monkeypatch.setattr(
        "boltzgen.cli.main.launch", lambda arguments, processes: started.append((arguments, processes)) or 0
    )
    monkeypatch.setattr("boltzgen.cli.main.fastest", lambda settings: pytest.fail("tried a training"))
    assert run(capsys, "sample", "run", "--processes", "auto", "--threads", 2)[0] == 0
    assert started == [(["sample", "run", "--threads", "2"], 3)]


def child_of_rank(rank, parent):
    """The process of this rank that a launcher started."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile
            mine = process.joinpath("stat").read_text().rpartition(")")[2].split()[1] == str(parent)
            if mine and f"RANK={rank}".encode() in process.joinpath("environ").read_bytes().split(b"\0"):
                return int(process.name)
    raise AssertionError(f"no rank {rank} below {parent}")


@pytest.mark.timeout(240)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
def test_a_training_of_two_processes_that_loses_one_ends_with_code_1_and_can_be_resumed(tmp_path):
    command, metrics = [sys.executable, "-m", "boltzgen"], tmp_path / "run" / "metrics.jsonl"
    training = ["train", "double_well", "--minutes", "0.25", "--out", "run", "--processes", "2"]
    both = subprocess.Popen([*command, *training], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while both.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.05)
    begin = time.monotonic()
    os.kill(child_of_rank(1, both.pid), signal.SIGKILL)
    _, err = both.communicate(timeout=100)
    assert time.monotonic() - begin < 30
    assert both.returncode == 1
    # the other finds out by itself, or is told by the launcher
    assert "the processes of a distributed run must all live; one was lost" in err or "interrupted; go on with" in err
    assert load_checkpoint(tmp_path / "run" / "training.pt")["history"]["losses"]
    resumed = subprocess.Popen([*command, "resume", "run"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    _, err = resumed.communicate(timeout=100)
    assert resumed.returncode == 0, err
    assert (tmp_path / "run" / "generator.pt").exists()


SCALE = Path(__file__).parents[2] / "docs" / "scale.md"
SCRIPTS = re.findall(r"```bash\n(.*?)```", SCALE.read_text(), flags=re.DOTALL)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_for_a_scheduler_are_what_bash_can_read(script):
    assert script.startswith("#!/bin/bash\n#SBATCH ")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(("ending", "queued"), [("143", "requeue 17\n"), ("3", "")])
def test_the_script_that_queues_itself_waits_for_the_training_and_does_so_only_if_it_stopped(tmp_path, ending, queued):
    (script,) = (some for some in SCRIPTS if "scontrol requeue" in some)
    stubs = {
        "boltzgen": f"trap 'sleep 0.2; touch saved; exit {ending}' TERM; touch begun; while :; do sleep 0.05; done",
        "scontrol": "[ -e saved ] && echo $* >> queued",
    }
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "2", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    job = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env={**os.environ, **slurm})
    while job.poll() is None and not (tmp_path / "begun").exists():
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == int(ending)
    assert ((tmp_path / "queued").read_text() if queued else "") == queued
    assert (tmp_path / "queued").exists() == bool(queued)
