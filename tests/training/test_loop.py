"""The loop: it learns, repeats, resumes to the same bits, and leaves the world's randomness alone."""

import itertools
import math

import numpy as np
import pytest
import torch

from boltzgen.checkpoint import load_checkpoint
from boltzgen.energies.toys import Gaussian
from boltzgen.errors import CheckpointError, EnergyError, InputError
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
