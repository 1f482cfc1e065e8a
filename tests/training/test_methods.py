"""Every method of annealing: finds both wells, keeps to its budget, resumes to the same bits, counts what it spends."""

import itertools
import math
import time

import pytest
import torch

from boltzgen.energies.toys import DoubleWell
from boltzgen.errors import CheckpointError, InputError
from boltzgen.flows import coupling_flow, molecular_flow
from boltzgen.training import annealing, continuous, rounds, transport
from boltzgen.training.annealing import anneal

WHOLE = ["reweighting", "continuous", "transport"]
"""Methods for any flow; that for flows in two parts has tests of its own."""
NEW = ["continuous", "transport"]


class Stop(Exception):
    pass


def flow_of(seed=0):
    return coupling_flow(2, layers=4, hidden=(32, 32), seed=seed)


def small(seed=0):
    return coupling_flow(2, layers=2, hidden=(16,), seed=seed)


def in_parts():
    return molecular_flow(
        [False, True], torch.zeros(1), torch.full((1, 1), 0.5), torsion_hidden=(8,), stiff_layers=2, stiff_hidden=(8,)
    )


def weights(flow):
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


def near(target, x, log_w, *, tails):
    """Whether draws are about those of the double well, both of its wells included; of forces light tails are known."""
    kl = target.log_partition() - float(log_w.mean())
    odds = float(target.in_a(x).double().mean() / target.in_b(x).double().mean())
    right = abs(math.log(odds) - target.free_energy_difference()) < 0.5
    ess = float(1 / log_w.softmax(0).square().sum()) / len(x)
    log_z = float(log_w.logsumexp(0)) - math.log(len(x))
    heavy = ess > 0.8 and abs(log_z - target.log_partition()) < 4 * math.sqrt((1 / ess - 1) / len(x))
    return 0 < kl < 0.1 and right and (heavy or not tails)


@pytest.mark.parametrize("method", NEW)
def test_both_wells_are_found_and_the_ledger_counts_every_draw(method):
    target, flow = DoubleWell(), flow_of()
    history = anneal(flow, target, method=method, steps=600, progress=False)
    x, log_q = flow.sample(20_000, seed=1)
    log_w = (-target.energy(x) - log_q).double()
    assert near(target, x, log_w, tails=method == "transport")
    assert history.rounds[-1].ess > 0.7
    assert history.rounds[-1].temperature == history.rounds[-1].next_temperature == 1.0
    hot, drawn = rounds.HOT_BATCH * math.ceil(rounds.HOT_SHARE * 600), sum(r.rows for r in history.rounds)
    if method == "continuous":
        temperatures = [r.temperature for r in history.rounds]
        assert temperatures[0] == pytest.approx(10.0)
        assert temperatures == sorted(temperatures, reverse=True)
        falling = [a / b for a, b in itertools.pairwise(temperatures) if b > 1]
        assert max(falling) == pytest.approx(min(falling)), "along a geometric path"
        share = sum(t > 1 for t in temperatures) / len(temperatures)
        assert share == pytest.approx((continuous.PATH[1] - 0.1) / 0.9, abs=0.03)
        assert (history.energy, history.gradient) == (0, hot + drawn)
        assert history.training_samples == hot + drawn
    else:
        assert {r.temperature for r in history.rounds} == {1.0}
        assert history.rounds[0].ess < 0.45
        assert (history.energy, history.gradient) == (drawn, hot)
        assert history.training_samples == hot + rounds.PASSES * drawn


@pytest.mark.parametrize("method", NEW)
@pytest.mark.parametrize("before", [0, 5])
def test_a_run_killed_in_a_round_resumes_to_the_same_bits(method, before, tmp_path, monkeypatch):
    whole = small()
    complete = anneal(whole, DoubleWell(), method=method, steps=120, progress=False)
    module, name = (continuous, "rowwise") if method == "continuous" else (rounds, "forward_kl")
    kind, original = annealing._METHODS[method], getattr(module, name)
    whole_round, calls = kind.round, []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) > 3:
            raise Stop
        return original(*arguments, **options)

    def watched(self, autosave):
        if len(self.history.rounds) == before:
            monkeypatch.setattr(module, name, stopping)
        return whole_round(self, autosave)

    path = tmp_path / "training.pt"
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)
    monkeypatch.setattr(kind, "round", watched)
    with pytest.raises(Stop):
        anneal(small(), DoubleWell(), method=method, steps=120, checkpoint=path, progress=False)
    monkeypatch.setattr(kind, "round", whole_round)
    monkeypatch.setattr(module, name, original)
    for seed in (7, 8):  # the second time it is finished, and not trained further
        resumed = small(seed)
        history = anneal(resumed, DoubleWell(), method=method, steps=120, checkpoint=path, progress=False)
        assert torch.equal(weights(resumed), weights(whole))
        assert history.evaluations == complete.evaluations


@pytest.mark.parametrize("method", NEW)
def test_a_run_stopped_before_its_first_round_with_its_budget_spent_has_one_all_the_same(method, tmp_path, monkeypatch):
    def stopping(self, autosave):
        raise Stop

    kind, path = annealing._METHODS[method], tmp_path / "training.pt"
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)
    original = kind.round
    monkeypatch.setattr(kind, "round", stopping)
    with pytest.raises(Stop):
        anneal(small(), DoubleWell(), method=method, steps=100, checkpoint=path, progress=False)
    monkeypatch.setattr(kind, "round", original)
    history = anneal(small(), DoubleWell(), method=method, steps=10, checkpoint=path, progress=False)
    assert [r.temperature for r in history.rounds] == [1.0]


@pytest.mark.parametrize("method", NEW)
def test_whatever_the_distance_to_go_the_budget_is_kept(method, monkeypatch):
    history = anneal(small(), DoubleWell(), method=method, hot=1000.0, steps=100, progress=False)
    assert history.rounds[-1].temperature == 1.0
    assert len(history.losses) < 100 + 2 * continuous.STEPS
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))  # a second passes whenever one looks
    history = anneal(small(), DoubleWell(), method=method, minutes=5, progress=False)
    assert 300 <= history.seconds < 300 + 4 * continuous.STEPS
    assert history.rounds[-1].temperature == 1.0


def test_the_rate_falls_once_no_constraint_binds_or_late_in_the_budget(monkeypatch):
    starts = []

    class Watched(transport.TransportRounds):
        def arrive(self):
            super().arrive()
            starts.append((self.free, self.spent, self.cold_start))

    monkeypatch.setitem(annealing._METHODS, "transport", Watched)
    anneal(small(), DoubleWell(), method="transport", steps=300, progress=False)
    early = [start for free, spent, start in starts if not free and spent < rounds.LADDER[1]]
    assert early[0] is None
    assert next(start for free, _, start in starts if free) is not None
    starts.clear()
    monkeypatch.setattr(transport, "TRUST", 1e-4)
    anneal(small(), DoubleWell(), method="transport", steps=100, progress=False)
    assert not any(free for free, _, _ in starts)
    assert all((start is None) == (spent < rounds.LADDER[1]) for _, spent, start in starts)


def test_data_start_the_flow_of_a_method_that_learns_by_weights():
    target, flow = DoubleWell(), flow_of()
    data = target.sample(20_000, seed=1)
    history = anneal(flow, target, method="transport", data=data, steps=300, progress=False)
    assert history.energy + history.gradient == sum(r.rows for r in history.rounds)  # the data took none
    assert {r.temperature for r in history.rounds} == {1.0}
    x, log_q = flow.sample(20_000, seed=2)
    assert near(target, x, (-target.energy(x) - log_q).double(), tails=True)
    with pytest.raises(InputError, match='data must start a method that learns by weights; got method="continuous"'):
        anneal(flow, target, method="continuous", data=data, steps=10**9, progress=False)


@pytest.mark.parametrize("method", NEW)
def test_some_draws_that_fail_weigh_nothing_and_end_nothing(method):
    class Striped(DoubleWell):
        def _energy(self, x):
            return torch.where((40 * x[:, 1]).sin() < 0.9, super()._energy(x), torch.inf)

    target, flow = Striped(), flow_of()
    history = anneal(flow, target, method=method, steps=300, progress=False)
    assert history.skipped == 0
    x, log_q = flow.sample(20_000, seed=2)
    log_w = (-target.energy(x) - log_q).double()
    lost = math.acos(0.9) / math.pi
    assert float(log_w.isneginf().double().mean()) == pytest.approx(lost, abs=0.02)
    assert float(1 / log_w.softmax(0).square().sum()) > 0.7 * len(x)
    log_z = DoubleWell().log_partition() + math.log(1 - lost)
    assert float(log_w.logsumexp(0)) - math.log(len(x)) == pytest.approx(log_z, abs=0.03)


@pytest.mark.parametrize(("flow", "method"), [(flow_of, "reweighting"), (in_parts, "parted")])
def test_the_method_of_a_flow_is_that_which_suits_it(flow, method):
    found = []
    for told in ({}, {"method": "auto"}, {"method": method}):
        trained = flow()
        anneal(trained, DoubleWell(), steps=20, progress=False, **told)
        found.append(weights(trained))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_flow_in_parts_learns_as_a_whole_if_it_shall():
    flow = in_parts()
    history = anneal(flow, DoubleWell(), method="reweighting", steps=20, progress=False)
    assert history.energy == sum(r.rows for r in history.rounds) == rounds.BUFFER * len(history.rounds)


def test_a_checkpoint_of_one_method_is_not_another_s(tmp_path):
    for first, second in itertools.pairwise([*WHOLE, WHOLE[0]]):
        path = tmp_path / f"{first}.pt"
        anneal(small(), DoubleWell(), method=first, steps=10, checkpoint=path, progress=False)
        with pytest.raises(CheckpointError):
            anneal(small(), DoubleWell(), method=second, steps=10, checkpoint=path, progress=False)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("warm", "method must be one of auto, parted, reweighting, continuous, transport; got 'warm': choose one"),
        (None, "method must be one of"),
        (["parted"], "method must be one of"),
        ("parted", 'a flow trained by method="parted" must have a marginal law'),
    ],
)
def test_a_method_that_does_not_exist_or_does_not_suit_is_refused_before_work(method, message):
    with pytest.raises(InputError, match=message):
        anneal(small(), DoubleWell(), method=method, steps=10**9, progress=False)


def test_a_temperature_that_fell_does_not_rise_when_more_time_is_given(tmp_path):
    flow, path = small(), tmp_path / "training.pt"
    anneal(flow, DoubleWell(), method="continuous", steps=60, checkpoint=path, progress=False)
    history = anneal(flow, DoubleWell(), method="continuous", steps=180, checkpoint=path, progress=False)
    temperatures = [r.temperature for r in history.rounds]
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[-1] == 1.0
    assert len(history.losses) >= 180
