"""The training loop: an objective, a schedule, a gradient step; it knows nothing of targets or data."""

from __future__ import annotations

import copy
import inspect
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import counts, instances, numbers, positive_counts, positive_numbers
from ..autosave import Autosave
from ..checkpoint import load_if_there
from ..errors import CheckpointError, InputError
from ..flows.flow import Flow
from ..flows.noise import keyed_generator
from ..processes import ranks
from ..progress import show
from .evidence import Evidence
from .history import History
from .learner import Learner

__all__ = ["cosine", "train"]


def cosine(fraction: float, *, final: float = 0.02) -> float:
    """Learning-rate factor that falls from 1 to `final` along half a cosine as `fraction` goes from 0 to 1."""
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))


def train(
    flow: Flow,
    objective: Callable[[Flow], Tensor] | Callable[[Flow, float], Tensor],
    *,
    steps: int,
    learning_rate: float = 1e-3,
    warmup: int = 50,
    clip: float = 1.5,
    decay: float = 0.99,
    seed: int = 0,
    evidence: Callable[[Flow], Tensor | float] | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    fingerprint: str = "",
    progress: bool = True,
) -> History:
    """Minimises an objective over the parameters of a flow, which is changed in place.

    The learning rate rises linearly, then falls along half a cosine. The flow ends with the running average of its
    weights. Steps that are not finite are skipped and counted.

    A falling loss is no progress where it is blind: that of `reverse_kl` falls while a well is lost. With `evidence`
    the flow is measured every 100 steps, and it ends with the weights for which that was highest.

    Randomness: step k sees torch's default generator in a state set by (seed, k) and nothing else, and the generator
    is put back afterwards. So any objective that draws its noise the usual way repeats, also after an interruption.
    Every look at the evidence sees the same noise. An objective with a memory, such as `AnnealedReplay`, is an object
    with `state_dict` and `load_state_dict`, which are kept in the checkpoint too.

    Arguments:
        flow: the flow.
        objective: maps the flow to a scalar, e.g. `lambda q: reverse_kl(q, target, 512)`; terms add up with + and *.
            One that cannot do without a second argument is given the share of the steps that is behind, from 0 to 1,
            for a schedule: `lambda q, spent: (1 - spent) * forward_kl(q, x) + spent * reverse_kl(q, target, 512)`.
            Taken up again with more steps, a run is not as far on.
        steps: gradient steps.
        learning_rate: its highest value.
        warmup: steps of the linear rise.
        clip: a gradient longer than this times the median of the last 200 is shortened to it; math.inf for none.
        decay: of the running average of the weights, 0 for no averaging.
        seed: of the noise.
        evidence: maps the flow, with the running average of its weights, to one number, the higher the better, e.g.
            `lambda q: q.log_prob(held_out).mean()` on data that the objective does not see. What is not a number, or
            infinite, is never the best; another one cannot be compared with that of a run taken up again.
        patience: steps without a higher evidence after which training ends; all steps are taken if None.
        checkpoint: a file written every minute, at the end, and before an interruption; if it exists, training goes
            on from it, up to the number of steps given now. See `Autosave` for signals and full disks.
        fingerprint: of the objective, kept in the checkpoint and compared: a function cannot tell what it computes.
            Flow, seed and schedule are compared in any case, but not the number of steps, nor evidence and patience.
        progress: whether to show progress on standard error.

    Returns:
        The record of the training.

    Raises:
        EnergyError: if 100 steps in a row are not finite.
        RankError: if one of several processes was lost; the checkpoint is written before.
        InputError: if an argument is out of range, or the objective gives no scalar with a gradient.
        CheckpointError: if the checkpoint is damaged or another run's.
    """
    instances(flow=(flow, Flow))
    if not callable(objective):
        raise InputError(
            f"objective must be a function of the flow; got {type(objective).__name__}: pass e.g. "
            "lambda q: reverse_kl(q, target, 512)"
        )
    (steps,) = positive_counts(steps=steps)
    warmup, seed = counts(warmup=warmup, seed=seed)
    (learning_rate,) = positive_numbers(learning_rate=learning_rate)
    clip, decay = numbers(clip=clip, decay=decay)
    if not clip > 0:
        raise InputError(f"clip must be positive; got {clip!r}: pass e.g. 1.5, or math.inf to shorten no gradient")
    if not 0 <= decay < 1:
        raise InputError(f"decay must be 0 or more and below 1; got {decay!r}: pass e.g. 0.99")
    told = _told(objective)
    remembers = hasattr(objective, "state_dict") and hasattr(objective, "load_state_dict")
    learner, history = Learner(flow, clip=clip), History()
    watch = Evidence(learner, evidence, patience)
    fingerprint += f" train {learning_rate!r} {warmup!r} {clip!r} {decay!r} {seed!r} {flow.architecture}"
    done = 0
    saved = None if checkpoint is None else ranks().first(partial(load_if_there, checkpoint, fingerprint=fingerprint))
    if saved is not None:
        if (saved.get("objective") is not None) != remembers:
            raise CheckpointError(
                f"{checkpoint} must be of a training by the same objective; got one "
                f"{'without' if remembers else 'with'} a memory for one {'with' if remembers else 'without'}: pass the "
                "same objective, or another file"
            )
        if remembers:
            objective.load_state_dict(saved["objective"])  # type: ignore[union-attr]
        learner.load_state_dict(saved["learner"])
        history, done = History.from_state(saved["history"]), saved["done"]
        watch.kept = saved.get("kept")
    watch.looks = history.evidence

    def memory() -> Any:
        kept = remembers and checkpoint is not None
        return copy.deepcopy(objective.state_dict()) if kept else None  # type: ignore[union-attr]

    remembered = memory()  # after the last whole step, whatever the next has begun

    def state() -> dict[str, Any]:
        parts = {"learner": learner.state_dict(), "history": history.state_dict(), "done": done}
        return parts | {"kept": watch.kept, "objective": remembered}

    def look() -> None:
        if watch.due(done, steps):
            with _noise(flow, seed):
                watch.look(done)

    begin, before = time.monotonic(), history.seconds
    with show("training", visible=progress) as bar, Autosave(checkpoint, state, fingerprint=fingerprint) as autosave:
        look()  # if that was interrupted
        while done < steps and not watch.over():
            with _noise(flow, seed, done):
                loss = objective(flow, *([done / steps] if told else []))
            rate = learning_rate * min(1.0, (done + 1) / max(warmup, 1)) * cosine(done / steps)
            # an average over the first steps must not remember the initial weights
            history.losses.append(learner.step(loss, rate, decay=min(decay, (done + 1) / (done + 10))))
            done += 1
            remembered = memory()
            look()
            history.skipped, history.seconds = learner.skipped, before + time.monotonic() - begin
            skipped = f", {learner.skipped} skipped" if learner.skipped else ""
            bar(done / steps, f"loss {history.losses[-1]:.4g}{skipped}", count=done)
            autosave()
        autosave.finish()
    if evidence is not None and watch.kept is not None:
        learner.keep(watch.kept)
    elif decay > 0:
        learner.keep_average()
    return history


def _told(objective: Callable[..., Tensor]) -> bool:
    """Whether an objective is told what share of the steps is behind: if it cannot do without."""
    if inspect.isclass(objective):
        raise InputError(
            f"objective must be a function of the flow; got the class {objective.__name__}: pass an object of it, "
            f"{objective.__name__}(...)"
        )
    try:
        signature = inspect.signature(objective.forward if isinstance(objective, nn.Module) else objective)
    except (TypeError, ValueError):  # code without one
        return False

    def takes(n: int) -> bool:
        try:
            signature.bind(*[None] * n)
        except TypeError:
            return False
        return True

    if not takes(1) and not takes(2):
        raise InputError(
            "objective must be a function of the flow, or of the flow and the share of the steps that is behind; got "
            f"one of {signature}: pass e.g. lambda q, spent: (1 - spent) * forward_kl(q, x) + spent * other(q)"
        )
    return not takes(1)


@contextmanager
def _noise(flow: Flow, *key: int) -> Iterator[None]:
    """Sets torch's default generators, of the flow's device too, from a key for the time of a block."""
    source = keyed_generator(*key)
    devices = {parameter.device.index for parameter in flow.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(list(devices)):
        torch.set_rng_state(source.get_state())
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(source.initial_seed())
        yield
