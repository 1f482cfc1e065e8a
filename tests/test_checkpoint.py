"""Checkpoints: damage is noticed, the one before is used, nothing in them can run."""

import os
import pickle
import subprocess
import sys

import pytest
import torch

from boltzgen.checkpoint import load_checkpoint, load_if_there, save_checkpoint
from boltzgen.errors import CheckpointError, InputError

STATE = {"weights": torch.arange(1000.0), "steps": 3, "name": "a"}


def same(state):
    return torch.equal(state["weights"], STATE["weights"]) and state["steps"] == 3


def test_round_trip(tmp_path):
    path = tmp_path / "a folder with spaces ü" / "run.pt"
    assert load_if_there(path, fingerprint="x") is None
    save_checkpoint(path, STATE, fingerprint="x")
    assert same(load_if_there(path, fingerprint="x"))
    assert same(load_checkpoint(path, fingerprint="x"))
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_named_and_the_one_before_is_used(tmp_path, share):
    path = tmp_path / "run.pt"
    save_checkpoint(path, STATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"run\.pt"):
        load_checkpoint(path)
    path.write_bytes(data)
    save_checkpoint(path, {**STATE, "steps": 4})
    path.write_bytes(path.read_bytes()[: int(share * len(data))])
    assert same(load_checkpoint(path))


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, STATE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(path)


def test_another_fingerprint_is_refused(tmp_path):
    save_checkpoint(tmp_path / "run.pt", STATE, fingerprint="alanine")
    with pytest.raises(CheckpointError, match="must belong to this training"):
        load_checkpoint(tmp_path / "run.pt", fingerprint="proline")


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    import hashlib

    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {canary}",)

    payload = pickle.dumps(Payload())
    path = tmp_path / "run.pt"
    path.write_bytes(b"boltzgen checkpoint 1\n" + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
    with pytest.raises(CheckpointError, match="plain data"):
        load_checkpoint(path)
    assert not canary.exists()


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"must be a file that can be read; got .*none\.pt \(No such file"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InputError, match="must be a file"):
        load_checkpoint(tmp_path)


def test_another_kind_of_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path / "run.pt", STATE, kind="generator")
    assert same(load_checkpoint(tmp_path / "run.pt", kind="generator"))
    with pytest.raises(CheckpointError, match=r"must hold the state of a training; got that of a generator"):
        load_checkpoint(tmp_path / "run.pt")


def test_two_processes_that_save_at_one_place_do_not_trip_over_each_other(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    save_checkpoint(path, STATE)
    replace = os.replace

    def meanwhile(source, target):
        """The other process saves between any two steps of this one."""
        with monkeypatch.context() as other:
            other.setattr(os, "replace", replace)
            other.setattr(os, "getpid", lambda: -1)
            save_checkpoint(path, {**STATE, "steps": 5})
        replace(source, target)

    monkeypatch.setattr(os, "replace", meanwhile)
    save_checkpoint(path, STATE)
    assert same(load_checkpoint(path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.pt", "run.pt.previous"]


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    save_checkpoint(path, STATE)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("boltzgen.files.os.fsync", full)
    with pytest.raises(OSError, match=r"run\.pt.*free some space"):
        save_checkpoint(path, {**STATE, "steps": 9})
    assert same(load_checkpoint(path))
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_a_kill_at_any_moment_leaves_a_checkpoint(tmp_path):
    path = tmp_path / "run.pt"
    code = (
        "import sys, torch\n"
        "from boltzgen.checkpoint import save_checkpoint\n"
        "k = 0\n"
        "while True:\n"
        "    save_checkpoint(sys.argv[1], {'weights': torch.full((20000,), float(k)), 'k': k})\n"
        "    k += 1\n"
        "    print(k, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    for _ in range(30):
        child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()
    state = load_checkpoint(path)
    assert state["k"] >= 28
    assert (state["weights"] == state["k"]).all()


def test_what_is_damaged_does_not_take_the_place_of_what_is_not(tmp_path):
    path = tmp_path / "run.pt"
    for steps in (1, 2):
        save_checkpoint(path, {"steps": steps})
    path.write_bytes(path.read_bytes()[:-9])
    save_checkpoint(path, {"steps": 3})
    path.unlink()
    assert load_checkpoint(path) == {"steps": 1}
