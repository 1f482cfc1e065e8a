"""The batch scripts of the pages do what the pages say, under bash, with stand-ins for SLURM and small jobs."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boltzgen.cli.main import main
from boltzgen.molecule import find

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
SCRIPTS = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
LAUNCHED = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    for line in block.splitlines() if line.startswith("torchrun")
]  # fmt: skip
STAND_INS = {
    "boltzgen": f'exec {sys.executable} -m boltzgen "$@"',
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    "sbatch": 'echo "$*" >> submitted',
    "scontrol": 'if [ "$1" = show ]; then echo localhost; else echo "$*" >> controlled; fi',
    "srun": 'for k in $(seq "$SLURM_JOB_NUM_NODES"); do "$@" & done\nfor one in $(jobs -p); do wait "$one"; done',
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with a structure, where the commands of SLURM are at hand."""
    (tmp_path / "bin").mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\nset -e\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copy(find("alanine_dipeptide").structure, tmp_path / "mine.pdb")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # long trainings begin with minutes of compilation
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # and whoever trains next may want it after all
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(word, *changes):
    """The file of the script that has a word, after changes each of which it must need."""
    (text,) = (one for one in SCRIPTS if word in one)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    file = Path("job.sh")
    file.write_text(text)
    return file


def submit(file, *arguments, **variables):
    """The job as a process of its own group, as a queue would start it."""
    variables = {f"SLURM_{name}": str(value) for name, value in variables.items()}
    return subprocess.Popen(
        ["bash", file, *arguments], env=os.environ | variables, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def done(job):
    """Exit code and words of a job; nothing of it stays behind."""
    try:
        _, words = job.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        raise
    return job.returncode, words


def test_every_script_is_tried():
    assert sum("#SBATCH" in text for text in SCRIPTS) == len(SCRIPTS) == 3


def test_an_array_draws_its_parts_and_sends_itself_to_merge_them(cluster):
    Path("run").mkdir()
    shutil.copy(find("alanine_dipeptide").folder / "generator.pt", "run")
    file = script("merge", ("parts=16", "parts=2"), ("10000000", "3000"))
    for task in range(2):
        code, words = done(submit(file, ARRAY_TASK_ID=task, ARRAY_JOB_ID=77))
        assert code == 0, words
    (submitted,) = Path("submitted").read_text().splitlines()
    *options, again, argument = submitted.split()
    assert options == ["--array=0", "--dependency=afterok:77"]
    code, words = done(submit(again, argument))
    assert code == 0, words
    assert main(["sample", "run", "-n", "3000", "--out", "one.npz"]) == 0
    assert Path("run/samples.npz").read_bytes() == Path("one.npz").read_bytes()


@pytest.mark.timeout(240)
def test_a_job_that_is_warned_saves_its_training_queues_itself_and_goes_on(cluster):
    file, metrics = script("requeue", ("mine.pdb", "double_well")), Path("run/metrics.jsonl")
    job = submit(file, CPUS_PER_TASK=1, JOB_ID=9)
    while job.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)  # to the script alone, as --signal=B: does
    code, words = done(job)
    assert (code, "interrupted; go on with: boltzgen resume run" in words) == (143, True), words
    assert Path("controlled").read_text() == "requeue 9\n"
    file = script("requeue", ("mine.pdb", "double_well"), ("1000", "0.001"))  # spent already
    code, words = done(submit(file, CPUS_PER_TASK=1, JOB_ID=9))
    assert (code, Path("run/generator.pt").exists()) == (0, True), words
    assert Path("controlled").read_text() == "requeue 9\n"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_on_two_machines_trains_as_one(cluster):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    file = script(
        "srun", ("--nproc-per-node 4", "--nproc-per-node 1"), ("29400", str(port)), ("--minutes 230", "--minutes 0.02"),
        ("--device cuda", "--device cpu"), ("mine.pdb", "double_well"),
    )  # fmt: skip
    code, words = done(submit(file, JOB_NODELIST="localhost,localhost", JOB_NUM_NODES=2, JOB_ID=7))
    assert (code, words.count("trained ")) == (0, 1), words
    assert Path("run/generator.pt").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("line", LAUNCHED)
def test_the_launcher_trains_in_processes_of_one_machine_and_of_several(cluster, line):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    machines = 2 if "--nnodes 2" in line else 1
    line = re.sub(r"--nproc-per-node \d+", f"--nproc-per-node {2 // machines}", line)
    line = line.replace("head:29400", f"localhost:{port}").replace("mine.pdb", "double_well --minutes 0.02")
    Path("line.sh").write_text(line)
    jobs = [submit("line.sh") for _ in range(machines)]
    assert [done(job)[0] for job in jobs] == [0] * machines
    assert Path("run/generator.pt").exists()
