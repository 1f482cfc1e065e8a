"""Langevin dynamics of many independent walkers in one batch."""

from __future__ import annotations

import math
import os
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..arguments import counts, instances, positive_counts, positive_numbers
from ..energies.energy import Energy
from ..energies.openmm_energy import OpenMMEnergy
from ..energies.openmm_walkers import OpenMMWalkers
from ..errors import EnergyError, InputError
from ..progress import Show, silent
from ..units import magnitude
from .recording import Recording
from .walkers import Simulation, WalkerState, check_thin

__all__ = ["admitted", "simulate"]

_LOOKS = 100  # at the equilibration, at most, to show how far it is


def simulate(
    energy: Energy,
    positions: Any,
    masses: Tensor | float,
    *,
    walkers: int,
    steps: int,
    step_size: float,
    friction: float,
    seed: int,
    equilibration: int = 0,
    thin: int = 1,
    resume: WalkerState | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    fingerprint: str = "",
    engine: Literal["torch", "openmm"] = "torch",
    show: Show = silent,
) -> Simulation:
    """Langevin dynamics at the energy's temperature, m dv = −∂u/∂x dt − γ m v dt + √(2 γ m) dW, all walkers at once.

    The steps are those of BAOAB: half a kick, half a drift, the exact decay of the velocities with its noise, half a
    drift, half a kick. Configurations follow exp(−u) up to errors of the fourth order in the time step where friction
    is high, and without any in harmonic potentials; velocities up to the second order. There is no Metropolis test:
    unlike with `replica_exchange` the answer depends on the time step.

    Arguments:
        energy: u(x) at the temperature to simulate at, in kT; `energy.at(temperature)` is one at another.
        positions: where all walkers start, of the energy's event shape, in the precision to compute in; a tensor, an
            array or a Quantity.
        masses: m in ½ m v² / kT, one per atom (leading event dimension) or one for all; with dalton / kT(T), lengths in
            nm, times are in ps.
        walkers: W, independent of one another.
        steps: number of steps after equilibration.
        step_size: Δt.
        friction: γ, an inverse time.
        seed: of all random numbers; ignored when resuming.
        equilibration: steps before the first recorded one.
        thin: steps between kept configurations.
        resume: `state` of an earlier simulation with the same arguments; with OpenMM, whose random numbers cannot be
            kept, it goes on by the same law but not to the same bits.
        checkpoint: file to keep it in, every minute, when a signal ends it, and in the end; not together with `resume`.
            Called again it goes on from there; with OpenMM, too, not to the same bits. Steps already made are not made
            again, and all are given back, also if fewer are asked for.
        fingerprint: of what is simulated, kept in the checkpoint and compared; if empty, the energy's with the
            positions.
        engine: "torch" evaluates all walkers as one batch; "openmm" leaves an `OpenMMEnergy`, or a `HybridEnergy` with
            all of its forces, to OpenMM's own LangevinMiddleIntegrator, a Context for each walker, which is the faster
            way for it.
        show: what to call with the fraction done, and how many steps that is.

    Raises:
        InputError: if an argument is not what it must be.
        EnergyError: if the energy is infinite at the start, or becomes so.

    Example:
        >>> from boltzgen.energies.toys import Gaussian
        >>> run = simulate(Gaussian([0.0], [[1.0]]), torch.zeros(1), 1.0, walkers=500, steps=200, thin=20,
        ...                step_size=0.5, friction=1.0, seed=0, equilibration=50)
        >>> run.x.shape, round(run.x.var().item(), 1)
        (torch.Size([10, 500, 1]), 1.0)

    References:
        Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34; J. Chem. Phys. 138, 174102 (2013).
    """
    instances(energy=(energy, Energy))
    positions, mass = admitted(energy, positions, masses)
    walkers, steps, thin = positive_counts(walkers=walkers, steps=steps, thin=thin)
    check_thin(thin, "steps", steps)
    (equilibration,) = counts(equilibration=equilibration)
    step_size, friction = positive_numbers(step_size=step_size, friction=friction)
    if resume is not None:
        instances(resume=(resume, WalkerState))

    def about() -> tuple[object, ...]:
        what = fingerprint or (energy.fingerprint, positions.tolist())
        numbers = (walkers, equilibration, thin, step_size, friction, *counts(seed=seed))
        return what, str(positions.dtype), mass.tolist(), numbers, engine

    record = Recording(checkpoint, about, resume)
    saved = None if record.state is None else WalkerState(**record.state)
    state = saved or resume or _start(positions, mass, walkers, seed)
    if len(state.x) != walkers or state.x.shape[1:] != energy.event_shape:
        raise InputError(
            f"resume must hold {walkers} walkers; got {tuple(state.x.shape)}: give the arguments of the run that it "
            "continues"
        )
    walk: _Walk | _OpenMMWalk
    if engine == "torch":
        walk = _Walk(energy, mass, step_size, friction, state)
    elif engine == "openmm" and isinstance(energy, OpenMMEnergy):
        walk = _OpenMMWalk(energy, mass.expand(energy.event_shape[0]), step_size, friction, state)
    else:
        raise InputError(
            f'engine must be "torch", or "openmm" for an OpenMMEnergy; got {engine!r} for {type(energy).__name__}: '
            'pass molecule.energy(temperature, backend="openmm") to simulate by OpenMM'
        )
    _observed(walk, record, equilibration, steps, thin, show)
    x, u, kinetic = (record.column(name) for name in ("x", "u", "kinetic"))
    return Simulation(x, u, kinetic, energy.temperature, walk.state)


def admitted(energy: Energy, positions: Any, masses: Any) -> tuple[Tensor, Tensor]:
    """Where a simulation starts, and the masses, as tensors of one precision.

    Raises:
        InputError: unless they are those of the energy's configurations.
    """
    given = magnitude(positions, "nanometer")
    try:
        positions = given if isinstance(given, Tensor) else torch.as_tensor(np.array(given))  # a copy, read-only or not
    except TypeError:
        raise InputError(f"positions must be numbers; got {given!r}: pass one configuration") from None
    if energy.event_shape != positions.shape:
        raise InputError(
            f"positions must be one configuration of shape {tuple(energy.event_shape)}; got {tuple(positions.shape)}: "
            "pass the configuration from which all walkers start"
        )
    if not positions.is_floating_point():
        positions = positions.to(torch.get_default_dtype())
    try:
        mass = torch.as_tensor(masses, dtype=positions.dtype, device=positions.device)
    except (TypeError, ValueError):  # a Quantity, for one: these have no unit
        mass = positions.new_zeros(())
    if mass.shape != positions.shape[: mass.ndim] or not ((mass > 0) & mass.isfinite()).all():
        raise InputError(
            f"masses must be positive, one for all or one for each of {len(positions)} atoms; got {masses}: pass e.g. "
            "dalton / kT(temperature)"
        )
    return positions, mass


def _start(positions: Tensor, mass: Tensor, walkers: int, seed: int) -> WalkerState:
    """All walkers in one place, with velocities of their own."""
    random = torch.Generator().manual_seed(*counts(seed=seed))
    noise = torch.randn((walkers, *positions.shape), generator=random, dtype=positions.dtype)
    v = noise.to(positions.device) / _aligned(mass, positions.ndim).sqrt()
    return WalkerState(positions.detach().expand(walkers, *positions.shape).clone(), v, random.get_state())


def _aligned(mass: Tensor, n_dimensions: int) -> Tensor:
    """One number per atom, ready to multiply its coordinates."""
    return mass.reshape(*mass.shape, *[1] * (n_dimensions - mass.ndim))


class _Walk:
    """Walkers under way, all in one batch."""

    def __init__(self, energy: Energy, mass: Tensor, step_size: float, friction: float, state: WalkerState) -> None:
        self.energy, self.dt = energy, step_size
        self.x, self.v = (there.to(mass.device, copy=True) for there in (state.x, state.v))
        self.mass = _aligned(mass, self.x.ndim - 1)
        self.decay = math.exp(-friction * step_size)
        self.noise = math.sqrt(-math.expm1(-2 * friction * step_size)) / self.mass.sqrt()
        self.random = torch.Generator()
        self.random.set_state(state.random)
        self.u, self.gradient = self.evaluate()
        self.require_finite("minimise positions first")

    @property
    def state(self) -> WalkerState:
        return WalkerState(self.x, self.v, self.random.get_state())

    @property
    def kinetic(self) -> Tensor:
        return 0.5 * (self.mass * self.v.square()).flatten(1).sum(1)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            v = self.v - 0.5 * self.dt * self.gradient / self.mass
            x = self.x + 0.5 * self.dt * v
            noise = torch.randn(v.shape, generator=self.random, dtype=v.dtype)  # on the CPU: the same everywhere
            v = self.decay * v + self.noise * noise.to(v.device)
            self.x = x + 0.5 * self.dt * v
            self.u, self.gradient = self.evaluate()
            self.v = v - 0.5 * self.dt * self.gradient / self.mass
            self.require_finite("take a smaller step_size")

    def evaluate(self) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = self.x.detach().requires_grad_()
            u = self.energy.energy(x)
            (gradient,) = torch.autograd.grad(u.sum(), x)
        return u.detach(), gradient

    def require_finite(self, remedy: str) -> None:
        lost = int((~torch.isfinite(self.u)).sum())
        if lost:
            raise EnergyError(f"every walker must have a finite energy; got inf for {lost} of {len(self.u)}: {remedy}")


class _OpenMMWalk(OpenMMWalkers):
    """Walkers under way in OpenMM, with seeds from the random numbers of their state."""

    def __init__(
        self, energy: OpenMMEnergy, mass: Tensor, step_size: float, friction: float, state: WalkerState
    ) -> None:
        self.random = torch.Generator()
        self.random.set_state(state.random)
        seeds = torch.randint(1, 2**31, (len(state.x),), generator=self.random).tolist()
        super().__init__(energy, mass, step_size, friction, state.x, state.v, seeds)

    @property
    def state(self) -> WalkerState:
        return WalkerState(self.x, self.v, self.random.get_state())


def _observed(
    walk: _Walk | _OpenMMWalk, record: Recording, equilibration: int, steps: int, thin: int, show: Show
) -> None:
    """Lets the walkers go on to the last step, and records every `thin`-th after equilibration."""
    looks, total = max(thin, equilibration // _LOOKS), equilibration + steps
    with record.kept(lambda: vars(walk.state)) as autosave:
        while record.done < total:
            early = record.done < equilibration
            begin, end, period = (0, equilibration, looks) if early else (equilibration, total, thin)
            piece = min(period - (record.done - begin) % period, end - record.done)
            walk.advance(piece)
            record.done += piece
            if not early and (record.done - begin) % thin == 0:
                record.add(x=walk.x, u=walk.u.double(), kinetic=walk.kinetic.double())
            of = f"{record.done - begin} of {end - begin} steps"
            show(record.done / total, f"{of} of equilibration" if early else of)
            autosave()
