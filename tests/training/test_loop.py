"""The loop: it learns, repeats, resumes to the same bits, and leaves the world's randomness alone."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from boltzgen.checkpoint import load_checkpoint
from boltzgen.energies.toys import Gaussian
from boltzgen.errors import CheckpointError, EnergyError, InputError, RankError
from boltzgen.flows import coupling_flow
from boltzgen.training.loop import cosine, train
from boltzgen.training.objectives import forward_kl, reverse_kl

TARGET = Gaussian(torch.tensor([1.0, -1.0]), torch.tensor([[1.0, 0.6], [0.6, 2.0]]))


def flow_of(seed=0):
    return coupling_flow(2, layers=4, transform="affine", hidden=(32,), seed=seed)


def objective(flow):
    return reverse_kl(flow, TARGET, 256)


def weights(flow):
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


def test_reverse_kl_reaches_the_log_partition_function():
    flow = flow_of()
    history = train(flow, objective, steps=600, learning_rate=5e-3, progress=False)
    bound = -float(reverse_kl(flow, TARGET, 4096, generator=torch.Generator().manual_seed(1)).detach())
    assert bound == pytest.approx(TARGET.log_partition(), abs=0.02)
    assert len(history.losses) == 600
    assert history.skipped == 0


def test_the_result_depends_on_the_seed_only_and_global_randomness_is_untouched():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = flow_of(), flow_of(), flow_of()
    train(first, objective, steps=10, seed=1, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    train(again, objective, steps=10, seed=1, progress=False)
    train(other, objective, steps=10, seed=2, progress=False)
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, monkeypatch):
    whole = flow_of()
    train(whole, objective, steps=40, progress=False)
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)

    class Stop(Exception):
        pass

    def stopping(flow, calls=[0]):  # noqa: B006
        calls[0] += 1
        if calls[0] == 23:
            raise Stop
        return objective(flow)

    path = tmp_path / "flow.pt"
    with pytest.raises(Stop):
        train(flow_of(), stopping, steps=40, checkpoint=path, progress=False)
    resumed = flow_of(seed=9)
    history = train(resumed, objective, steps=40, checkpoint=path, progress=False)
    assert torch.equal(weights(resumed), weights(whole))
    assert len(history.losses) == 40


def test_a_finished_run_goes_on_when_given_more_steps(tmp_path):
    path = tmp_path / "flow.pt"
    train(flow_of(), objective, steps=10, checkpoint=path, progress=False)
    longer = flow_of(seed=9)
    history = train(longer, objective, steps=15, checkpoint=path, progress=False)
    assert len(history.losses) == 15
    again = flow_of(seed=9)
    assert len(train(again, objective, steps=15, checkpoint=path, progress=False).losses) == 15
    assert torch.equal(weights(again), weights(longer))


@pytest.mark.parametrize(
    "other",
    [{"learning_rate": 2e-3}, {"warmup": 10}, {"clip": 3.0}, {"decay": 0.9}, {"seed": 1}, {"fingerprint": "another"}],
)
def test_the_checkpoint_of_another_run_is_refused(other, tmp_path):
    path = tmp_path / "flow.pt"
    train(flow_of(), objective, steps=3, checkpoint=path, progress=False)
    with pytest.raises(CheckpointError, match="another"):
        train(flow_of(), objective, steps=3, checkpoint=path, progress=False, **other)


def test_the_checkpoint_of_a_flow_of_other_structure_is_refused(tmp_path):
    path = tmp_path / "flow.pt"
    train(coupling_flow(2, layers=2, hidden=(32, 8)), objective, steps=3, checkpoint=path, progress=False)
    with pytest.raises(CheckpointError, match="another"):
        train(coupling_flow(2, layers=2, hidden=(8, 32)), objective, steps=3, checkpoint=path, progress=False)


def test_a_target_that_is_never_finite_ends_with_advice():
    with pytest.raises(EnergyError, match="100 steps in a row"):
        train(flow_of(), lambda q: reverse_kl(q, TARGET, 8) * float("nan"), steps=1000, progress=False)


def test_skipped_steps_are_counted_and_seen_in_the_record():
    calls = itertools.count()
    history = train(
        flow_of(), lambda q: objective(q) * (torch.nan if next(calls) % 3 == 0 else 1.0), steps=30, progress=False
    )
    assert history.skipped == 10
    assert [k for k, loss in enumerate(history.losses) if math.isnan(loss)] == list(range(0, 30, 3))


def test_data_can_be_learned():
    x = TARGET.sample(2000, seed=1).float()
    flow = flow_of()
    train(flow, lambda q: forward_kl(q, x), steps=400, learning_rate=5e-3, progress=False)
    entropy = -float(flow.log_prob(TARGET.sample(4000, seed=2).float()).detach().mean())
    exact = float(TARGET.energy(TARGET.sample(4000, seed=2)).mean()) + TARGET.log_partition()
    assert entropy == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 2.5},
        *({"steps": 5, "learning_rate": rate} for rate in (-1.0, "1e-3", math.nan)),
        *({"steps": 5, "warmup": warmup} for warmup in (-1, 0.5)),
        *({"steps": 5, "clip": clip} for clip in (0.0, -1.0, None)),
        *({"steps": 5, "decay": decay} for decay in (1.0, -0.1, math.nan, None)),
        {"steps": 5, "seed": -1},
    ],
)
def test_wrong_arguments_are_refused_before_work(wrong):
    with pytest.raises(InputError, match="must be"):
        train(flow_of(), objective, **wrong)


def test_nothing_to_train_and_nothing_to_minimise_are_refused():
    with pytest.raises(InputError, match="flow must have parameters to train; got none"):
        train(flow_of().requires_grad_(False), objective, steps=5)
    with pytest.raises(InputError, match="objective must be a function of the flow; got Tensor"):
        train(flow_of(), torch.zeros(()), steps=5)


def test_the_schedule_falls_from_one_to_its_final_value():
    assert cosine(0.0) == 1.0
    assert cosine(1.0, final=0.1) == pytest.approx(0.1)
    assert cosine(0.3) > cosine(0.6) > cosine(2.0) == cosine(1.0)


def test_numbers_of_numpy_give_the_checkpoint_of_those_of_python(tmp_path):
    path, flow = tmp_path / "training.pt", flow_of()
    options = {"learning_rate": np.float64(1e-3), "clip": np.float64(1.5), "decay": np.float64(0.5)}
    counted = {"warmup": np.int64(2), "seed": np.int64(1)}
    train(flow, objective, steps=np.int64(3), checkpoint=path, progress=False, **options, **counted)
    load_checkpoint(path)
    plain = {"learning_rate": 1e-3, "clip": 1.5, "decay": 0.5, "warmup": 2, "seed": 1}
    again = flow_of()
    train(again, objective, steps=3, checkpoint=path, progress=False, **plain)
    assert torch.equal(weights(again), weights(flow))


def test_an_infinite_clip_shortens_no_gradient():
    assert len(train(flow_of(), objective, steps=3, clip=math.inf, progress=False).losses) == 3


class Told:
    """An objective of the flow and the share of the steps that is behind, as an object."""

    def __init__(self):
        self.shares = []

    def __call__(self, flow, spent):
        self.shares.append(spent)
        return objective(flow)


class ToldModule(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.shares = []

    def forward(self, flow, spent):
        return Told.__call__(self, flow, spent)


def told_by(wrap):
    told = Told()
    train(flow_of(), wrap(told), steps=4, progress=False)
    return told.shares


@pytest.mark.parametrize(
    "wrap",
    [
        lambda told: told,
        lambda told: told.__call__,
        lambda told: lambda q, spent: 1.0 * told(q, spent),
        lambda told: lambda q, spent, n=3: told(q, spent),
        lambda told: partial(lambda n, q, spent: told(q, spent), 3),
        lambda told: partial(lambda q, spent, n: told(q, spent), n=3),
        lambda told: lambda q, share, /, *, n=3: told(q, share),
    ],
)
def test_an_objective_that_needs_it_is_told_what_share_of_the_steps_is_behind(wrap):
    assert told_by(wrap) == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda told: lambda q: told(q, "untold"),
        lambda told: lambda q, n="untold": told(q, n),
        lambda told: lambda *all: told(*all, "untold"),
        lambda told: lambda q, *, n="untold": told(q, n),
        lambda told: partial(told, spent="untold"),
        lambda told: partial(lambda n, q: told(q, n), "untold"),
    ],
)
def test_an_objective_that_can_do_without_is_not_told(wrap):
    assert told_by(wrap) == ["untold"] * 4


def test_a_module_is_told_if_its_forward_needs_it():
    module = ToldModule()
    train(flow_of(), module, steps=2, progress=False)
    assert module.shares == [0.0, 0.5]


@pytest.mark.parametrize("wrong", [lambda: None, lambda q, x, spent: None, lambda q, *, spent: None])
def test_an_objective_that_cannot_be_called_is_refused(wrong):
    with pytest.raises(InputError, match="objective must be a function of the flow, or of the flow and the share"):
        train(flow_of(), wrong, steps=5)


def test_a_schedule_leads_from_data_to_energies():
    """Data of another law at first, the target at last."""
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) - 3
    flow, terms = flow_of(), []

    def mixed(q, spent):
        terms.append(spent)
        share = min(1.0, 2 * spent)
        return (1 - share) * forward_kl(q, x) + share * reverse_kl(q, TARGET, round(64 + 192 * spent))

    train(flow, mixed, steps=400, learning_rate=1e-2, progress=False)
    bound = -float(reverse_kl(flow, TARGET, 4096, generator=torch.Generator().manual_seed(1)).detach())
    assert bound == pytest.approx(TARGET.log_partition(), abs=0.1)
    assert terms[::100] == [0.0, 0.25, 0.5, 0.75]


class Remembering:
    """An objective whose weight grows with every call, by what it remembers, and changes in place."""

    def __init__(self):
        self.calls = torch.zeros(())

    def __call__(self, flow):
        self.calls += 1
        return objective(flow) * (1 + self.calls)

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def test_the_memory_of_an_objective_is_resumed_with_the_rest(tmp_path, monkeypatch):
    whole, plain = flow_of(), flow_of()
    train(whole, Remembering(), steps=20, progress=False)
    monkeypatch.setattr("boltzgen.autosave._SECONDS", 0.0)

    class Stopping(Remembering):
        def __call__(self, flow):
            loss = super().__call__(flow)
            if self.calls == 13:
                raise RankError("lost")  # after which the state is saved once more, in the middle of a step
            return loss

    path = tmp_path / "flow.pt"
    with pytest.raises(RankError):
        train(flow_of(), Stopping(), steps=20, checkpoint=path, progress=False)
    resumed, memory = flow_of(seed=9), Remembering()
    train(resumed, memory, steps=20, checkpoint=path, progress=False)
    assert torch.equal(weights(resumed), weights(whole))
    assert memory.calls == 20
    assert load_checkpoint(path)["objective"]["calls"] == 20
    with pytest.raises(CheckpointError, match="got one with a memory for one without"):
        train(flow_of(seed=9), objective, steps=21, checkpoint=path, progress=False)
    hidden = Remembering()
    train(plain, lambda q: hidden(q), steps=20, checkpoint=tmp_path / "other.pt", progress=False)  # noqa: PLW0108
    assert torch.equal(weights(plain), weights(whole))
    train(flow_of(seed=9), Remembering(), steps=21, checkpoint=path, progress=False)
    assert load_checkpoint(path)["objective"]["calls"] == 21


def test_a_class_is_no_objective():
    with pytest.raises(InputError, match=r"got the class Remembering: pass an object of it, Remembering\(\.\.\.\)"):
        train(flow_of(), Remembering, steps=1, progress=False)
