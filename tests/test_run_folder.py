"""What a run folder says: what it holds, where it came from, how it goes."""

import json
import sys
import time

import pytest

from boltzgen import CheckpointError, InputError
from boltzgen.run_folder import RunFolder, provenance
from boltzgen.training import History
from boltzgen.training.history import Round


def test_the_provenance_names_command_versions_and_machine(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest", "-q", "a b"])
    found = provenance()
    assert {"Python", "torch", "numpy", "openmm", "pydantic", "tqdm", "filelock"} <= set(found["versions"])
    assert found["command"] == "pytest -q 'a b'"
    assert "processors" in found["machine"]
    assert json.loads(json.dumps(found)) == found


def test_the_record_keeps_every_start(tmp_path):
    for minutes in (1, 2):
        RunFolder(tmp_path, {"system": "x", "minutes": minutes})(History())
    found = RunFolder(tmp_path).read()
    assert (found["system"], found["minutes"], len(found["starts"])) == ("x", 2, 2)


def test_a_start_with_nothing_left_to_train_leaves_the_record_of_what_was(tmp_path):
    trained = History([1.0, 2.0])
    for budget, history in ((2, trained), (1, trained), (3, History([1.0, 2.0, 3.0]))):
        folder = RunFolder(tmp_path, {"steps": budget})
        folder(History([]) if budget == 2 else trained)
        folder.finish(history)
        assert RunFolder(tmp_path).read()["steps"] == max(2, budget)
    assert len(RunFolder(tmp_path).read()["starts"]) == 2


def test_nothing_is_written_before_the_training_began(tmp_path):
    RunFolder(tmp_path, {"system": "x"})
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"its run\.json cannot be read \(No such file"):
        RunFolder(tmp_path).read()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"starts": 3}', '{"format": "boltzgen run", "version": 9, "starts": []}']
)
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"run\.json must be"):
        RunFolder(tmp_path).read()


def test_metrics_are_whole_lines_while_the_training_runs_and_go_on_after_an_interruption(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    folder, history = RunFolder(tmp_path), History()

    def go(folder, steps):
        folder(history)
        for k in range(steps):
            clock[0] += 1.0
            history.losses.append(float(k))
            history.training_samples += 512
            history.gradient += 512
            folder(history)
        return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    first = go(folder, 11)
    assert [(line["steps"], line["loss"], line["temperature"]) for line in first] == [(5, 2.0, None), (10, 7.0, None)]
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"seconds": 11')  # the computer went out
    del history.losses[7:]  # what the last checkpoint knew
    history.seconds, history.training_samples, history.gradient = 7.0, 7 * 512, 7 * 512
    history.rounds.append(Round(1200.0, 0.5, 900.0, 4096, 7.0))
    second = go(RunFolder(tmp_path), 5)
    assert [line["steps"] for line in second] == [5, 12]
    assert second[1] == {
        "seconds": 12.0, "steps": 12, "loss": 2.0, "training_samples": 6144, "samples_per_second": 512.0,
        "evaluations": {"energy": 0, "gradient": 6144}, "rounds": 1, "temperature": 900.0, "ess_fraction": 0.5
    }  # fmt: skip


def test_a_full_disk_ends_no_training(tmp_path, monkeypatch):
    folder, history = RunFolder(tmp_path), History()
    folder(history)
    monkeypatch.setattr("boltzgen.run_folder._SECONDS", 0.0)
    folder.metrics.unlink()
    folder.metrics.mkdir()
    history.losses.append(float("nan"))
    folder(history)
