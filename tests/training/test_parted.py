"""Annealing of a flow in two parts: forces move what is given the torsions, weights the torsions' own law."""

import math

import pytest
import torch

from boltzgen.checkpoint import load_checkpoint
from boltzgen.energies import Energy
from boltzgen.errors import CheckpointError
from boltzgen.flows import CircularSpline, Composition, Coupling, Flow, molecular_flow
from boltzgen.training import annealing, parted, rounds
from boltzgen.training.annealing import anneal
from boltzgen.training.parted import PartedRounds, has_parts
from boltzgen.training.parted_ranges import PartedRangeRounds

PI = math.pi


class Hinge(Energy):
    """A bond whose length follows a torsion, with a well at φ = 0 and a rarer one at π: their weights are known."""

    def __init__(self) -> None:
        super().__init__((2,))

    def _energy(self, x):
        length, phi = x.unbind(-1)
        width = 0.1 * (1.5 + phi.sin())
        return 0.5 * ((length - 0.3 * phi.cos()) / width).square() - 3.0 * (2 * phi).cos() - 2.0 * phi.cos()

    def masses(self, temperature=1.0):
        """Z of the wells around 0 and π, by quadrature over φ; over the length in closed form."""
        phi = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000 * 2 * PI - PI
        width = 0.1 * (1.5 + phi.sin()) * math.sqrt(2 * PI * temperature)
        density = width * ((3.0 * (2 * phi).cos() + 2.0 * phi.cos()) / temperature).exp() * (2 * PI / 20_000)
        near = phi.abs() < PI / 2
        return float(density[near].sum()), float(density[~near].sum())


def flow_of(seed=0, temperature=None):
    return molecular_flow(
        [False, True],
        torch.zeros(1),
        torch.full((1, 1), 0.5),
        torsion_bins=8,
        torsion_hidden=(16,),
        stiff_layers=2,
        stiff_hidden=(32, 32),
        temperature=temperature,
        seed=seed,
    )


class Chain(Hinge):
    """The same, and a second torsion that follows the first: −2 cos(ψ − φ)."""

    def __init__(self) -> None:
        super().__init__()
        self.event_shape = torch.Size([3])

    def _energy(self, x):
        return super()._energy(x[:, :2]) - 2.0 * (x[:, 2] - x[:, 1]).cos()


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def weighed(flow, n=50_000):
    x, log_q = flow.sample(n, seed=1)
    return x, (-Hinge().energy(x) - log_q).double()


def test_both_wells_end_with_their_weights():
    flow = flow_of()
    history = anneal(flow, Hinge(), steps=2500, progress=False)
    x, log_w = weighed(flow)
    n, (near, far) = len(x), Hinge().masses()
    ess = float(1 / log_w.softmax(0).square().sum()) / n
    assert ess > 0.9
    last = history.rounds[-1].kl
    assert 0 < last < 0.2
    assert last < 0.2 * max(r.kl for r in history.rounds)
    error = math.sqrt((1 / ess - 1) / n)
    assert float(log_w.logsumexp(0)) - math.log(n) == pytest.approx(math.log(near + far), abs=4 * error)
    w, beyond = log_w.softmax(0), x[:, 1].abs() > PI / 2
    right = far / (near + far)
    error = float((w * (beyond.double() - right)).square().sum().sqrt())
    assert float(w[beyond].sum()) == pytest.approx(right, abs=4 * error)
    heavier = (log_w + 0.2 * beyond).softmax(0)
    assert float(heavier[beyond].sum()) != pytest.approx(right, abs=4 * error), "a fifth more is told apart"
    share = float((x[:, 1].abs() > PI / 2).double().mean())
    assert 0.8 * far / (near + far) < share < 4 * far / (near + far), (
        "of the draws themselves; the first stage had half"
    )
    temperatures = [r.temperature for r in history.rounds]
    assert temperatures[0] == 10.0
    assert temperatures[-1] == 1.0
    assert temperatures == sorted(temperatures, reverse=True)


def test_the_ledger_counts_every_draw_once():
    history = anneal(flow_of(), Hinge(), steps=800, progress=False)
    hot = math.ceil(rounds.HOT_SHARE * 800)
    drawn = sum(r.rows for r in history.rounds)
    assert drawn == parted.DRAWS * parted.STEPS * len(history.rounds)
    assert history.gradient == rounds.HOT_BATCH * hot + drawn
    assert history.energy == 0
    settled = sum(r.rows for r in history.rounds if r.temperature == 1)
    fits = (parted.PASSES * drawn + settled) // rounds.BATCH
    assert len(history.losses) == hot + parted.STEPS * len(history.rounds) + fits
    assert history.training_samples == rounds.HOT_BATCH * hot + drawn + settled


@pytest.mark.parametrize("part", ["marginal", "rest"])
def test_forces_move_the_rest_alone_and_weights_the_torsions_alone(part, monkeypatch):
    """Without the steps of one kind its part stays, bit for bit, what the first stage made it."""

    def stays(self, autosave):
        before.append(weights(self.flow.marginal))
        rest = [p for layer in self.flow.bijection.bijections[1:] for p in layer.parameters()]
        before.append(torch.cat([p.detach().flatten() for p in rest]))
        log_w = original(self, autosave)
        after.extend([weights(self.flow.marginal), torch.cat([p.detach().flatten() for p in rest])])
        return log_w

    before, after, original = [], [], PartedRounds.round
    monkeypatch.setattr(PartedRounds, "round", stays)
    monkeypatch.setattr(parted, "WHOLE_RATE", 0.0)
    if part == "marginal":
        monkeypatch.setattr(parted, "MARGINAL_RATE", 0.0)
        monkeypatch.setattr(parted, "COLD_MARGINAL_RATE", 0.0)
    else:
        monkeypatch.setattr(parted, "REST_RATE", 0.0)
    anneal(flow_of(), Hinge(), steps=150, progress=False)
    same = [torch.equal(a, b) for a, b in zip(before[:2], after[:2], strict=True)]
    assert same == ([True, False] if part == "marginal" else [False, True])


def test_matrices_decay_that_learn(monkeypatch):
    def norm(decay):
        monkeypatch.setattr(PartedRounds, "weight_decay", decay)
        flow = flow_of()
        anneal(flow, Hinge(), steps=150, progress=False)
        return sum(float(p.detach().square().sum()) for p in flow.parameters() if p.dim() > 1)

    assert PartedRounds.weight_decay == PartedRangeRounds.weight_decay == parted.WEIGHT_DECAY > 0
    assert norm(5.0) < 0.9 * norm(0.0)


@pytest.mark.parametrize("where", ["pathwise", "forward_kl"])
@pytest.mark.parametrize("rounds_before", [2, 9])
def test_a_run_killed_in_a_round_resumes_to_the_same_bits(rounds_before, where, tmp_path, monkeypatch):
    whole = flow_of()
    complete = anneal(whole, Hinge(), steps=600, progress=False)

    class Stop(Exception):
        pass

    calls, original = [], getattr(parted, where)

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) > 5:
            raise Stop
        return original(*arguments, **options)

    def watched(self, autosave):
        if len(self.history.rounds) == rounds_before:
            monkeypatch.setattr(parted, where, stopping)
        return whole_round(self, autosave)

    path = tmp_path / "training.pt"
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)
    whole_round = PartedRounds.round
    monkeypatch.setattr(PartedRounds, "round", watched)
    with pytest.raises(Stop):
        anneal(flow_of(), Hinge(), steps=600, checkpoint=path, progress=False)
    monkeypatch.setattr(PartedRounds, "round", whole_round)
    monkeypatch.setattr(parted, where, original)
    assert bool(load_checkpoint(path)["recent"]) == (rounds_before > 2), "with draws of rounds before, and without"
    resumed = flow_of(seed=7)
    history = anneal(resumed, Hinge(), steps=600, checkpoint=path, progress=False)
    assert torch.equal(weights(resumed), weights(whole))
    assert history.evaluations == complete.evaluations


def test_the_memory_is_the_marginal_law_after_the_first_stage(monkeypatch):
    laws, original = [], PartedRounds.round

    def watched(self, autosave):
        log_w = original(self, autosave)
        laws.append((weights(self.hot_marginal), weights(self.marginal)))
        return log_w

    monkeypatch.setattr(PartedRounds, "round", watched)
    anneal(flow_of(), Hinge(), steps=400, progress=False)
    assert len(laws) > 2
    assert all(torch.equal(memory, laws[0][0]) for memory, _ in laws)
    assert not torch.equal(*laws[-1])


def test_the_weights_are_those_of_the_mixture():
    """Averages over both kinds of draws, weighted, are those of the target whatever the two laws are."""
    flow, target = flow_of(), Hinge()
    course = PartedRounds(flow, target, 4.0, 1.0, None, 5e-3, 0, "")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in (course.marginal, course.hot_marginal):
            for parameter in module.parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    own = torch.arange(200_000) < 150_000
    x, log_q = (
        torch.cat(part)
        for part in zip(flow.sample(150_000, seed=1), course.hot_flow.sample(50_000, seed=2), strict=True)
    )
    log_own, _, log_mixture = course.laws(x, own)
    log_w = (-target.energy(x) - log_q + log_own - log_mixture).double()
    near, far = target.masses()
    ess = float(1 / log_w.softmax(0).square().sum())
    assert float(log_w.logsumexp(0)) - math.log(len(x)) == pytest.approx(math.log(near + far), abs=4 / math.sqrt(ess))
    wrong = (-target.energy(x) - log_q).double()[own].logsumexp(0) - math.log(len(x))
    assert abs(float(wrong) - math.log(near + far)) > 8 / math.sqrt(ess), "the test can fail"


@pytest.mark.parametrize("trusted", [rounds.STEP_ESS, 0.999])
def test_draws_of_earlier_rounds_keep_their_weights(trusted, monkeypatch):
    """Whatever became of the flow since, and however few draws of its own round counted: none is left out for that."""
    kept, original = [], PartedRounds.round

    def watched(self, autosave):
        log_w = original(self, autosave)
        kept[:] = self.recent
        return log_w

    monkeypatch.setattr(PartedRounds, "round", watched)
    monkeypatch.setattr(parted, "RECENT", 4)
    monkeypatch.setattr(parted, "STEP_ESS", trusted)
    anneal(flow_of(), Hinge(), steps=900, progress=False)
    assert len(kept) == 4
    near, far = Hinge().masses()
    right = far / (near + far)
    for phi, log_w, _ in [*kept, tuple(torch.cat(part) for part in zip(*kept, strict=True))]:
        w, beyond = log_w.softmax(0), phi[:, 0].abs() > PI / 2
        error = float((w * (beyond.double() - right)).square().sum().sqrt())
        assert float(w[beyond].sum()) == pytest.approx(right, abs=4 * error)
    assert float(beyond.double().mean()) > right + 10 * error, "without the weights it is not"
    log_z = [float(log_w.logsumexp(0)) for _, log_w, _ in kept]
    assert max(log_z) - min(log_z) < 0.1, "and weigh the same, draw for draw"


def test_torsions_learn_together():
    """Z is that of the hinge times 2π I₀(2), and ⟨cos(ψ − φ)⟩ = I₁(2)/I₀(2)."""
    flow = molecular_flow(
        [False, True, True], torch.zeros(1), torch.full((1, 1), 0.5), torsion_bins=8, torsion_hidden=(16,),
        stiff_layers=2, stiff_hidden=(32, 32),
    )  # fmt: skip
    anneal(flow, Chain(), steps=800, progress=False)
    n, two = 50_000, torch.tensor(2.0, dtype=torch.float64)
    x, log_q = flow.sample(n, seed=1)
    log_w = (-Chain().energy(x) - log_q).double()
    w = log_w.softmax(0)
    ess = float(1 / w.square().sum()) / n
    assert ess > 0.8
    log_z = math.log(sum(Hinge().masses()) * 2 * PI * torch.special.i0(two))
    error = math.sqrt((1 / ess - 1) / n)
    assert float(log_w.logsumexp(0)) - math.log(n) == pytest.approx(log_z, abs=4 * error)
    follows, known = (x[:, 2] - x[:, 1]).cos().double(), float(torch.special.i1(two) / torch.special.i0(two))
    error = float((w * (follows - known)).square().sum().sqrt())
    assert float((w * follows).sum()) == pytest.approx(known, abs=4 * error)
    assert float(follows.mean()) > known / 2, "and the draws themselves follow"


def test_a_flow_that_does_not_get_there_goes_down_all_the_same(monkeypatch):
    """From a tenth of the budget to six tenths, along the geometric path, however few the effective samples."""
    monkeypatch.setattr(PartedRounds, "next_temperature", lambda course, *weighed: max(course.cold, course.on_path()))
    spent = []

    class Noted(PartedRounds):
        def round(self, autosave):
            spent.append((self.spent, self.temperature))
            return super().round(autosave)

    monkeypatch.setitem(annealing._METHODS, "parted", Noted)
    anneal(flow_of(), Hinge(), hot=4.0, steps=800, progress=False)
    (first, last), (begin, hot), cold = PartedRounds.ladder, spent[0], [share for share, t in spent if t == 1.0]
    assert (first, last, hot) == (0.1, 0.6, 4.0)
    assert begin == pytest.approx(first, abs=0.01)
    assert 0 < len(cold) < len(spent)
    assert cold[0] == pytest.approx(last, abs=0.08), "within a round"
    halfway = min(spent, key=lambda noted: abs(noted[0] - (first + last) / 2))
    assert halfway[1] == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize(("trusted", "at_the_end"), [(0.45, True), (0.999, False)])
def test_the_noise_of_the_score_is_left_out_near_the_target_alone(monkeypatch, trusted, at_the_end):
    """Far from it the flow leaves, within a round, the law its draws came from."""
    monkeypatch.setattr(parted, "STEP_ESS", trusted)
    real, rounds_ = parted.forward_kl, []

    class Noted(PartedRounds):
        def by_weights(self, *arguments):
            rounds_.append((self.cold_start is not None, set()))
            super().by_weights(*arguments)

    def noted(*arguments, drawn_log_q=None):
        rounds_[-1][1].add(drawn_log_q is not None)
        return real(*arguments, drawn_log_q=drawn_log_q)

    monkeypatch.setattr(parted, "forward_kl", noted)
    monkeypatch.setitem(annealing._METHODS, "parted", Noted)
    anneal(flow_of(), Hinge(), hot=4.0, steps=600, progress=False)
    assert {True, False} == {settled for settled, _ in rounds_}
    assert all(quiet == {False} for settled, quiet in rounds_ if not settled)
    assert rounds_[-1] == (True, {at_the_end})


def test_the_marginal_law_needs_what_its_layers_are_given_and_no_more():
    """Of two torsions, as couplings or one layer; the first may come from the base as it is, and is part of x_A."""
    flow = molecular_flow([False, True, True], torch.zeros(1), torch.full((1, 1), 0.5))
    chain, *others = flow.bijection.steps()
    circular = [False, True, True]
    first = Coupling(3, [1], [], CircularSpline(1), circular=circular)
    second = Coupling(3, [2], [1], CircularSpline(1), circular=circular)
    for leading in ((first, second), (second,), (chain,)):
        course = PartedRounds(
            Flow(flow.base, Composition([*leading, *others]), leading=len(leading)),
            Hinge(),
            4.0,
            1.0,
            None,
            5e-3,
            0,
            "",
        )
        assert course.dims.tolist() == [1, 2]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in course.marginal.parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
            x = torch.cat([torch.full((100, 1), 0.3), 6 * torch.rand(100, 2, generator=generator) - 3], 1)
            difference = course.marginal.log_prob(x) - course.marginal.log_prob(course.alone(x[:, course.dims]))
        assert float(difference.std()) < 1e-5


def test_rows_that_cannot_be_evaluated_have_no_weight_and_end_nothing():
    course = PartedRounds(flow_of(), Hinge(), 4.0, 1.0, None, 5e-3, 0, "")
    log_p = torch.tensor([-math.inf, 0.0, 1.0], dtype=torch.float64)
    log_w = course.shared_out(log_p, torch.tensor([math.nan, 0.1, -0.1], dtype=torch.float64))
    assert log_w[0] == -math.inf
    assert log_w[1:].isfinite().all()
    log_w = torch.full((2 * rounds.BATCH,), -math.inf)
    log_w[5] = 0.0
    assert len(parted.batches(log_w, len(log_w), torch.Generator())) == 1


def test_far_from_the_target_a_right_marginal_stays():
    """However little the weights are trusted: raised to β, they are those of q once q is the target."""
    log_p, log_share = torch.zeros(100, dtype=torch.float64), torch.linspace(-8, 1, 100, dtype=torch.float64)
    assert torch.equal(PartedRounds.shared_out(log_p, log_share.clamp_min(-1)), log_share.clamp_min(-1)), "as they are"
    log_p[0] = 50.0  # one draw outweighs all: β is small
    found = PartedRounds.shared_out(log_p, log_share)
    assert found[1:] == pytest.approx(log_share[1:], abs=1e-6)
    assert found[0] < 5


def test_a_base_that_learns_is_no_matter_of_parts():
    flow = flow_of()
    flow.base.shift = torch.nn.Parameter(torch.zeros(1))
    assert not has_parts(flow)


def test_a_checkpoint_of_other_rounds_is_refused(tmp_path):
    path, flow = tmp_path / "training.pt", flow_of()
    flow.marginal.requires_grad_(False)
    anneal(flow, Hinge(), steps=50, checkpoint=path, progress=False)
    with pytest.raises(CheckpointError):
        anneal(flow_of(), Hinge(), steps=50, checkpoint=path, progress=False)


def test_data_start_the_flow_at_the_cold_temperature():
    flow = flow_of()
    generator = torch.Generator().manual_seed(0)
    phi = torch.cat([torch.randn(4000, generator=generator) * 0.3] * 2)
    phi[::2] = (phi[::2] + PI + PI) % (2 * PI) - PI  # both wells, far from their weights
    data = torch.stack([0.3 * phi.cos(), phi], -1) + 0.05 * torch.tensor([1.0, 0.0]) * torch.randn(
        len(phi), 1, generator=generator
    )
    history = anneal(flow, Hinge(), data=data, steps=2500, progress=False)
    assert {r.temperature for r in history.rounds} == {1.0}
    x, log_w = weighed(flow)
    assert float(1 / log_w.softmax(0).square().sum()) > 0.85 * len(x)


def test_what_has_no_two_parts_learns_as_a_whole():
    assert has_parts(flow_of())
    alone = molecular_flow([False, False], torch.zeros(2), torch.eye(2))
    assert not has_parts(alone)
    angles = molecular_flow([True, True], torch.zeros(0), torch.zeros(0, 0))
    assert not has_parts(angles)
    fixed = molecular_flow([False, True], torch.zeros(1), torch.ones(1, 1), stiff_layers=0)
    assert not has_parts(fixed)
    frozen = flow_of()
    frozen.marginal.requires_grad_(False)
    assert not has_parts(frozen)
