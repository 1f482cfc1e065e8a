"""Better draws from a decent flow: annealed importance sampling, or sequential Monte Carlo, in its latent space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from ..arguments import counts, instances, numbers, positive_counts
from ..energies.energy import Energy
from ..errors import EnergyError, InputError
from ..flows.flow import Flow
from ..flows.latent import Latent, Walkers
from ..flows.noise import BLOCK, keyed_generator
from ..progress import show
from .drawing import as_samples, check_draw, draw, evaluated, recorded, rows_at_once
from .samples import Samples, fresh_seed, systematic

__all__ = ["Schedule", "annealing_schedule", "refine"]

_TRIALS = 4  # trajectories per stage of the pilot, to find its step size
_ACCEPTANCE = 0.65  # aimed at by the step size
_LONGEST = 1.2  # step; leapfrog in the flow's own law is stable below 2, whatever a lucky acceptance may say
_JITTER = 0.3  # relative spread of the steps, against trajectories that close on themselves
_MOST_STAGES = 1000
_PILOT, _MOVES, _CHOICES = 1, 2, 4  # keys of the random numbers, beside those of the flow's own draws


@dataclass(frozen=True)
class Schedule:
    """How the weights are switched on: stage k samples q(x) w(x)^β_k by trajectories in the flow's latent space.

    Attributes:
        beta: 0 < β_1 < … < β_K = 1.
        step: mean leapfrog step of the trajectories at each stage; the last one, the target, only has one if there are
            `moves`, so that they are K or K − 1.
        steps: leapfrog steps of a trajectory.
        acceptance: share of the trajectories accepted in the pilot at each of these stages.
        moves: trajectories at the target itself, one after the other; those of the other stages are one each.
    """

    beta: tuple[float, ...]
    step: tuple[float, ...]
    steps: int
    acceptance: tuple[float, ...] = field(default=(), compare=False)
    moves: int = 0

    @property
    def evaluations(self) -> int:
        """Evaluations of the target per draw: where it starts, and one per leapfrog step."""
        return 1 + self.steps * (len(self.beta) - 1 + self.moves)


def refine(
    flow: Flow,
    target: Energy,
    n: int,
    *,
    seed: int | None = None,
    schedule: Schedule | None = None,
    population: int | None = None,
    resample_below: float = 0.5,
    batch_size: int = BLOCK,
    progress: bool = False,
) -> Samples:
    """n draws of a flow, moved towards the target on the way: annealed importance sampling or sequential Monte Carlo.

    Each draw starts at the flow and passes through the laws q w^β, 0 < β_1 < … < 1, by Metropolised Hamiltonian moves
    in the flow's latent space, where the target is as round as the flow could make it. Its weight is

        log W = Σ_k (β_k − β_{k−1}) log w(x_{k−1}),

    and the mean of W is an unbiased estimate of Z for any schedule, any number of moves and any flow that reaches the
    target. So the draws are weighted samples like those of `draw`, at more evaluations and a larger effective sample
    size each. What moves cannot do in so few steps is cross barriers: the populations of modes come from the weights.
    For a flow so good that its schedule has one stage and no moves, they are the draws of `draw`.

    Draw i depends on (seed, i) and the schedule only. Within `distributed()` all processes must call it: where the
    schedule has no moves they share the draws, as by `draw`.

    Arguments:
        flow: a flow on the configurations of the target, without context.
        target: any exact energy with a gradient; each leapfrog step of each draw evaluates it once.
        n: number of draws.
        seed: a non-negative integer; taken from the default generator of torch if None.
        schedule: stages and steps; `annealing_schedule(flow, target, seed=seed)` if None, from draws of its own.
        population: m draws that are resampled among each other, a power of two; None leaves each alone.
        resample_below: effective share, from 0 (never) to 1 (at every stage), below which a population is resampled.
        batch_size: draws that move at once, as for `draw`.
        progress: whether to show progress on standard error.

    Returns:
        The draws, whose log_q is −u − log W: the density is that of the whole path. A draw of weight zero has u = +inf.
        They are `independent` unless there is a population.

    Raises:
        InputError: if the target is a training aid, or flow, target, schedule and numbers do not fit.
        EnergyError: if no draw of the pilot has a finite energy.

    Example:
        >>> target = toys.Gaussian([3.0], [[0.5]])
        >>> samples = refine(coupling_flow(1), target, 1000, seed=1)  # from N(0, 1)
        >>> plain = draw(coupling_flow(1), target, 1000, seed=1)
        >>> effective_sample_size(samples.log_w) > 10 * effective_sample_size(plain.log_w)
        True

    References:
        Neal, Stat. Comput. 11, 125 (2001). Midgley et al., Flow annealed importance sampling bootstrap (2023).
        Del Moral, Doucet & Jasra, J. R. Stat. Soc. B 68, 411 (2006), for populations.
        Hoffman et al., NeuTra-lizing bad geometry in Hamiltonian Monte Carlo (2019), for the latent space.
    """
    check_draw(flow, target, n, batch_size)
    seed = fresh_seed(seed)
    _check_population(n, population, resample_below)
    if schedule is None:
        schedule = annealing_schedule(flow, target, seed=seed)
    instances(schedule=(schedule, Schedule))
    _check_schedule(schedule)
    independent = population is None and flow.base.independent
    if not schedule.step:  # nothing moves
        samples = draw(flow, target, n, seed=seed, batch_size=batch_size, progress=progress)
        return replace(samples, independent=independent)
    latent, rows = Latent(flow, partial(evaluated, target)), rows_at_once(batch_size, next(flow.buffers()).device)
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad(), show("refining", visible=progress) as bar:
        for start in range(0, n, rows):
            blocks = range(start // BLOCK, math.ceil(min(start + rows, n) / BLOCK))
            wanted = min(n - start, BLOCK * len(blocks))
            walkers, log_w = _annealed(latent, schedule, seed, blocks, population or 1, resample_below)
            # what has lost all its weight is no draw of the target, wherever it went afterwards
            log_q = torch.where(log_w > -torch.inf, -walkers.u - log_w, -torch.inf)
            parts.append(recorded(walkers.x, log_q, walkers.u, walkers.of_molecule, wanted))
            bar((start + wanted) / n, f"{start + wanted} of {n}")
    return as_samples(target, parts, flow, seed=seed, independent=independent)


def annealing_schedule(
    flow: Flow, target: Energy, *, share: float = 0.8, steps: int = 3, moves: int = 0, seed: int | None = None
) -> Schedule:
    """A schedule for `refine`, found by 1024 pilot draws that are resampled at every stage.

    The next β is the largest at which the weights of the pilot keep the wanted share of the draws; the step size is
    the one at which two thirds of the trajectories are accepted.

    Arguments:
        flow, target: as `refine` takes them.
        share: effective share of the draws that each stage keeps, between 0 and 1; a larger one makes more stages.
        steps: leapfrog steps of a trajectory.
        moves: trajectories of each draw at the target, where its weight no longer changes.
        seed: a non-negative integer; taken from the default generator of torch if None. The pilot's random numbers
            are not those of `refine` with the same seed.

    Raises:
        InputError: if flow, target and numbers do not fit.
        EnergyError: if no draw of the pilot has a finite energy, or 1000 stages do not reach the target.

    References:
        Del Moral, Doucet & Jasra, Stat. Comput. 22, 252 (2012), for the adaptive stages.
    """
    check_draw(flow, target, 1, 1)
    positive_counts(steps=steps)
    (moves,) = counts(moves=moves)
    (share,) = numbers(share=share)
    if not 0 < share < 1:
        raise InputError(f"share must lie between 0 and 1; got {share!r}: pass e.g. 0.8")
    generator = keyed_generator(fresh_seed(seed), _PILOT, 0)
    latent = Latent(flow, partial(evaluated, target))
    walkers = latent.at(flow.base.sample(BLOCK, generator))
    beta, step, acceptance = [0.0], [0.5], [1.0]
    with torch.no_grad():
        while len(beta) <= _MOST_STAGES:
            if not (walkers.log_w > -torch.inf).any():
                raise EnergyError(f"some of {BLOCK} draws must have a finite energy; got none: check target and flow")
            beta.append(_next_beta(walkers.log_w, beta[-1], share))
            if beta[-1] == 1 and not moves:
                break
            walkers = walkers[systematic((beta[-1] - beta[-2]) * walkers.log_w, BLOCK, generator)]
            length = step[-1]
            for _ in range(_TRIALS):
                spread, *noise = _noise([generator], walkers.z.shape[1], walkers.z)
                walkers, accepted = latent.moved(walkers, beta[-1], length * spread, steps, *noise)
                acceptance_now = float(accepted.double().mean())
                length = min(length * math.exp(acceptance_now - _ACCEPTANCE), _LONGEST)
            step.append(length)
            acceptance.append(acceptance_now)
            if beta[-1] == 1:
                break
    if beta[-1] < 1:
        raise EnergyError(
            f"{_MOST_STAGES} stages must lead from the flow to the target; got to beta = {beta[-1]:.3g}: train the "
            "flow longer, or lower share"
        )
    return Schedule(tuple(beta[1:]), tuple(step[1:]), steps, tuple(acceptance[1:]), moves)


def _annealed(
    latent: Latent, schedule: Schedule, seed: int, blocks: Sequence[int], population: int, threshold: float
) -> tuple[Walkers, Tensor]:
    """Walkers at the end of the schedule, 1024 for each block, and their log W."""
    z = torch.cat([latent.flow.base.block(seed, block) for block in blocks])
    generators = [keyed_generator(seed, _MOVES, block) for block in blocks]
    choices = [keyed_generator(seed, _CHOICES, block) for block in blocks]
    walkers, log_w, before = latent.at(z), torch.zeros(len(z), dtype=torch.float64, device=z.device), 0.0
    for k, beta in enumerate(schedule.beta):
        log_w = log_w + (beta - before) * walkers.log_w
        before = beta
        if k < len(schedule.step):
            if population > 1:
                offset = [torch.rand(BLOCK // population, generator=g, dtype=torch.float64) for g in choices]
                rows, log_w = _resampled(log_w, torch.cat(offset).to(z.device), threshold)
                walkers = walkers[rows]
            for _ in range(1 if beta < 1 else schedule.moves):
                spread, *noise = _noise(generators, z.shape[1], z)
                walkers, _ = latent.moved(walkers, beta, schedule.step[k] * spread, schedule.steps, *noise)
    return walkers, log_w


def _resampled(log_w: Tensor, offset: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Rows that go on, and their log-weights: as they are, or resampled, for each of the populations of one offset."""
    m = len(offset)
    log_w, size = log_w.view(m, -1), len(log_w) // m
    largest = log_w.max(1, keepdim=True).values
    w = torch.where(largest > -torch.inf, (log_w - largest).exp(), 0.0)
    share = w.cumsum(1)
    total = share[:, -1:]
    marks = (torch.arange(size, dtype=torch.float64, device=w.device) + offset[:, None]) / size * total
    # never at the total itself, behind which there is no draw, or one of weight zero
    rows = torch.searchsorted(share, torch.minimum(marks, torch.nextafter(total, torch.zeros_like(total))), right=True)
    poor = (total > 0) & (total.square() < threshold * size * w.square().sum(1, keepdim=True))
    rows = torch.where(poor, rows, torch.arange(size, device=w.device))
    rows = rows + size * torch.arange(m, device=w.device)[:, None]
    return rows.flatten(), torch.where(poor, largest + (total / size).log(), log_w).flatten()


def _noise(generators: Sequence[torch.Generator], d: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Relative steps, velocities and uniform numbers for 1024 rows of each generator."""
    spread = torch.cat([torch.rand(BLOCK, generator=g, dtype=torch.float64) for g in generators])
    velocity = torch.cat([torch.randn(BLOCK, d, generator=g, dtype=like.dtype) for g in generators])
    uniform = torch.cat([torch.rand(BLOCK, generator=g, dtype=torch.float64) for g in generators])
    spread = 1 + _JITTER * (2 * spread - 1)
    return spread.to(like.device), velocity.to(like.device), uniform.to(like.device)


def _next_beta(log_w: Tensor, beta: float, share: float) -> float:
    """The largest β' ≤ 1 at which the weights w^(β' − β) keep the wanted share of the draws that have any."""
    log_w = log_w[log_w > -torch.inf]

    def kept(following: float) -> float:
        power = (following - beta) * log_w
        return float((2 * power.logsumexp(0) - (2 * power).logsumexp(0)).exp()) / len(log_w)

    if kept(1.0) >= share:
        return 1.0
    low, high = beta, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) >= share else (low, middle)
    return low


def _check_schedule(schedule: Schedule) -> None:
    beta, step = schedule.beta, schedule.step
    rising = all(a < b for a, b in zip((0.0, *beta), beta, strict=False))
    (moves,) = counts(moves=schedule.moves)
    wanted = len(beta) if moves else len(beta) - 1
    if not (beta and rising and beta[-1] == 1 and len(step) == wanted and all(s > 0 for s in step)):
        raise InputError(
            "a schedule must rise from 0 to 1, with a positive step for all stages, the last one only if there are "
            f"moves; got beta {beta}, step {step} and {moves} moves: use annealing_schedule(flow, target)"
        )
    positive_counts(steps=schedule.steps)


def _check_population(n: int, population: int | None, threshold: float) -> None:
    if population is not None:
        positive_counts(population=population)
        if population == 1 or BLOCK % population or n % population:
            raise InputError(
                f"population must be a power of two up to {BLOCK} that divides n = {n}; got {population}: pass e.g. 64 "
                "and a multiple of it"
            )
    (threshold,) = numbers(resample_below=threshold)
    if not 0 <= threshold <= 1:
        raise InputError(f"resample_below must lie between 0 and 1; got {threshold!r}: pass e.g. 0.5")
