"""An OpenMM System compiled to torch: all frames at once, differentiable, the same numbers."""

from __future__ import annotations

import numpy as np
import openmm
import torch
from torch import Tensor, nn

from ..errors import UnsupportedSystemError
from ..units import kT, positive_temperature
from .energy import Energy
from .forces import COMPILERS, IGNORED, Force, Frames

__all__ = ["ForceFieldEnergy"]


class ForceFieldEnergy(Energy):
    """u(x) = U(x)/kT of an `openmm.System`, x of shape (n, n_atoms, 3) in nm."""

    compiled_methods = ("_energy",)

    def __init__(
        self,
        system: openmm.System,
        temperature: float,
        *,
        check: bool = True,
        positions: object = None,
        seed: int = 0,
    ) -> None:
        temperature = positive_temperature(temperature)
        super().__init__((system.getNumParticles(), 3), temperature)
        self._kT = kT(temperature)
        i, j = np.triu_indices(system.getNumParticles(), 1)
        self.register_buffer("_i", torch.from_numpy(i), persistent=False)
        self.register_buffer("_j", torch.from_numpy(j), persistent=False)
        self.names: list[str] = []
        self.forces = nn.ModuleList()
        for force in system.getForces():
            if type(force) in IGNORED:
                continue
            if type(force) not in COMPILERS:
                raise UnsupportedSystemError(
                    f"every force must be one that is compiled to torch; got {force.getName()} "
                    f'({type(force).__name__}): use backend="openmm"'
                )
            name, count = force.getName(), 1
            while name in self.names:
                count += 1
                name = f"{force.getName()} {count}"
            self.names.append(name)
            self.forces.append(COMPILERS[type(force)](force))

    def _energy(self, x: Tensor) -> Tensor:
        frames = Frames(x, self._i, self._j)
        u = x.new_zeros(len(x))
        for force in self.forces:
            u = u + force(frames)
        return u / self._kT

    def per_force(self, x: Tensor) -> dict[str, Tensor]:
        """Potential energy of each force by name, (n,) each, in kJ/mol."""
        self._check(x)
        frames = Frames(x, self._i, self._j)
        return {name: force(frames) for name, force in zip(self.names, self.forces, strict=True)}
