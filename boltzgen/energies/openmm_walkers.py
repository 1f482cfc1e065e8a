"""Walkers that OpenMM's own integrator moves, a Context for each: Langevin dynamics of what is not compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import openmm
import torch
from torch import Tensor

from ..errors import EnergyError
from ..processes import processors
from ..units import kT
from .openmm_energy import OpenMMEnergy

__all__ = ["OpenMMWalkers"]


class OpenMMWalkers:
    """Independent walkers under Langevin dynamics at the energy's temperature, by `openmm.LangevinMiddleIntegrator`.

    Arguments:
        energy: of which OpenMM holds the System.
        masses: (n_atoms,), in units of kT ps²/nm².
        step_size: in ps.
        friction: in 1/ps.
        x, v: where the walkers are, (W, n_atoms, 3) in nm, and their velocities in nm/ps.
        seeds: of the noise of each.

    Attributes:
        x, v: as above, after the last step.
        u: their energies, (W,), float64.
        kinetic: their kinetic energies in kT, (W,), float64.

    Raises:
        EnergyError: if an energy is not finite.
    """

    def __init__(
        self,
        energy: OpenMMEnergy,
        masses: Tensor,
        step_size: float,
        friction: float,
        x: Tensor,
        v: Tensor,
        seeds: Sequence[int],
    ) -> None:
        self.energy, self.x, self.v = energy, x, v
        self._unit = kT(energy.temperature)
        # the Reference platform has one source of noise for all its Contexts, which two threads must not share
        self._at_once = 1 if energy.platform == "Reference" else min(len(x), processors())
        dalton = (masses.double() * self._unit).tolist()
        self._contexts = []
        with _finite("minimise positions first"):
            for position, velocity, seed in zip(x, v, seeds, strict=True):
                integrator = openmm.LangevinMiddleIntegrator(energy.temperature, friction, step_size)
                integrator.setRandomNumberSeed(seed)
                context = energy.context(integrator, dalton)
                context.setPositions(position.double().numpy(force=True))
                context.setVelocities(velocity.double().numpy(force=True))
                self._contexts.append(context)
            self._look()

    def advance(self, steps: int) -> None:
        """So many steps of each walker; on platforms other than Reference as many walkers at once as processors."""
        if not steps:
            return
        with ThreadPoolExecutor(self._at_once) as pool, _finite("take a smaller step_size"):
            list(pool.map(lambda context: context.getIntegrator().step(steps), self._contexts))
            self._look()
        self.energy.evaluations.gradient += steps * len(self._contexts)

    def _look(self) -> None:
        states = [context.getState(positions=True, velocities=True, energy=True) for context in self._contexts]
        self.x = torch.stack([torch.tensor(state.getPositions(asNumpy=True)._value) for state in states]).to(self.x)
        self.v = torch.stack([torch.tensor(state.getVelocities(asNumpy=True)._value) for state in states]).to(self.v)
        found = [(state.getPotentialEnergy()._value, state.getKineticEnergy()._value) for state in states]
        self.u, self.kinetic = (torch.tensor(found, dtype=torch.float64) / self._unit).unbind(1)
        if not self.u.isfinite().all():
            raise openmm.OpenMMException("an energy that is not finite")


@contextmanager
def _finite(remedy: str) -> Iterator[None]:
    """What OpenMM says of walkers that have flown apart, as our own error."""
    try:
        yield
    except openmm.OpenMMException as error:
        raise EnergyError(f"every walker must have a finite energy; got from OpenMM: {error}: {remedy}") from None
