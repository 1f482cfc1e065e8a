"""What a simulation has observed is kept with where it stands, and only taken up by the same simulation."""

import pytest
import torch

from boltzgen.checkpoint import load_checkpoint, save_checkpoint
from boltzgen.errors import CheckpointError, InputError
from boltzgen.sampling.recording import Recording


def test_columns_grow_by_rows_and_come_back_from_the_checkpoint(tmp_path):
    file = tmp_path / "walk.pt"
    first = Recording(file, lambda: ("a", 1))
    assert (first.done, first.state) == (0, None)
    with first.kept(lambda: {"x": torch.ones(2)}):
        first.add(x=torch.zeros(3), u=torch.tensor(1.0))
        first.add(x=torch.ones(3))  # not everything is observed every time
        first.done = 2
    again = Recording(file, lambda: ("a", 1))
    assert again.done == 2
    assert torch.equal(again.state["x"], torch.ones(2))
    again.add(x=torch.full((3,), 2.0))
    assert torch.equal(again.column("x"), torch.arange(3.0)[:, None].expand(3, 3))
    assert torch.equal(again.column("u"), torch.ones(1))


def test_nothing_is_written_without_a_path(tmp_path, monkeypatch):

    def about():
        raise AssertionError("asked in vain")

    monkeypatch.chdir(tmp_path)
    record = Recording(None, about)
    with record.kept(dict):
        record.add(x=torch.zeros(3))
    assert list(tmp_path.iterdir()) == []
    assert record.column("x").shape == (1, 3)


def test_what_belongs_to_another_simulation_or_to_a_training_is_refused(tmp_path):
    file = tmp_path / "walk.pt"
    with Recording(file, lambda: "a").kept(dict):
        pass
    assert load_checkpoint(file, kind="simulation")["columns"] == {}
    with pytest.raises(CheckpointError, match="must belong to this simulation"):
        Recording(file, lambda: "b")
    save_checkpoint(tmp_path / "training.pt", {}, fingerprint="x")
    with pytest.raises(CheckpointError, match="must hold the state of a simulation; got that of a training"):
        Recording(tmp_path / "training.pt", lambda: "a")


def test_a_row_keeps_nothing_else_alive_and_does_not_change_afterwards():
    record, x = Recording(None, dict), torch.zeros(100, 3)
    record.add(x=x[0])
    x += 1
    assert torch.equal(record.column("x"), torch.zeros(1, 3))
    (row,) = record._rows["x"]
    assert row.untyped_storage().nbytes() == 12


def test_to_go_on_from_two_places_is_refused(tmp_path):
    with pytest.raises(InputError, match="from its checkpoint or from resume; got both: leave one out"):
        Recording(tmp_path / "walk.pt", dict, resume=object())


def test_what_has_not_moved_is_not_written_again(tmp_path):
    file = tmp_path / "walk.pt"
    for done in (2, 2, 3):
        record = Recording(file, dict)
        before = file.stat().st_mtime_ns if file.exists() else 0
        with record.kept(dict):
            moved = record.done != done
            record.done = done
        assert (file.stat().st_mtime_ns > before) == moved
