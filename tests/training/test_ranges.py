"""A flow for every temperature: one training gives the whole range, with the right log Z at each temperature of it."""

import math

import pytest
import torch
from test_parted import Hinge, weights
from test_parted import flow_of as parted_flow_of

from boltzgen.energies.toys import DoubleWell
from boltzgen.errors import InputError
from boltzgen.flows import coupling_flow
from boltzgen.training import annealing, parted, parted_ranges, ranges, rounds
from boltzgen.training.annealing import anneal
from boltzgen.training.fresh_draws import Draws
from boltzgen.training.parted_ranges import PartedRangeRounds, over_levels
from boltzgen.training.ranges import RangeRounds
from boltzgen.training.row_temperatures import context_of, evaluated

SIGMAS = 4
TEMPERATURES = (1.0, 1.4, 2.5, 4.0)


def flow_of(seed=0):
    return coupling_flow(2, layers=4, hidden=(32, 32), temperature=1.0, seed=seed)


def hinge_flow_of(seed=0):
    return parted_flow_of(seed, temperature=4.0)


def weighed(flow, target, temperature, n=20_000):
    """Draws at a temperature, their effective share, and log Z with its error."""
    x, log_q = flow.at(temperature).sample(n, seed=1)
    log_w = (-target.at(temperature).energy(x) - log_q).double()
    ess = float(1 / log_w.softmax(0).square().sum()) / n
    return x, log_w, ess, float(log_w.logsumexp(0)) - math.log(n), math.sqrt((1 / ess - 1) / n)


def exact_log_z(target, temperature):
    x, log_w = target._nodes()
    return float(torch.logsumexp(log_w - target._energy(x) / temperature, 0))


@pytest.fixture(scope="module")
def trained():
    """A flow trained for the range from 1 to 4, and the record of that."""
    flow = flow_of()
    return flow, anneal(flow, DoubleWell(), hot=4.0, steps=500, progress=False)


def test_one_training_gives_log_z_at_every_temperature_of_the_range(trained):
    target, (flow, history), values = DoubleWell(), trained, {}
    for temperature in TEMPERATURES:
        _, log_w, ess, log_z, error = weighed(flow, target, temperature)
        assert ess > 0.85
        assert log_z == pytest.approx(exact_log_z(target, temperature), abs=SIGMAS * error)
        values[temperature] = log_z, error, log_w
    (cold, cold_error, _), (hot, hot_error, _) = values[1.0], values[4.0]
    exact = exact_log_z(target, 4.0) - exact_log_z(target, 1.0)
    assert hot - cold == pytest.approx(exact, abs=SIGMAS * math.hypot(cold_error, hot_error))
    assert abs(exact_log_z(target, 1.4) - values[1.0][0]) > SIGMAS * cold_error, "the test can fail"
    x, log_q = flow.at(4.0).sample(20_000, seed=1)
    stray = (-target.energy(x) - log_q).double()
    assert 1 / float(stray.softmax(0).square().sum()) < 0.6 * 20_000, "the context is what makes it cold"
    temperatures = [r.temperature for r in history.rounds]
    assert temperatures[0] == 4.0
    assert temperatures[-1] == 1.0
    assert temperatures == sorted(temperatures, reverse=True)


def test_the_ledger_counts_every_draw_once():
    history = anneal(flow_of(), DoubleWell(), hot=4.0, steps=120, progress=False)
    hot = math.ceil(rounds.HOT_SHARE * 120)
    drawn = sum(r.rows for r in history.rounds)
    assert drawn == ranges.LEVELS * 1024 * len(history.rounds) == history.energy
    assert history.gradient == rounds.HOT_BATCH * hot
    assert len(history.losses) == hot + rounds.PASSES * drawn // rounds.BATCH
    assert history.training_samples == history.gradient + rounds.PASSES * drawn


def test_what_was_learnt_at_a_high_temperature_is_kept(trained, monkeypatch):
    """Without the draws of the levels above the present one, the flow forgets them."""

    def all_cold(self, index):
        return torch.full((ranges.LEVELS,), self.temperature, dtype=torch.float64)

    forgetful = flow_of()
    monkeypatch.setattr(RangeRounds, "levels", all_cold)
    anneal(forgetful, DoubleWell(), hot=4.0, steps=300, progress=False)
    kept, forgotten = (weighed(flow, DoubleWell(), 4.0)[2] for flow in (trained[0], forgetful))
    assert kept > 0.9
    assert forgotten < kept - 0.1


def test_levels_are_ends_and_one_in_each_interval_between():
    course = RangeRounds(flow_of(), DoubleWell(), 8.0, 1.0, None, 5e-3, 0, "")
    course.temperature = 2.0
    levels, others = course.levels(3), course.levels(4)
    assert (levels[0], levels[-1]) == (2.0, 8.0)
    heights = (levels / 2.0).log() / math.log(4.0) * (ranges.LEVELS - 2)
    assert torch.equal(heights[1:-1].floor(), torch.arange(ranges.LEVELS - 2.0, dtype=torch.float64))
    assert torch.equal(levels, course.levels(3))
    assert not torch.equal(levels, others)
    course.temperature = 8.0
    assert course.levels(0).tolist() == [8.0]


def test_rows_have_the_energies_of_their_temperatures():
    target, t = DoubleWell(), torch.tensor([1.0, 2.0, 5.0, 3.0], dtype=torch.float64)
    x = torch.tensor([[0.3, 1.0], [1.0, -2.0], [2.0, 0.0], [math.nan, 0.0]])
    u, potential = evaluated(target, x, t)
    for k in range(3):
        expected = target.at(float(t[k])).energy(x[k : k + 1])
        assert u[k].item() == pytest.approx(expected.item(), rel=1e-6)
        assert potential[k].item() == pytest.approx(expected.item(), rel=1e-6)
    assert u[3] == math.inf
    flow = flow_of()
    context = context_of(flow, t)
    assert torch.equal(flow.log_prob(x[:3], context[:3])[1], flow.at(2.0).log_prob(x[1:2])[0])


def test_a_level_without_any_energy_is_left_out():
    loss = torch.ones(ranges.LEVELS, 4, requires_grad=True)
    bad = torch.where(torch.arange(ranges.LEVELS)[:, None] == 2, math.inf, loss).flatten()
    draws = Draws(torch.zeros(len(bad), 2), torch.zeros(len(bad)), bad, torch.zeros(len(bad)))
    value = over_levels(draws, ranges.LEVELS)
    assert value.item() == pytest.approx(0.5)
    (gradient,) = torch.autograd.grad(value, loss)
    assert gradient.isfinite().all()
    assert (gradient[2] == 0).all()
    assert over_levels(draws._replace(loss=torch.full_like(bad, math.inf)), ranges.LEVELS).isnan()


def test_both_wells_of_a_flow_in_parts_have_their_weights_at_every_temperature():
    target, flow = Hinge(), hinge_flow_of()
    history = anneal(flow, target, hot=4.0, steps=900, progress=False)
    assert history.rounds[-1].temperature == 1.0
    assert history.energy == 0
    for temperature in TEMPERATURES:
        near, far = target.masses(temperature)
        x, log_w, ess, log_z, error = weighed(flow, target, temperature, 50_000)
        assert ess > 0.85
        assert log_z == pytest.approx(math.log(near + far), abs=SIGMAS * error)
        w, beyond = log_w.softmax(0), (x[:, 1].abs() > math.pi / 2).double()
        right = far / (near + far)
        error = float((w * (beyond - right)).square().sum().sqrt())
        assert float(w @ beyond) == pytest.approx(right, abs=SIGMAS * error)


@pytest.mark.parametrize("rounds_before", [1, 4])
@pytest.mark.parametrize(
    ("build", "target", "steps"),
    [(flow_of, DoubleWell, 100), (hinge_flow_of, Hinge, 300)],
)
def test_a_run_killed_in_a_round_resumes_to_the_same_bits(build, target, steps, rounds_before, tmp_path, monkeypatch):
    whole = build()
    complete = anneal(whole, target(), hot=4.0, steps=steps, progress=False)

    class Stop(Exception):
        pass

    def stopping(self, log_w, potential):
        if len(self.history.rounds) == rounds_before:
            raise Stop
        return original(self, log_w, potential)

    path, original = tmp_path / "training.pt", RangeRounds.descend
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)
    monkeypatch.setattr(RangeRounds, "descend", stopping)
    with pytest.raises(Stop):
        anneal(build(), target(), hot=4.0, steps=steps, checkpoint=path, progress=False)
    monkeypatch.setattr(RangeRounds, "descend", original)
    resumed = build(seed=7)
    history = anneal(resumed, target(), hot=4.0, steps=steps, checkpoint=path, progress=False)
    assert torch.equal(weights(resumed), weights(whole))
    assert history.evaluations == complete.evaluations


@pytest.mark.parametrize("part", ["marginal", "rest"])
def test_forces_move_the_rest_alone_and_weights_the_torsions_alone(part, monkeypatch):
    def stays(self, autosave):
        before.append([weights(self.flow.marginal), rest(self.flow)])
        log_w = original(self, autosave)
        after.append([weights(self.flow.marginal), rest(self.flow)])
        return log_w

    def rest(flow):
        layers = flow.bijection.bijections[1:]
        return torch.cat([p.detach().flatten() for layer in layers for p in layer.parameters()])

    before, after, original = [], [], PartedRangeRounds.round
    monkeypatch.setattr(PartedRangeRounds, "round", stays)
    monkeypatch.setattr(parted_ranges, "WHOLE_RATE", 0.0)
    for rate in ("MARGINAL_RATE", "COLD_MARGINAL_RATE") if part == "marginal" else ("REST_RATE",):
        monkeypatch.setattr(parted_ranges, rate, 0.0)
    anneal(hinge_flow_of(), Hinge(), hot=4.0, steps=100, progress=False)
    same = [torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True)]
    assert same == ([True, False] if part == "marginal" else [False, True])


def test_rounds_suit_the_flow():
    flows = [flow_of(), hinge_flow_of(), parted_flow_of(), coupling_flow(2)]
    suitable = [annealing._chosen("auto", flow) for flow in flows]
    assert suitable == [RangeRounds, PartedRangeRounds, parted.PartedRounds, rounds.Rounds]
    with pytest.raises(InputError, match="auto, parted, reweighting for a flow for every temperature; got 'transport'"):
        anneal(flow_of(), DoubleWell(), method="transport", steps=10, progress=False)


def test_data_of_one_temperature_and_other_contexts_are_refused():
    with pytest.raises(InputError, match="data must be None for a flow for every temperature"):
        anneal(flow_of(), DoubleWell(), data=torch.zeros(20, 2), steps=10, progress=False)
    with pytest.raises(InputError, match=r"no context, or that of a temperature; got one of size 1: .* temperature=T"):
        anneal(coupling_flow(2, context=1), DoubleWell(), steps=10, progress=False)
