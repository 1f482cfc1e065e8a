"""Metropolis-corrected dynamics of many walkers at many temperatures, which exchange their configurations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..arguments import counts, instances, positive_counts, positive_numbers
from ..energies.energy import Energy
from ..errors import EnergyError, InputError
from ..molecule import Molecule
from ..progress import Show, silent
from ..units import positive_temperature
from .langevin import admitted
from .recording import Recording
from .samples import Samples
from .walkers import check_thin, equal_weights

__all__ = ["ReplicaExchange", "replica_exchange"]

_ACCEPTANCE = 0.8  # of trajectories, aimed at by the step size
_GAIN = 0.1  # of the adaptation, per round
_JITTER = 0.2  # relative spread of the step size, against trajectories that close on themselves


@dataclass(frozen=True)
class ReplicaExchange:
    """What K temperatures × W independent walkers leave behind, in main memory, but for the state.

    Attributes:
        temperatures: T_k, ascending, in the unit of `energy.temperature`.
        temperature: T₀, that of the energy given.
        u: energies u(x) of the energy given, not yet scaled by T₀/T_k, after every round, (rounds, K, W), float64.
        x: every `thin`-th configuration at the lowest temperature, (rounds // thin, W, *event).
        thin: rounds between them.
        acceptance: share of trajectories accepted at each temperature, (K,).
        swaps: share of exchanges accepted between k and k + 1, (K − 1,).
        round_trips: how often a configuration has gone from the lowest temperature to the highest and back,
            summed over each walker's K configurations, (W,); earlier runs that this one continues included.
        state: where the run stands; `resume=` it to go on as if it had not stopped.
    """

    temperatures: Tensor
    temperature: float
    u: Tensor
    x: Tensor
    thin: int
    acceptance: Tensor
    swaps: Tensor
    round_trips: Tensor
    state: State = field(repr=False)

    def samples(self, molecule: Molecule | None = None) -> Samples:
        """The configurations kept, which are those of the lowest temperature, as an ensemble of equal weights.

        They are correlated, so that `independent` is False, and know no log Z.

        Arguments:
            molecule: whose positions they are, if they are a molecule's.
        """
        lowest = float(self.temperatures[0])
        u = self.u[self.thin - 1 :: self.thin, 0] * (self.temperature / lowest)
        return equal_weights(self.x.flatten(0, 1), u.flatten(), lowest, molecule)


@dataclass
class State:
    """Configurations of all replicas, the step sizes found for them, their journeys, and the random numbers to come."""

    x: Tensor  # (K, W, *event)
    step: Tensor  # (K,)
    reached: Tensor  # (K, W): 1 if the lowest temperature was visited, 2 if the highest after it, else 0
    round_trips: Tensor  # (W,)
    random: Tensor
    u: Tensor | None = None  # (K, W), and its gradient: evaluated anew they might differ in the last bit
    gradient: Tensor | None = None


def replica_exchange(
    energy: Energy,
    positions: Any,
    masses: Tensor | float,
    temperatures: Sequence[float],
    *,
    walkers: int,
    rounds: int,
    steps: int,
    step_size: float,
    seed: int,
    equilibration: int = 0,
    thin: int = 1,
    resume: State | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    fingerprint: str = "",
    show: Show = silent,
) -> ReplicaExchange:
    """Samples of p_k(x) ∝ exp(−u(x) T₀/T_k) at temperatures T_1 < … < T_K, all in one batch.

    A round is one Hamiltonian Monte Carlo trajectory of every replica (fresh velocities, velocity Verlet, Metropolis
    test), then an attempt to exchange the configurations of every two neighbouring temperatures. Both leave every
    p_k invariant whatever the step size and the masses: these choose the speed, not the answer. The step sizes are
    adapted to an acceptance of 0.8 during equilibration, and held after it.

    Frames that cannot be evaluated (u = +inf) are never accepted: an energy that is +inf outside a region samples
    the region exactly.

    Arguments:
        energy: u(x) at T₀ = `energy.temperature`, in kT₀; give it a compiled `_energy` for speed.
        positions: where all replicas start, of the energy's event shape, in the precision to compute in; a tensor, an
            array or a Quantity.
        masses: m in ½ m v² / kT₀, one per atom (leading event dimension) or one for all; with dalton / kT(T₀),
            lengths in nm, times are in ps.
        temperatures: T_1 … T_K, strictly ascending, in the unit of `energy.temperature`.
        walkers: W, independent copies of the whole ladder.
        rounds: number of rounds recorded.
        steps: velocity-Verlet steps per trajectory; soft motions such as torsions only diffuse if it is short.
        step_size: first guess of the time step.
        seed: of all random numbers; ignored when resuming.
        equilibration: rounds before the first recorded one.
        thin: rounds between kept configurations.
        resume: `state` of an earlier run with the same arguments.
        checkpoint: file to keep it in, every minute, when a signal ends it, and in the end; not together with `resume`.
            Called again it goes on from there. Rounds already made are not made
            again, and all are given back, also if fewer are asked for.
        fingerprint: of what is simulated, kept in the checkpoint and compared; if empty, the energy's with the
            positions.
        show: what to call with the fraction done, and how many rounds and round trips that is; first when the
            checkpoint is taken up.

    Raises:
        InputError: if an argument is not what it must be.
        EnergyError: if the energy is infinite at the start.

    References:
        Duane, Kennedy, Pendleton & Roweth, Phys. Lett. B 195, 216 (1987).
        Sugita & Okamoto, Chem. Phys. Lett. 314, 141 (1999).
    """
    instances(energy=(energy, Energy))
    positions, mass = admitted(energy, positions, masses)
    walkers, rounds, steps, thin = positive_counts(walkers=walkers, rounds=rounds, steps=steps, thin=thin)
    check_thin(thin, "rounds", rounds)
    (equilibration,) = counts(equilibration=equilibration)
    (step_size,) = positive_numbers(step_size=step_size)
    if not isinstance(temperatures, Iterable):
        raise InputError(f"temperatures must be a list; got {temperatures!r}: pass e.g. [300.0, 400.0]")
    ladder = [positive_temperature(t) for t in temperatures]
    if not ladder or sorted(set(ladder)) != ladder:
        raise InputError(f"temperatures must be strictly ascending; got {ladder}: sort them, each once")
    if resume is not None:
        instances(resume=(resume, State))

    def about() -> tuple[object, ...]:
        what = fingerprint or (energy.fingerprint, positions.tolist())
        numbers = (walkers, steps, step_size, equilibration, thin, *counts(seed=seed))
        return what, str(positions.dtype), mass.tolist(), ladder, numbers

    record = Recording(checkpoint, about, resume)
    saved = None if record.state is None else State(**record.state)
    state = saved or resume or _initial(positions, len(ladder), walkers, step_size, seed)
    if state.x.shape != (len(ladder), walkers, *energy.event_shape):
        raise InputError(
            f"resume must hold {len(ladder)} temperatures x {walkers} walkers; got {tuple(state.x.shape)}: "
            "give the arguments of the run that it continues"
        )
    return _Ladder(energy, mass, ladder, steps, state).run(record, equilibration, rounds, thin, show)


def _initial(positions: Tensor, n: int, walkers: int, step_size: float, seed: int) -> State:
    return State(
        x=positions.detach().expand(n, walkers, *positions.shape).clone(),
        step=torch.full((n,), step_size, dtype=positions.dtype, device=positions.device),
        reached=torch.zeros(n, walkers, dtype=torch.long, device=positions.device),
        round_trips=torch.zeros(walkers, dtype=torch.long, device=positions.device),
        random=torch.Generator().manual_seed(*counts(seed=seed)).get_state(),
    )


class _Ladder:
    """K temperatures × W walkers under way."""

    def __init__(self, energy: Energy, mass: Tensor, ladder: list[float], steps: int, state: State) -> None:
        self.energy, self.steps = energy, steps
        self.shape = state.x.shape[:2]  # (K, W)
        self.temperatures = torch.tensor(ladder, dtype=torch.float64)
        self.beta = (energy.temperature / self.temperatures).to(mass)[:, None]  # (K, 1)
        self.wide = (*self.shape, *[1] * (state.x.ndim - 2))  # a number per replica, ready to multiply x
        self.mass = mass.reshape(*mass.shape, *[1] * (state.x.ndim - 2 - mass.ndim))
        names = ("x", "step", "reached", "round_trips")
        self.x, self.step, self.reached, self.round_trips = (
            getattr(state, name).to(mass.device, copy=True) for name in names
        )
        self.random = torch.Generator()
        self.random.set_state(state.random)
        if state.u is None or state.gradient is None:
            self.u, self.gradient = self.evaluate(self.x)
        else:
            self.u, self.gradient = state.u.to(mass.device), state.gradient.to(mass.device)
        if not torch.isfinite(self.u).all():
            raise EnergyError("the energy must be finite where the replicas start; got inf: minimise positions first")

    @property
    def state(self) -> State:
        random = self.random.get_state()
        return State(self.x, self.step, self.reached, self.round_trips, random, self.u, self.gradient)

    def run(self, record: Recording, equilibration: int, rounds: int, thin: int, show: Show) -> ReplicaExchange:
        total = max(equilibration + rounds, record.done)

        def told() -> None:
            what = f"{record.done} of {equilibration} rounds of equilibration"
            if record.done > equilibration:
                made, trips = record.done - equilibration, int(self.round_trips.sum())
                what = f"{made} of {total - equilibration} rounds, {trips} round trips"
            show(record.done / total, what)

        with record.kept(lambda: vars(self.state)) as autosave:
            told()
            while record.done < total:
                accepted = self.trajectory().to(self.step).mean(1)
                if record.done < equilibration:
                    self.step = self.step * torch.exp(_GAIN * (accepted - _ACCEPTANCE))
                exchanged = self.exchange().to(self.step).mean(1)
                record.done += 1
                observed = record.done - equilibration
                if observed > 0:
                    record.add(u=self.u.double(), accepted=accepted, exchanged=exchanged)
                    if observed % thin == 0:
                        record.add(x=self.x[0])
                told()
                autosave()
        return ReplicaExchange(
            temperatures=self.temperatures,
            temperature=self.energy.temperature,
            u=record.column("u"),
            x=record.column("x"),
            thin=thin,
            acceptance=record.column("accepted").mean(0),
            swaps=record.column("exchanged").mean(0),
            round_trips=self.round_trips.to("cpu", copy=True),
            state=self.state,
        )

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """u, (K, W), and its gradient, of the shape of x."""
        with torch.enable_grad():
            flat = x.flatten(0, 1).detach().requires_grad_()
            u = self.energy.energy(flat)
            (gradient,) = torch.autograd.grad(u.sum(), flat)
        return u.detach().view(self.shape), gradient.view_as(x)

    def kinetic(self, v: Tensor) -> Tensor:
        return 0.5 * (self.mass * v.square()).flatten(2).sum(2)

    def trajectory(self) -> Tensor:
        """One Hamiltonian trajectory of every replica; which were accepted, (K, W)."""
        v = torch.randn(self.x.shape, generator=self.random, dtype=self.x.dtype).to(self.x.device)
        v /= (self.beta.view(-1, *[1] * (v.ndim - 1)) * self.mass).sqrt()
        spread = 1 + _JITTER * (2 * self.uniform(self.shape) - 1)
        dt = (self.step[:, None] * spread).view(self.wide)
        before = self.u + self.kinetic(v)
        x, gradient = self.x, self.gradient
        for _ in range(self.steps):
            v = v - 0.5 * dt * gradient / self.mass
            x = x + dt * v
            u, gradient = self.evaluate(x)
            v = v - 0.5 * dt * gradient / self.mass
        accepted = self.accept(self.beta * (before - u - self.kinetic(v)))
        chosen = accepted.view(self.wide)
        self.x, self.gradient = torch.where(chosen, x, self.x), torch.where(chosen, gradient, self.gradient)
        self.u = torch.where(accepted, u, self.u)
        return accepted

    def exchange(self) -> Tensor:
        """One attempt between every two neighbouring temperatures; which were accepted, (K − 1, W)."""
        n, walkers = self.shape
        device = self.x.device
        exchanged = torch.zeros(n - 1, walkers, dtype=torch.bool, device=device)
        for first in (0, 1):
            k = torch.arange(n - 1, device=device)[first::2]
            swapped = self.accept((self.beta[k] - self.beta[k + 1]) * (self.u[k] - self.u[k + 1]))
            source = torch.arange(n, device=device)[:, None].repeat(1, walkers)
            source[k], source[k + 1] = source[k] + swapped.long(), source[k + 1] - swapped.long()
            columns = torch.arange(walkers, device=device)
            for name in ("x", "u", "gradient", "reached"):
                setattr(self, name, getattr(self, name)[source, columns])
            exchanged[k] = swapped
            self.note_journeys()
        return exchanged

    def note_journeys(self) -> None:
        if len(self.reached) > 1:
            self.round_trips += self.reached[0] == 2
            self.reached[0] = 1
            self.reached[-1][self.reached[-1] == 1] = 2

    def accept(self, log_ratio: Tensor) -> Tensor:
        """Metropolis' test; NaN is a refusal."""
        return self.uniform(log_ratio.shape).log() < log_ratio

    def uniform(self, shape: torch.Size) -> Tensor:
        """Numbers in [0, 1), drawn on the CPU: the same on every device."""
        return torch.rand(shape, generator=self.random, dtype=self.x.dtype).to(self.x.device)
