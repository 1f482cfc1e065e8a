"""Annealing: finds both wells of a double well, counts what it spends, resumes to the same bits."""

import itertools
import math
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from boltzgen.energies.toys import DoubleWell, GaussianMixture40
from boltzgen.errors import CheckpointError, EnergyError, InputError
from boltzgen.flows import coupling_flow
from boltzgen.training import annealing, compilation
from boltzgen.training import rounds as stages
from boltzgen.training.annealing import anneal
from boltzgen.training.budget import Budget


def flow_of(seed=0):
    return coupling_flow(2, layers=4, hidden=(32, 32), seed=seed)


def weights(flow):
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


def test_both_wells_are_found_and_weighted_right():
    target, flow = DoubleWell(), flow_of()
    history = anneal(flow, target, steps=1500, progress=False)
    hot_steps = math.ceil(stages.HOT_SHARE * 1500)
    x, log_q = flow.sample(20_000, seed=1)
    log_w = (-target.energy(x) - log_q).double()
    w = torch.softmax(log_w, 0)
    ess = float(1 / w.square().sum()) / len(x)
    assert ess > 0.8
    error = 1 / math.sqrt(ess * len(x))
    assert float(log_w.logsumexp(0)) - math.log(len(x)) == pytest.approx(target.log_partition(), abs=4 * error)
    assert history.rounds[0].temperature == 10.0
    assert history.rounds[-1].temperature == 1.0
    temperatures = [r.temperature for r in history.rounds]
    assert temperatures == sorted(temperatures, reverse=True)
    assert history.rounds[-1].ess > 0.7
    assert history.gradient == stages.HOT_BATCH * hot_steps
    assert history.energy == sum(r.rows for r in history.rounds) == stages.BUFFER * len(history.rounds)
    fits = stages.PASSES * history.energy
    assert history.training_samples == history.gradient + fits
    assert len(history.losses) == hot_steps + fits // stages.BATCH


@pytest.mark.parametrize("rounds", [3, 20])
def test_a_run_killed_between_rounds_resumes_to_the_same_bits(rounds, tmp_path, monkeypatch):
    whole = flow_of()
    complete = anneal(whole, DoubleWell(), steps=300, progress=False)

    class Stop(Exception):
        pass

    original = stages.Rounds.round

    def stopping(self, autosave):
        if len(self.history.rounds) == rounds:
            raise Stop
        return original(self, autosave)

    path = tmp_path / "training.pt"
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)
    monkeypatch.setattr(stages.Rounds, "round", stopping)
    with pytest.raises(Stop):
        anneal(flow_of(), DoubleWell(), steps=300, checkpoint=path, fingerprint="a", progress=False)
    monkeypatch.setattr(stages.Rounds, "round", original)
    resumed = flow_of(seed=7)
    history = anneal(resumed, DoubleWell(), steps=300, checkpoint=path, fingerprint="a", progress=False)
    assert torch.equal(weights(resumed), weights(whole))
    assert history.evaluations == complete.evaluations
    again = flow_of(seed=8)
    anneal(again, DoubleWell(), steps=300, checkpoint=path, fingerprint="a", progress=False)
    assert torch.equal(weights(again), weights(whole)), "a finished run is not trained further"
    with pytest.raises(CheckpointError):
        anneal(flow_of(), DoubleWell(), steps=300, checkpoint=path, fingerprint="b", progress=False)


def test_the_hot_stage_resumes_to_the_same_bits(tmp_path, monkeypatch):
    whole = flow_of()
    anneal(whole, DoubleWell(), steps=200, progress=False)
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)

    class Stop(Exception):
        pass

    original = stages.reverse_kl

    def stopping(*args, calls=[0], **kwargs):  # noqa: B006
        calls[0] += 1
        if calls[0] == 13:
            raise Stop
        return original(*args, **kwargs)

    monkeypatch.setattr(stages, "reverse_kl", stopping)
    with pytest.raises(Stop):
        anneal(flow_of(), DoubleWell(), steps=200, checkpoint=tmp_path / "t.pt", progress=False)
    monkeypatch.setattr(stages, "reverse_kl", original)
    resumed = flow_of(seed=5)
    anneal(resumed, DoubleWell(), steps=200, checkpoint=tmp_path / "t.pt", progress=False)
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("hot", [4.0, 1000.0])
def test_a_flow_that_never_suffices_reaches_cold_within_its_budget_all_the_same(hot, monkeypatch):
    monkeypatch.setattr(stages, "STEP_ESS", 1.1)
    history = anneal(flow_of(), DoubleWell(), hot=hot, steps=200, progress=False)
    assert history.rounds[-1].next_temperature == 1.0
    assert history.rounds[-1].temperature == 1.0
    assert len(history.losses) < 200 + 2 * stages.PASSES * stages.BUFFER // stages.BATCH


def test_a_budget_in_minutes_ends_in_time(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))  # a second passes whenever one looks
    history = anneal(flow_of(), DoubleWell(), minutes=15, progress=False)
    assert 900 <= history.seconds < 900 + 4 * stages.PASSES * stages.BUFFER // stages.BATCH
    assert history.rounds[-1].temperature == 1.0


def test_compilation_leaves_the_hot_stage_its_share_of_what_remains(monkeypatch):
    clock, step = [0.0], stages.Rounds.step

    def step_of_three_seconds(self, *arguments):
        clock[0] += 3.0
        step(self, *arguments)

    @contextmanager
    def slowly_compiled(*_, **__):
        clock[0] += 600
        yield None

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(stages.Rounds, "step", step_of_three_seconds)
    monkeypatch.setattr(annealing, "compiled", slowly_compiled)
    history = anneal(flow_of(), DoubleWell(), minutes=20, progress=False)
    hot_steps = history.gradient // stages.HOT_BATCH
    assert hot_steps == pytest.approx(stages.HOT_SHARE * len(history.losses), rel=0.1)


@pytest.mark.parametrize(
    ("budget", "meanwhile", "patience"),
    [
        ({"minutes": 19}, True, 0.0),
        ({"minutes": 40}, True, 1200.0),
        ({"minutes": 300}, True, 1800.0),
        ({"steps": 14_999}, False, 0.0),
        ({"steps": 15_000}, False, 300.0),
    ],
)
def test_a_trial_goes_on_beside_a_training_of_minutes_only_and_not_for_ever(monkeypatch, budget, meanwhile, patience):
    class AskedError(Exception):
        pass

    def asked(*_, **given):
        raise AskedError(given["meanwhile"], given["patience"])

    monkeypatch.setattr(annealing, "compiled", asked)
    with pytest.raises(AskedError) as found:
        anneal(flow_of(), DoubleWell(), **budget, progress=False)
    assert found.value.args == (meanwhile, pytest.approx(patience, abs=5))


def test_no_trial_begins_near_the_end_of_a_training_that_was_interrupted():
    left = [annealing._patience(Budget(steps=None, minutes=60, spent_seconds=spent), True) for spent in (3000, 3400)]
    assert left == [pytest.approx(300, abs=1), 0.0]


def test_a_training_of_minutes_begins_while_compiled_code_is_tried(monkeypatch, tmp_path):
    clock, step, seen = [0.0], stages.Rounds.step, []

    def step_of_ten_seconds(self, *arguments):
        clock[0] += 10.0
        step(self, *arguments)

    class Trial(compilation._Trial):
        """Has found compiled code right after five minutes."""

        def __init__(self, job, stamp, patience):
            assert patience == 600  # half of the minutes
            self._begin = clock[0]

        def outcome(self):
            return "" if self.seconds >= 300 else None

        def end(self):
            pass

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(stages.Rounds, "step", step_of_ten_seconds)
    monkeypatch.setattr(compilation.shutil, "which", lambda _: "g++")
    monkeypatch.setattr(compilation, "_Trial", Trial)
    monkeypatch.setattr(compilation, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    history = anneal(
        flow_of(), DoubleWell(), minutes=20, watch=lambda history: seen.append(history.compiled), progress=False
    )
    assert len(history.losses) == len(seen) - 1 == pytest.approx(120, abs=20)
    assert seen[29] == "eager: compiled code was still being tried"
    assert seen[30] == seen[-1] == "compiled after 300 s"


def test_a_target_that_is_never_finite_ends_with_advice():
    class Nowhere(DoubleWell):
        def _energy(self, x):
            return torch.full_like(x[:, 0], torch.nan)

    with pytest.raises(EnergyError, match="must be finite"):
        anneal(flow_of(), Nowhere(), steps=1000, progress=False)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "either steps or minutes"),
        ({"steps": 1, "minutes": 1}, "either steps or minutes"),
        ({"steps": 0}, "steps must be a positive integer"),
        ({"minutes": math.nan}, "minutes must be a positive number"),
        ({"steps": 10, "hot": 0.5}, "hot must not be below cold"),
        ({"steps": 10, "cold": -1.0}, "temperature must be a positive number"),
        ({"steps": 10, "compile": "maybe"}, "compile must be"),
        ({"steps": 10, "learning_rate": -1.0}, "learning_rate must be a positive number"),
        ({"steps": 10, "seed": 0.5}, "seed must be a non-negative integer"),
    ],
)
def test_wrong_arguments_are_refused_before_work(wrong, message):
    with pytest.raises(InputError, match=message):
        anneal(flow_of(), DoubleWell(), progress=False, **wrong)


def test_a_flow_of_another_shape_is_refused():
    with pytest.raises(InputError, match="flow must be a Flow; got a DoubleWell: check the order"):
        anneal(DoubleWell(), coupling_flow(2), steps=10, progress=False)
    with pytest.raises(InputError, match="same event shape"):
        anneal(coupling_flow(3), DoubleWell(), steps=10, progress=False)


def test_data_that_hold_too_little_of_a_well_start_the_flow_and_the_rounds_right_its_weight():
    target, flow = DoubleWell(), flow_of()
    data = target.sample(20_000, seed=1)
    rare = target.in_b(data) if target.in_b(data).sum() < 10_000 else target.in_a(data)
    data = data[~rare | (torch.arange(len(data)) % 5 == 0)]  # four fifths of the rarer well are missing
    history = anneal(flow, target, data=data, steps=1200, progress=False)
    assert history.energy + history.gradient == sum(r.rows for r in history.rounds)  # the data took none
    assert {r.temperature for r in history.rounds} == {1.0}
    x, log_q = flow.sample(50_000, seed=2)
    log_w = (-target.energy(x) - log_q).double()
    assert float(1 / log_w.softmax(0).square().sum()) > 0.9 * len(x)
    in_a, in_b = (torch.logsumexp(log_w[where], 0) for where in (target.in_a(x), target.in_b(x)))
    assert float(in_a - in_b) == pytest.approx(target.free_energy_difference(), abs=0.1)
    raw = torch.log(target.in_a(x).double().mean() / target.in_b(x).double().mean())
    assert float(raw) == pytest.approx(target.free_energy_difference(), abs=0.3)
    of_data = torch.log(target.in_a(data).double().mean() / target.in_b(data).double().mean())
    assert abs(float(of_data) - target.free_energy_difference()) > 1.3


@pytest.mark.parametrize("data", [torch.zeros(10, 3), torch.zeros(0, 2), torch.full((10, 2), torch.nan)])
def test_data_of_another_kind_are_refused_before_work(data):
    with pytest.raises(InputError, match=r"data must be finite configurations of shape \(m, 2\)"):
        anneal(flow_of(), DoubleWell(), data=data, steps=10)


def test_numbers_of_numpy_leave_a_readable_checkpoint_of_the_same_run(tmp_path):
    path = tmp_path / "training.pt"
    options = {"steps": np.int64(20), "learning_rate": np.float64(5e-3), "seed": np.int32(3), "hot": np.float32(4.0)}
    anneal(flow_of(), DoubleWell(), checkpoint=path, progress=False, **options)
    resumed = flow_of(seed=5)
    anneal(resumed, DoubleWell(), steps=20, learning_rate=5e-3, seed=3, hot=4.0, checkpoint=path, progress=False)
    whole = flow_of()
    anneal(whole, DoubleWell(), steps=20, learning_rate=5e-3, seed=3, hot=4.0, progress=False)
    assert torch.equal(weights(resumed), weights(whole))


def test_a_run_stopped_on_its_way_down_with_its_budget_spent_goes_on_to_the_cold_temperature(tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stopping(self, autosave):
        raise Stop

    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)
    original = stages.Rounds.round
    monkeypatch.setattr(stages.Rounds, "round", stopping)
    path = tmp_path / "training.pt"
    with pytest.raises(Stop):
        anneal(flow_of(), DoubleWell(), steps=200, checkpoint=path, progress=False)
    monkeypatch.setattr(stages.Rounds, "round", original)
    history = anneal(flow_of(), DoubleWell(), steps=10, checkpoint=path, progress=False)
    assert history.rounds[-1].next_temperature == 1.0


def test_forty_wells_keep_their_weights():
    target, flow = GaussianMixture40(), coupling_flow(2, layers=6, seed=0)
    anneal(flow, target, steps=600, progress=False)
    x, log_q = flow.sample(20_000, seed=1)
    log_w = (-target.energy(x) - log_q).double()
    ess = float(1 / log_w.softmax(0).square().sum())
    assert ess > 0.2 * len(x)
    assert float(log_w.logsumexp(0)) - math.log(len(x)) == pytest.approx(0.0, abs=5 / math.sqrt(ess))
    assert wells(target, x) == 40
    anneal(few := coupling_flow(2, layers=6, seed=0), target, hot=2.0, steps=300, progress=False)
    assert wells(target, few.sample(20_000, seed=1)[0]) < 40, "where barriers are high from the start, some are lost"


def wells(target, x):
    """How many of the components of a mixture have draws within four standard deviations."""
    distance, nearest = torch.cdist(x.double(), target.locs.double()).min(1)
    return len(nearest[distance < 4 * 1.313].unique())


@pytest.mark.parametrize("method", ["reweighting", "continuous", "transport"])
def test_draws_that_all_fail_at_the_cold_temperature_end_with_advice(method):
    class Failing(DoubleWell):
        fails = False

        def _energy(self, x):
            return super()._energy(x) + (math.inf if self.fails else 0.0)

    target = Failing()

    def watch(history):
        target.fails = bool(history.rounds) and history.rounds[-1].next_temperature == 1

    with pytest.raises(EnergyError, match="some draws of the flow must have a finite energy; got none of 4096 at 1 K"):
        anneal(flow_of(), target, method=method, steps=100, watch=watch, progress=False)


@pytest.mark.parametrize(("temperature", "words"), [(1.0, "T 10, loss"), (300.0, "3000 K, loss")])
def test_kelvin_is_said_of_energies_that_have_a_temperature_only(temperature, words, capsys):
    anneal(flow_of(), DoubleWell().at(temperature), steps=2)
    assert words in capsys.readouterr().err
