"""Annealed draws that are kept: their weights, their gradient, their memory, against closed forms on a Gaussian."""

import math

import numpy as np
import pytest
import torch
from test_gradients import exact_gradient, gradient_of, order, shifted_flow
from test_objectives import Gaussian, Wall, gaussian_flow

from boltzgen.energies import toys
from boltzgen.errors import CheckpointError, InputError
from boltzgen.flows import coupling_flow
from boltzgen.training import AnnealedReplay, forward_kl, train

SIGMAS = 5.0


def seeded(objective, flow, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return objective(flow)


def test_weights_are_those_of_the_path():
    """E[W] = ∫ p²/q for q = N(0, e^2s) and p = exp(−x²/2): the weights where draws arrive are not yet that."""
    s, replay = 0.2, AnnealedReplay(Gaussian(), 20_000, stages=2, leapfrog=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x, log_w, log_q = replay._annealed(gaussian_flow(s))
    spread = math.exp(2 * s)
    exact = 2 * math.pi * math.exp(s) / math.sqrt(2 - 1 / spread)
    arrived = 2 * (-Gaussian().energy(x) - log_q)
    assert torch.allclose(log_q, gaussian_flow(s).log_prob(x))
    for log_weights, right in ((log_w, True), (arrived, False)):
        w = log_weights.exp()
        error = float(w.std()) / math.sqrt(len(w))
        assert (abs(float(w.mean()) - exact) < SIGMAS * error) == right
    # and what they weigh has the law g, of precision 2 − e^{-2s}
    w = log_w.softmax(0)
    second = w @ x[:, 0].square()
    error = float((w.square() @ (x[:, 0].square() - second).square()).sqrt())
    assert abs(float(second) - 1 / (2 - 1 / spread)) < SIGMAS * error
    assert abs(float(x[:, 0].square().mean()) - 1 / (2 - 1 / spread)) > SIGMAS * error


@pytest.mark.parametrize("corrected", [True, False])
def test_rows_of_an_earlier_flow_are_corrected(corrected):
    """Annealed at one flow, learnt from twice at another; without q_old/q_new it would be the gradient of neither."""
    found = []
    for seed in range(30):
        replay, flow = AnnealedReplay(Gaussian(), 1500, reuse=3), shifted_flow(0.1, 0.1)
        seeded(replay, flow, seed)
        flow = shifted_flow(0.4, 0.3)
        if not corrected:
            x, log_w, _ = replay._kept
            replay._kept = x, log_w, flow.log_prob(x).detach()
        seeded(replay, flow, 100 + seed)
        found.append(gradient_of(seeded(replay, flow, 200 + seed), flow))
    mean, error = np.mean(found, 0), np.std(found, 0) / math.sqrt(len(found))
    exact = exact_gradient(lambda m, v: 2 * order(2.0)(m, v), 0.4, 0.3)
    assert bool((np.abs(mean - exact) < SIGMAS * error + 3e-3).all()) == corrected


def test_what_was_chosen_keeps_its_new_weight():
    """g = p²/q follows the flow: w p²/q_old is invariant under w ↦ w q_old/q_new."""
    replay, flow = AnnealedReplay(Gaussian(), 50, reuse=10, memory=1), gaussian_flow(0.1)
    seeded(replay, flow, 0)
    x, log_w, log_q = replay._kept
    flow = gaussian_flow(0.3)
    seeded(replay, flow, 1)
    _, log_w_new, log_q_new = replay._kept
    chosen = log_q_new != log_q
    assert 10 < chosen.sum() < 50
    assert torch.allclose(log_q_new[chosen], flow.log_prob(x)[chosen])
    assert torch.allclose(log_w + log_q, log_w_new + log_q_new)


def test_the_memory_keeps_the_last_annealings_and_steps_in_between_evaluate_nothing():
    target, flow = Gaussian(), gaussian_flow(0.1)
    replay = AnnealedReplay(target, 10, stages=2, leapfrog=5, reuse=3, memory=2)
    seen = []
    for call in range(9):
        seeded(replay, flow, call)
        seen.append((len(replay._kept[0]), target.evaluations.total))
    assert seen == [(10, 110)] * 3 + [(20, 220)] * 3 + [(20, 330)] * 3


def test_steps_adapt_until_two_thirds_of_the_moves_are_accepted():
    """From N(0, 1) to precisions of 20 and 1: at β = 1.6 that of q w^β is 31, where leapfrog is stable below 0.36."""
    replay = AnnealedReplay(toys.Gaussian([0.0, 0.0], [[0.05, 0.0], [0.0, 1.0]]), 100, reuse=1, memory=1)
    flow = coupling_flow(2, layers=2, transform="affine", hidden=(4,))
    for call in range(30):
        seeded(replay, flow, call)
    steps = replay._step.tolist()
    assert 0.15 < steps[3] < 0.36
    assert 1.3 * steps[3] < steps[0] < 0.68  # where precision is 8.6


def test_both_wells_are_found_with_what_they_weigh():
    target = toys.DoubleWell("snf")
    flow = coupling_flow(2, layers=4, hidden=(32,))
    train(flow, AnnealedReplay(target, 128), steps=150, learning_rate=1e-2, progress=False)
    x, log_q = flow.sample(4000, seed=1)
    w = (-target.energy(x) - log_q).double().softmax(0)
    populations = w[target.in_a(x)].sum(), w[target.in_b(x)].sum()
    assert float((populations[0] / populations[1]).log()) == pytest.approx(target.free_energy_difference(), abs=0.2)
    assert 1 / w.square().sum() / len(w) > 0.7


def test_draws_that_cannot_be_evaluated_are_never_learned_from():
    replay, flow = AnnealedReplay(Wall(), 200), gaussian_flow(0.0)
    loss = seeded(replay, flow, 0)
    loss.backward()
    assert torch.isfinite(loss)
    x, log_w, _ = replay._kept
    assert (log_w.isneginf()).any()
    assert (x[log_w > -torch.inf] >= 0).all()

    class Nowhere(Gaussian):
        def _energy(self, x):
            return torch.full_like(x[:, 0], torch.inf)

    assert torch.isnan(AnnealedReplay(Nowhere(), 10)(flow))


def weights(flow):
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path, monkeypatch):
    target, options = toys.DoubleWell(), {"steps": 14, "progress": False}

    def flow_of(seed=0):
        return coupling_flow(2, layers=2, hidden=(8,), seed=seed)

    whole = flow_of()
    train(whole, AnnealedReplay(target, 32), **options)
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)

    class Stopping(AnnealedReplay):
        def __call__(self, flow):
            if self._calls == 10:  # between one annealing and the next
                raise KeyboardInterrupt
            return super().__call__(flow)

    path = tmp_path / "flow.pt"
    with pytest.raises(KeyboardInterrupt):
        train(flow_of(), Stopping(target, 32), checkpoint=path, **options)
    resumed, memory = flow_of(seed=9), AnnealedReplay(target, 32)
    train(resumed, memory, checkpoint=path, **options)
    assert torch.equal(weights(resumed), weights(whole))
    forgetful, stopping, again = flow_of(seed=9), Stopping(target, 32), AnnealedReplay(target, 32)
    with pytest.raises(KeyboardInterrupt):
        train(flow_of(), lambda q: stopping(q), checkpoint=tmp_path / "other.pt", **options)  # noqa: PLW0108
    train(forgetful, lambda q: again(q), checkpoint=tmp_path / "other.pt", **options)  # noqa: PLW0108
    assert not torch.equal(weights(forgetful), weights(whole)), "the twin without its memory must differ"


@pytest.mark.parametrize(
    "other",
    [
        lambda: AnnealedReplay(toys.DoubleWell("noe"), 32),
        lambda: AnnealedReplay(toys.DoubleWell("snf"), 16),
        lambda: AnnealedReplay(toys.DoubleWell("snf"), 32, stages=3),
    ],
)
def test_the_memory_of_another_objective_is_refused(other):
    state = AnnealedReplay(toys.DoubleWell("snf"), 32).state_dict()
    AnnealedReplay(toys.DoubleWell("snf"), 32).load_state_dict(state)
    with pytest.raises(CheckpointError, match="the memory must be that of this target"):
        other().load_state_dict(state)


def test_it_adds_up_with_other_objectives():
    flow, replay = gaussian_flow(0.1), AnnealedReplay(Gaussian(), 20)
    x = torch.ones(5, 1, dtype=torch.float64)
    assert train(flow, lambda q: 0.5 * replay(q) + forward_kl(q, x), steps=5, progress=False).skipped == 0


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="target must be an Energy; got a Flow"):
        AnnealedReplay(gaussian_flow(), 10)
    with pytest.raises(InputError, match="flow must be a Flow; got a Gaussian"):
        AnnealedReplay(Gaussian(), 10)(Gaussian())
    for name in ("stages", "leapfrog", "reuse", "memory"):
        with pytest.raises(InputError, match=f"{name} must be a positive integer"):
            AnnealedReplay(Gaussian(), 10, **{name: 0})
