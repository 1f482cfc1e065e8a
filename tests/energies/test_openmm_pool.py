"""Whatever becomes of the processes, an answer or an error comes soon, and none of them is left behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import openmm
import pytest

from boltzgen.energies.openmm_context import Frames
from boltzgen.energies.openmm_pool import Pool
from boltzgen.errors import EnergyError
from boltzgen.units import kT

pytestmark = pytest.mark.timeout(60)


def settings():
    system, bond = openmm.System(), openmm.HarmonicBondForce()
    for _ in range(2):
        system.addParticle(12.0)
    bond.addBond(0, 1, 0.15, 1000.0)
    system.addForce(bond)
    return {"xml": openmm.XmlSerializer.serialize(system), "platform": "Reference", "centred": True}


def positions(n):
    return np.random.default_rng(0).normal(size=(n, 2, 3))


def same(answer, expected):
    return all(np.array_equal(a, b) for a, b in zip(answer, expected, strict=True))


@pytest.fixture
def pool():
    pool = Pool(2, **settings())
    yield pool
    pool.close()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, seconds=10.0):
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_the_answers_are_those_of_one_context(pool):
    here = Frames(**settings())
    assert pool.pids == [], "processes start with the first batch"
    for n in (0, 1, 2, 7):
        assert same(pool.evaluate(positions(n), forces=True), here.evaluate(positions(n), forces=True))
    energy, forces = pool.evaluate(positions(7), forces=False)
    assert np.array_equal(energy, here.evaluate(positions(7), forces=False)[0])
    assert forces is None


def test_a_killed_worker_is_replaced(pool):  # row 6
    expected = pool.evaluate(positions(9), forces=True)
    pids = pool.pids
    os.kill(pids[1], signal.SIGKILL)
    assert same(pool.evaluate(positions(9), forces=True), expected)
    assert gone(pids), "the whole old pool has ended"


def test_a_worker_killed_at_work_is_replaced_and_the_work_redone(pool):  # row 6
    x = positions(30_000)
    pool.evaluate(x[:2], forces=True)
    victim = pool.pids[0]
    killing = threading.Timer(0.03, os.kill, (victim, signal.SIGKILL))
    killing.start()
    answer = pool.evaluate(x, forces=True)
    assert not killing.is_alive(), "the batch was too short to be interrupted"
    assert victim not in pool.pids
    assert same(answer, Frames(**settings()).evaluate(x, forces=True))


def test_workers_that_keep_dying_end_in_an_error(pool, monkeypatch):  # row 6
    start = Pool._start

    def start_and_kill(pool):
        start(pool)
        os.kill(pool.pids[0], signal.SIGKILL)

    begun = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(Pool, "_start", start_and_kill)
        with pytest.raises(EnergyError, match=r"stay alive; got worker \d+ gone with exit status -9, twice"):
            pool.evaluate(positions(9), forces=True)
    assert time.monotonic() - begun < 20
    assert np.isfinite(pool.evaluate(positions(9), forces=True)[0]).all(), "the next batch starts anew"


def test_a_worker_that_cannot_work_says_why():  # row 5
    pool = Pool(2, **settings() | {"xml": "no xml"})
    with pytest.raises(EnergyError, match=r"OpenMM must be able to .* got ValueError"):
        pool.evaluate(positions(1), forces=False)
    assert pool.pids == []


def test_an_exception_that_is_no_fault_of_a_frame_is_an_error(pool):  # row 5
    with pytest.raises(EnergyError, match=r"OpenMM must be able to .* got \w+Error"):
        pool.evaluate(np.zeros((4, 2)), forces=False)
    assert pool.evaluate(positions(4), forces=False)[0].shape == (4,)


def test_an_interrupted_batch_leaves_no_stale_answer(pool, monkeypatch):
    expected = pool.evaluate(positions(9), forces=True)
    pids = pool.pids

    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("boltzgen.energies.openmm_pool.pickle.load", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.evaluate(2 * positions(9), forces=True)
    assert same(pool.evaluate(positions(9), forces=True), expected)
    assert gone(pids)


def test_ctrl_c_does_not_reach_the_workers(pool):
    expected = pool.evaluate(positions(9), forces=True)
    pids = pool.pids
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    assert same(pool.evaluate(positions(9), forces=True), expected)
    assert pool.pids == pids


def test_what_a_plugin_prints_is_not_taken_for_an_answer(pool, tmp_path, monkeypatch):
    (tmp_path / "openmm.py").write_text(
        "import sys\nprint('a plugin says hello', flush=True)\n"
        f"sys.path.remove({str(tmp_path)!r})\ndel sys.modules['openmm']\nimport openmm\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert np.isfinite(pool.evaluate(positions(9), forces=True)[0]).all()


def test_processes_end_with_the_pool():
    pool = Pool(2, **settings())
    pool.evaluate(positions(2), forces=False)
    pids = pool.pids
    assert all(map(alive, pids))
    del pool
    gc.collect()
    assert gone(pids)


SCRIPT = """
import sys, time, openmm, torch
from boltzgen.energies.openmm_energy import OpenMMEnergy
system, bond = openmm.System(), openmm.HarmonicBondForce()
for _ in range(2):
    system.addParticle(12.0)
bond.addBond(0, 1, 0.15, 1000.0)
system.addForce(bond)
energy = OpenMMEnergy(system, 300.0, workers=2)
u = energy.energy(torch.tensor([[[0.0, 0, 0], [0.25, 0, 0]]] * 3))
print(*energy._engine['backend'].pids, *u.tolist(), flush=True)
if sys.argv[1:] == ["wait"]:
    time.sleep(60)
"""


def test_a_plain_script_may_use_workers_and_leaves_no_orphans(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)  # no `if __name__ == "__main__"`
    commands = [[sys.executable, str(tmp_path / "script.py"), argument] for argument in ("return", "wait")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    returning, killed = (subprocess.Popen(c, stdout=subprocess.PIPE, text=True, env=environment) for c in commands)
    for process in (returning, killed):
        first, second, *u = process.stdout.readline().split()
        assert [float(v) for v in u] == pytest.approx([5.0 / kT(300.0)] * 3)
        if process is killed:
            process.kill()
        assert process.wait(20) == (-signal.SIGKILL if process is killed else 0)
        process.stdout.close()
        assert gone([int(first), int(second)])
