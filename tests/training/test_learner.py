"""One gradient step: clipping, skipped steps, the running average, exact state."""

import copy
import math

import pytest
import torch

from boltzgen.errors import EnergyError, InputError
from boltzgen.flows import coupling_flow
from boltzgen.training.learner import Learner


def loss_of(flow, scale=1.0):
    x = torch.linspace(-1, 1, 20).reshape(10, 2) + 1.0
    return -scale * flow.log_prob(x).mean()


def weights(flow):
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


def test_a_step_lowers_the_loss():
    flow = coupling_flow(2)
    learner = Learner(flow)
    first = learner.step(loss_of(flow), 2e-3, decay=0.0)
    for _ in range(20):
        last = learner.step(loss_of(flow), 2e-3, decay=0.0)
    assert last < first
    assert learner.steps == 21


def test_matrices_that_learn_decay_apart_from_the_gradient_and_nothing_else_does():
    flow = coupling_flow(2, layers=2)
    learner = Learner(flow, weight_decay=0.5)
    learning = {id(p) for p in flow.bijection.steps()[0].parameters()}
    before = [p.detach().clone() for p in learner.parameters]
    learner.step(sum(0.0 * p.sum() for p in learner.parameters if id(p) in learning), 0.1, decay=0.0)
    for parameter, old in zip(learner.parameters, before, strict=True):
        factor = 0.95 if parameter.dim() > 1 and id(parameter) in learning else 1.0
        assert torch.allclose(parameter.detach(), factor * old)
    assert any(p.dim() > 1 and p.abs().max() > 0 and id(p) in learning for p in learner.parameters)
    assert any(p.dim() > 1 and p.abs().max() > 0 and id(p) not in learning for p in learner.parameters)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_counted(bad):
    flow = coupling_flow(2)
    learner = Learner(flow)
    learner.step(loss_of(flow), 1e-2, decay=0.9)
    before, state = weights(flow), str(learner.optimiser.state_dict())
    assert math.isnan(learner.step(loss_of(flow) * bad, 1e-2, decay=0.9))
    assert torch.equal(weights(flow), before)
    assert str(learner.optimiser.state_dict()) == state
    assert (learner.steps, learner.skipped) == (1, 1)


def test_an_infinite_gradient_of_a_finite_loss_is_skipped():
    flow = coupling_flow(2)
    learner = Learner(flow)
    parameter = next(flow.parameters())
    before = weights(flow)
    # d sqrt(|w|)/dw at w = 0
    loss = loss_of(flow) + (parameter - parameter.detach()).abs().sum().sqrt()
    assert math.isfinite(float(loss.detach()))
    assert math.isnan(learner.step(loss, 1e-2, decay=0.9))
    assert torch.equal(weights(flow), before)
    learner.step(loss_of(flow), 1e-2, decay=0.9)
    assert torch.isfinite(weights(flow)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_leaves_no_trace(bad):
    flow = coupling_flow(2)
    learner = Learner(flow)
    for _ in range(3):
        learner.step(loss_of(flow), 1e-2, decay=0.9)
    before, average = weights(flow), [a.clone() for a in learner.average]
    moments = copy.deepcopy(learner.optimiser.state_dict()["state"])
    norms = list(learner.norms)
    spoilt = next(flow.parameters()).register_hook(lambda g: torch.full_like(g, bad))
    loss = loss_of(flow)
    assert torch.isfinite(loss)
    assert math.isnan(learner.step(loss, 1e-2, decay=0.9))
    spoilt.remove()
    assert torch.equal(weights(flow), before)
    assert all(torch.equal(a, b) for a, b in zip(learner.average, average, strict=True))
    torch.testing.assert_close(learner.optimiser.state_dict()["state"], moments, rtol=0, atol=0)
    assert list(learner.norms) == norms
    assert (learner.steps, learner.skipped) == (3, 1)


def test_training_stops_with_advice_after_many_skipped_steps():
    flow = coupling_flow(2)
    learner = Learner(flow, patience=5)
    with pytest.raises(EnergyError, match=r"5 steps in a row .* lower the learning rate"):
        for _ in range(10):
            learner.step(loss_of(flow) * math.nan, 1e-2, decay=0.0)


def test_a_long_gradient_is_shortened_to_a_multiple_of_the_median():
    flow = coupling_flow(2)
    learner = Learner(flow, clip=1.5)
    for _ in range(30):
        learner.step(loss_of(flow), 0.0, decay=0.0)
    usual = learner.gradient_norm
    learner.step(loss_of(flow, scale=1e6), 0.0, decay=0.0)
    assert learner.gradient_norm == pytest.approx(1e6 * usual, rel=1e-3)
    clipped = math.sqrt(sum(float(p.grad.square().sum()) for p in learner.parameters))
    assert clipped == pytest.approx(1.5 * usual, rel=1e-3)


@pytest.mark.parametrize("clip", [1.5, math.inf])
def test_gradients_that_vanish_for_long_bound_none_that_follows(clip):
    flow = coupling_flow(2)
    learner = Learner(flow, clip=clip)
    for _ in range(30):
        learner.step(loss_of(flow, scale=0.0), 0.0, decay=0.0)
    learner.step(loss_of(flow), 1e-3, decay=0.0)
    assert sum(float(p.grad.square().sum()) for p in learner.parameters) == pytest.approx(learner.gradient_norm**2)
    assert learner.gradient_norm > 0
    assert torch.isfinite(weights(flow)).all()


def test_the_average_follows_and_is_used_only_within():
    flow = coupling_flow(2)
    learner = Learner(flow)
    start = weights(flow)
    learner.step(loss_of(flow), 1e-2, decay=0.9)
    end = weights(flow)
    with learner.averaged():
        assert torch.allclose(weights(flow), 0.9 * start + 0.1 * end, atol=1e-6)
    assert torch.equal(weights(flow), end)


def test_state_continues_to_the_same_bits():
    def run(stop):
        flow = coupling_flow(2, seed=3)
        learner = Learner(flow)
        for k in range(30):
            if k == stop:
                state = learner.state_dict()
                flow = coupling_flow(2, seed=4)
                learner = Learner(flow)
                learner.load_state_dict(state)
            learner.step(loss_of(flow), 1e-2, decay=0.9)
        learner.keep_average()
        return weights(flow)

    assert torch.equal(run(stop=None), run(stop=17))


def test_a_loss_that_nothing_can_be_learned_from_is_refused_at_once():
    flow = coupling_flow(2)
    learner = Learner(flow)
    learner.step(loss_of(flow), 1e-3, decay=0.0)
    x, _ = flow.sample(5)
    with pytest.raises(InputError, match=r"must depend on the parameters of the flow.*use rsample or log_prob"):
        learner.step(x.square().mean(), 1e-3, decay=0.0)
    with pytest.raises(InputError, match=r"one number, a tensor of shape \(\); got \(5,\): take its mean"):
        learner.step(flow.log_prob(x), 1e-3, decay=0.0)
    with pytest.raises(InputError, match=r"one number, a tensor of shape \(\); got float"):
        learner.step(1.0, 1e-3, decay=0.0)
    assert (learner.steps, learner.skipped) == (1, 0)
