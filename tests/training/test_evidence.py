"""Evidence beside the loss: the best weights are kept, and training ends where it rises no more."""

import math

import pytest
import torch
from test_loop import TARGET, weights

from boltzgen.errors import InputError
from boltzgen.flows import coupling_flow
from boltzgen.training import evidence, forward_kl, reverse_kl, train
from boltzgen.training.history import History

RISING_ONCE = [1.0, 3.0, 2.0, 2.5, 0.0, 1.0]


@pytest.fixture(autouse=True)
def frequent(monkeypatch):
    monkeypatch.setattr(evidence, "_EVERY", 5)


def flow_of(seed=0):
    return coupling_flow(2, layers=2, transform="affine", hidden=(8,), seed=seed)


def objective(flow):
    return reverse_kl(flow, TARGET, 32)


class Told:
    """Evidence as it is told, and the weights it saw."""

    def __init__(self, values):
        self.values, self.seen = iter(values), []

    def __call__(self, flow):
        self.seen.append(weights(flow))
        return next(self.values)


def test_the_flow_ends_with_the_averaged_weights_of_the_highest_evidence():
    flow, told = flow_of(), Told(RISING_ONCE)
    history = train(flow, objective, steps=30, evidence=told, progress=False)
    assert history.evidence == list(zip(range(5, 31, 5), RISING_ONCE, strict=True))
    assert len(history.losses) == 30
    assert torch.equal(weights(flow), told.seen[1])
    assert not torch.equal(told.seen[1], told.seen[-1])


def test_what_is_looked_at_is_the_running_average_and_looking_changes_nothing():
    watched, plain, told = flow_of(), flow_of(), Told([0.0, 1.0, 2.0])
    train(watched, objective, steps=15, evidence=told, progress=False)
    train(plain, objective, steps=15, progress=False)
    assert torch.equal(weights(plain), told.seen[-1])
    assert torch.equal(weights(plain), weights(watched))


@pytest.mark.parametrize(("patience", "steps"), [(5, 15), (6, 20), (10, 20), (20, 30)])
def test_training_ends_after_so_many_steps_without_higher_evidence(patience, steps):
    flow, told = flow_of(), Told(RISING_ONCE)
    history = train(flow, objective, steps=30, evidence=told, patience=patience, progress=False)
    assert len(history.losses) == steps
    assert torch.equal(weights(flow), told.seen[1])


def test_an_interrupted_run_resumes_to_the_same_bits_and_looks(tmp_path, monkeypatch):
    def measure(flow):
        return -abs(float(reverse_kl(flow, TARGET, 16)) + 2.25)  # highest before the interruption

    whole = flow_of()
    expected = train(whole, objective, steps=30, evidence=measure, learning_rate=0.05, progress=False)
    assert max(expected.evidence, key=lambda look: look[1])[0] < 22
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)
    left = iter(range(22))

    def stopping(flow):
        next(left)
        return objective(flow)

    options = {"steps": 30, "evidence": measure, "learning_rate": 0.05, "checkpoint": tmp_path / "flow.pt"}
    with pytest.raises(StopIteration):
        train(flow_of(), stopping, progress=False, **options)
    resumed = flow_of(seed=9)
    history = train(resumed, objective, progress=False, **options)
    assert history.evidence == expected.evidence
    assert torch.equal(weights(resumed), weights(whole))
    again = flow_of(seed=9)
    assert train(again, objective, progress=False, **options).evidence == expected.evidence
    assert torch.equal(weights(again), weights(whole))


def test_a_run_that_ended_early_stays_ended_until_it_is_given_more_patience(tmp_path):
    options = {"steps": 30, "checkpoint": tmp_path / "flow.pt", "progress": False}
    told = Told(RISING_ONCE)
    first = flow_of()
    assert len(train(first, objective, evidence=told, patience=5, **options).losses) == 15
    again = flow_of(seed=9)
    assert len(train(again, objective, evidence=told, patience=5, **options).losses) == 15
    assert torch.equal(weights(first), weights(again))
    longer = flow_of(seed=9)
    assert len(train(longer, objective, evidence=told, patience=20, **options).losses) == 30
    assert torch.equal(weights(first), weights(longer))


def test_every_look_sees_the_same_noise_and_no_gradient():
    seen = []

    def measure(flow):
        assert not torch.is_grad_enabled()
        seen.append(torch.rand(3))
        return 0.0

    train(flow_of(), objective, steps=10, evidence=measure, progress=False)
    assert torch.equal(seen[0], seen[1])


def test_evidence_that_is_no_number_is_below_any_other():
    flow, told = flow_of(), Told([math.nan, -5.0, math.nan])
    history = train(flow, objective, steps=15, evidence=told, progress=False)
    assert [value for _, value in history.evidence] == [-math.inf, -5.0, -math.inf]
    assert torch.equal(weights(flow), told.seen[1])
    flow, told = flow_of(), Told([math.nan, math.nan, -math.inf])
    train(flow, objective, steps=15, evidence=told, progress=False)
    assert torch.equal(weights(flow), told.seen[2]), "without any, the last weights"


def overlearned(**options):
    """Mean log-density of fresh data, of a flow that learned from 15 points; what the last losses were."""
    data, held_out = (TARGET.sample(n, seed=seed).float() for n, seed in ((15, 1), (500, 2)))
    flow = coupling_flow(2, layers=4, transform="affine", hidden=(32,))
    history = train(
        flow, lambda q: forward_kl(q, data), steps=200, learning_rate=2e-2, progress=False,
        **({"evidence": lambda q: q.log_prob(held_out).mean()} if options.pop("watched") else {}), **options,
    )  # fmt: skip
    with torch.no_grad():
        return float(flow.log_prob(TARGET.sample(2000, seed=3).float()).mean()), history


def test_a_falling_loss_with_falling_evidence_is_no_progress():
    blind, history = overlearned(watched=False)
    assert history.losses[-1] < history.losses[50]
    watched, _ = overlearned(watched=True)
    early, stopped = overlearned(watched=True, patience=50)
    assert -TARGET.entropy() > watched > blind + 0.5
    assert len(stopped.losses) < 200
    assert early > blind + 0.5


def test_a_history_without_evidence_is_still_read():
    state = History([1.0]).state_dict()
    del state["evidence"]
    assert History.from_state(state).evidence == []


def test_wrong_arguments_are_refused_before_work():
    def never(flow):
        raise AssertionError

    with pytest.raises(InputError, match="evidence must be a function of the flow; got float"):
        train(flow_of(), never, steps=5, evidence=1.0)
    with pytest.raises(InputError, match="patience must come with evidence; got 5 alone"):
        train(flow_of(), never, steps=5, patience=5)
    with pytest.raises(InputError, match="patience must be a positive integer; got 0"):
        train(flow_of(), never, steps=5, evidence=objective, patience=0)
    for wrong, got in ((torch.zeros(3), r"shape \(3,\)"), (None, "NoneType")):
        with pytest.raises(InputError, match=f"the evidence must be one number; got {got}: take its mean"):
            train(flow_of(), objective, steps=5, evidence=lambda q: wrong, progress=False)  # noqa: B023
