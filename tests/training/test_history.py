"""The record of a training survives being saved."""

from boltzgen.checkpoint import load_checkpoint, save_checkpoint
from boltzgen.training.history import History, Round


def test_a_history_comes_back_from_a_checkpoint_as_it_was(tmp_path):
    history = History(
        [1.5, float("inf")], [Round(1200.0, 0.25, 1100.0, 4096, 2.5, 0.3)], 1, 3.5, 512, 7, 8, "compiled", 2
    )
    save_checkpoint(tmp_path / "h.pt", history.state_dict())
    again = History.from_state(load_checkpoint(tmp_path / "h.pt"))
    assert again == history
    assert again.rounds[0].next_temperature == 1100.0
    assert again.evaluations == {"energy": 7, "gradient": 8}


def test_what_is_saved_does_not_change_afterwards():
    history = History()
    state = history.state_dict()
    history.losses.append(1.0)
    assert state["losses"] == []
