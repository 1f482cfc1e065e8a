"""What a simulation has observed is kept with where it stands, and only taken up by the same simulation."""

import pytest
import torch

from boltzgen.checkpoint import load_checkpoint, save_checkpoint
from boltzgen.errors import CheckpointError
from boltzgen.sampling.recording import Recording


def test_columns_grow_by_rows_and_come_back_from_the_checkpoint(tmp_path):
    file = tmp_path / "walk.pt"
    first = Recording(file, ("a", 1))
    assert (first.done, first.state) == (0, None)
    with first.kept(lambda: {"x": torch.ones(2)}):
        first.add(x=torch.zeros(3), u=torch.tensor(1.0))
        first.add(x=torch.ones(3))  # not everything is observed every time
        first.done = 2
    again = Recording(file, ("a", 1))
    assert again.done == 2
    assert torch.equal(again.state["x"], torch.ones(2))
    again.add(x=torch.full((3,), 2.0))
    assert torch.equal(again.column("x"), torch.arange(3.0)[:, None].expand(3, 3))
    assert torch.equal(again.column("u"), torch.ones(1))


def test_nothing_is_written_without_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = Recording(None, "a")
    with record.kept(dict):
        record.add(x=torch.zeros(3))
    assert list(tmp_path.iterdir()) == []
    assert record.column("x").shape == (1, 3)


def test_what_belongs_to_another_simulation_or_to_a_training_is_refused(tmp_path):
    file = tmp_path / "walk.pt"
    with Recording(file, "a").kept(dict):
        pass
    assert load_checkpoint(file, kind="simulation")["columns"] == {}
    with pytest.raises(CheckpointError, match="must belong to this simulation"):
        Recording(file, "b")
    save_checkpoint(tmp_path / "training.pt", {}, fingerprint="x")
    with pytest.raises(CheckpointError, match="must hold the state of a simulation; got that of a training"):
        Recording(tmp_path / "training.pt", "a")
