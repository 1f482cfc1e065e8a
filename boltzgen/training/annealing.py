"""From a hot temperature, where no well is lost, to the one wanted, by the flow's own weighted draws."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..arguments import counts, instances, positive_numbers
from ..autosave import Autosave
from ..energies.energy import Energy
from ..errors import InputError
from ..flows.flow import Flow
from ..processes import ranks
from ..progress import show
from ..units import positive_temperature
from .budget import Budget
from .compilation import Compile, compiled
from .continuous import ContinuousRounds
from .history import History
from .parted import PartedRounds, has_parts
from .parted_ranges import PartedRangeRounds
from .ranges import RangeRounds
from .rounds import BATCH, HOT_BATCH, Rounds
from .transport import TransportRounds

__all__ = ["Method", "anneal"]

Method = Literal["auto", "parted", "reweighting", "continuous", "transport"]

_METHODS: dict[str, type[Rounds]] = {
    "parted": PartedRounds,
    "reweighting": Rounds,
    "continuous": ContinuousRounds,
    "transport": TransportRounds,
}
_OF_RANGES: dict[str, type[Rounds]] = {"parted": PartedRangeRounds, "reweighting": RangeRounds}
"""for a flow for every temperature."""

_START = 10.0
"""Temperature to start from, in units of the one wanted."""
_COMPILATION_PAYS_AFTER = (20.0, 15_000)  # minutes, steps: compiling and its trial take about four minutes
_TRIAL_SHARE, _TRIAL_SECONDS = 0.15, (300.0, 840.0)
"""what a trial that is waited for may take of the minutes, within bounds: processes that wait give up after fifteen."""
_BESIDE_SHARE, _BESIDE_SECONDS = 0.5, (150.0, 1800.0)
"""what a trial beside the training may take of the time left: none if that is less, and no more than that."""


def anneal(
    flow: Flow,
    target: Energy,
    *,
    method: Method = "auto",
    hot: float | None = None,
    cold: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    data: Tensor | None = None,
    learning_rate: float = 5e-3,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    fingerprint: str = "",
    compile: Compile = "auto",
    watch: Callable[[History], None] | None = None,
    progress: bool = True,
) -> History:
    """Trains a flow on an energy alone, from hot to cold; the flow is changed in place.

    1. Reverse KL at `hot`, where the barriers are low and the flow finds every well; or, with data, forward KL on them
       at `cold`: the flow then knows the wells that the data know.
    2. Rounds down to `cold`, by one of the methods below. A flow that does not get there stays above, but not for ever:
       from a tenth of the budget on, four tenths for a range in parts, it goes down all the same.
    3. Rounds at `cold` until the budget is spent, while the learning rate falls. A flow that falls apart there is taken
       back to its best round, and learns half as fast from then on.

    The methods:

    * "parted", for a flow in two parts (`flow.marginal` as `molecular_flow` makes it), q(x) = q(x_A) q(x_B | x_A). The
      law of x_B given the torsions x_A learns along the forces, from fresh draws by the path gradients of reverse and
      forward KL (`alpha_divergence`), which are all but free of noise near the target; but forces do not tell what a
      well as a whole weighs. The law of the torsions learns just that, by the weights of the
      draws (`forward_kl`). A quarter of the draws takes its torsions from their law after the first stage, so that no
      well once found is lost for being rare. At `cold` that law learns from the draws of the last 64 rounds, whose
      weights stay right whatever becomes of the flow, and the whole flow learns by the weights too.
    * "reweighting": the flow learns as a whole from a buffer of its draws, weighted to the next temperature: without a
      gradient of the energy, and without the forces that would empty what lies between the wells (TA-BG, Schopmans &
      Friederich 2025).
    * "transport": as before, but weighted to the law nearest to the target at `cold` within a trust region and a bound
      on the fall of the entropy; no temperatures between (constrained mass transport, von Klitzing et al. 2025).
    * "continuous": reverse KL on fresh draws, while the temperature falls along a geometric path: by forces alone, so
      that wells keep the weights they had where they parted (compared in Schopmans & Friederich 2025).
    * "auto": "parted" for a flow that has parts, "reweighting" for any other.

    The next temperature of "parted" and "reweighting" is the lowest at which the draws of a round keep an effective
    sample fraction of 0.45 (Del Moral, Doucet, Jasra 2012).

    A flow for every temperature (`flow.at`) ends as one for the whole range from `cold` to `hot`: the draws of each of
    its rounds come from eight temperatures between the present one and `hot`, in equal numbers, and it learns at all of
    them. `draw(flow.at(T), target.at(T), n)` weighs its draws at any T.

    Within `distributed()` the processes share the rows of every batch and buffer; the result is that of one process, up
    to the order of sums, and may be taken up by any number of them.

    Weights w of "parted" and "reweighting" whose effective sample fraction is lower count as w^β, with the highest
    β ≤ 1 that lifts it to 0.45: a trust region, since q^(1−β) p^β is as far as the draws of q can tell. The flow ends
    with the running average of its parameters. Like the softening of losses, this never touches an estimate.

    Arguments:
        flow: the flow; for molecules one made by `molecular_flow` with scales of the hot temperature.
        target: the energy; `target.at(T)` is the same potential at another temperature.
        method: "auto", "parted", "reweighting", "continuous" or "transport".
        hot: temperature to start from, K; ten times the cold one if None, for molecules pass four times it. Wells that
            barriers part even there get lost.
        cold: temperature to reach, K; the target's own if None.
        steps: budget in gradient steps, a round once begun being finished: the result is then a function of the
            arguments alone; or
        minutes: budget in wall-clock minutes, compilation included.
        data: configurations (m, *event) sampled at `cold` by other means, such as molecular dynamics. They need not
            be converged: they only start the flow, and the rounds put the weights of the wells right. Not for
            "continuous", whose forces would empty the rarer wells.
        learning_rate: highest of the first stage; the rounds use shares of it.
        seed: of all noise.
        checkpoint: a file written every minute, at the end, and before an interruption; if it exists, training goes
            on from it, from the beginning of the round that was interrupted. See `Autosave` for signals and full disks.
        fingerprint: of what is trained, kept in the checkpoint and compared.
        compile: "auto", "always" or "never"; see `compiled`. In a budget of minutes the trial of "auto" goes on beside
            the first steps, which are eager; a budget of steps, and several processes, wait for it.
        watch: called with the record so far, once the checkpoint is taken up and after every step.
        progress: whether to show progress on standard error.

    Returns:
        The record of the training, rounds and ledger included.

    Raises:
        EnergyError: if 100 steps in a row are not finite, or no draw of a round can be evaluated.
        RankError: if one of several processes was lost; the checkpoint is written before.
        CheckpointError: if the checkpoint is damaged or another run's.

    References:
        Schopmans & Friederich (2025), "Temperature-annealed Boltzmann generators".
        von Klitzing, Blessing, Schopmans, Friederich, Neumann (2025), "Learning Boltzmann generators via constrained
        mass transport".
        Del Moral, Doucet, Jasra (2012), "An adaptive sequential Monte Carlo method for approximate Bayesian
        computation".
    """
    instances(flow=(flow, Flow), target=(target, Energy))
    (learning_rate,), (seed,) = positive_numbers(learning_rate=learning_rate), counts(seed=seed)
    cold = target.temperature if cold is None else positive_temperature(cold)
    hot = _START * cold if hot is None else positive_temperature(hot)
    if hot < cold:
        raise InputError(f"hot must not be below cold; got hot={hot:g}, cold={cold:g}: pass hot=10 * cold")
    if flow.event_shape != target.event_shape:
        raise InputError(
            f"flow and target must have the same event shape; got {tuple(flow.event_shape)} and "
            f"{tuple(target.event_shape)}: build the flow for this target"
        )
    if flow.context_size and flow.temperature is None:
        raise InputError(
            f"flow must need no context, or that of a temperature; got one of size {flow.context_size}: anneal "
            "flow.given(context), or build it with temperature=T"
        )
    course = _chosen(method, flow)
    if data is not None:
        if flow.temperature is not None:
            raise InputError(
                "data must be None for a flow for every temperature, which starts at the hot one; got some: leave them "
                "out, or fit it to data of several temperatures with forward_kl(flow, x, context=...)"
            )
        if course is ContinuousRounds:
            raise InputError(
                'data must start a method that learns by weights; got method="continuous", whose forces empty the '
                'rarer wells of the data: use method="reweighting" or "transport"'
            )
        data, hot = _admitted(data, flow), cold
    Budget(steps=steps, minutes=minutes)  # refuses a wrong budget before any work
    annealing = course(flow, target, hot, cold, data, learning_rate, seed, fingerprint)
    annealing.resume(checkpoint, steps=steps, minutes=minutes)
    if watch is not None:
        annealing.watch = watch
        watch(annealing.history)
    meanwhile = minutes is not None and ranks().size == 1
    if not annealing.finished:
        with (
            show("training", visible=progress) as annealing.show,
            compiled(
                flow,
                target,
                rows=(_share(HOT_BATCH), _share(BATCH)),
                compile=compile,
                patience=_patience(annealing.budget, meanwhile),
                meanwhile=meanwhile,
                also=annealing.flows[1:],
                say=lambda message: annealing.show(annealing.budget.fraction, message),
            ) as annealing.compilation,
            Autosave(checkpoint, annealing.state_dict, fingerprint=annealing.fingerprint) as autosave,
        ):
            annealing.run(autosave)
    annealing.learner.keep_average()
    return annealing.history


def _chosen(method: str, flow: Flow) -> type[Rounds]:
    """The rounds of a method, refused where the flow has not the parts they need."""
    names = ["auto", *_METHODS]
    if method not in names:
        raise InputError(f"method must be one of {', '.join(names)}; got {method!r}: choose one")
    if method == "auto":
        method = "parted" if has_parts(flow) else "reweighting"
    if method == "parted" and not has_parts(flow):
        raise InputError(
            'a flow trained by method="parted" must have a marginal law of couplings or autoregressive layers, a rest, '
            'and a base that does not learn; got one without: use molecular_flow, or method="reweighting"'
        )
    if flow.temperature is None:
        return _METHODS[method]
    if method not in _OF_RANGES:
        raise InputError(
            f"method must be one of auto, {', '.join(_OF_RANGES)} for a flow for every temperature; got {method!r}: "
            "choose one, or train a flow for one temperature"
        )
    return _OF_RANGES[method]


def _patience(budget: Budget, meanwhile: bool) -> float:
    """Seconds that a trial of compiled code may take, 0 if the run is too short for it."""
    seconds = budget.total_seconds or 0.0
    if seconds < 60 * _COMPILATION_PAYS_AFTER[0] and (budget.steps or 0) < _COMPILATION_PAYS_AFTER[1]:
        return 0.0
    if meanwhile:
        patience, (least, most) = _BESIDE_SHARE * (seconds - budget.seconds), _BESIDE_SECONDS
        return min(patience, most) if patience >= least else 0.0
    shortest, longest = _TRIAL_SECONDS
    return min(max(shortest, _TRIAL_SHARE * seconds), longest)


def _share(batch: int) -> int:
    """How many of the rows of a batch are this process's."""
    return len(range(batch)[ranks().share(batch)])


def _admitted(data: Tensor, flow: Flow) -> Tensor:
    """The data in the flow's precision, refused unless they are finite and of its shape."""
    data = torch.as_tensor(data)
    if data.shape[1:] != flow.event_shape or not len(data) or not torch.isfinite(data).all():
        raise InputError(
            f"data must be finite configurations of shape (m, {', '.join(map(str, flow.event_shape))}); "
            f"got {tuple(data.shape)}, {int((~torch.isfinite(data)).sum())} of the numbers not finite: "
            "bring frames of a molecule into the chart with chart_data"
        )
    return data.detach().to(next(flow.parameters()))
