"""A System evaluated by torch as far as its forces are known, and by OpenMM for the rest."""

from __future__ import annotations

import copy
import time
from collections.abc import Container, Sequence
from typing import Any

import openmm
import torch
from torch import Tensor

from ..errors import UnsupportedSystemError
from .energy import Energy
from .force_field import ForceFieldEnergy
from .forces import COMPILERS, compile_force, named_forces, particle_masses
from .openmm_context import dynamics_context
from .openmm_energy import OpenMMEnergy
from .openmm_system import check_evaluable, check_supported, notes
from .openmm_xml import serialize
from .parity import trial_positions

__all__ = ["HybridEnergy", "system_energy"]

_FASTER = 250  # atoms up to which torch it is: a stopwatch near a tie would change the bits of draws from run to run
_CLEARLY = 1.2  # times as fast: less than that is the noise of a measurement, and torch has second derivatives


class HybridEnergy(OpenMMEnergy):
    """Reduced energy u(x) = U(x)/kT of an OpenMM System: the forces that can be are compiled, OpenMM does the others.

    The compiled part is a `ForceFieldEnergy`, compared with OpenMM when it is built. The others go through OpenMM
    frame by frame, which limits the speed, and allows a first derivative only. `describe` says which is which, and why.

    Arguments:
        system: an `openmm.System` without constraints and without periodic boundaries.
        temperature: in K.
        positions: a configuration for the comparison to start from, (n_atoms, 3), in nm.
        platform, workers: as of `OpenMMEnergy`.
        max_memory: bytes that the compiled part may take for an energy and its gradient.

    Attributes:
        compiled: the part in torch.

    Raises:
        InputError: if the temperature or the memory is not positive, or there is no such platform.
        UnsupportedSystemError: if the System cannot be sampled as it stands.
        EnergyError: if a compiled force disagrees with OpenMM, or OpenMM cannot evaluate the others.

    Example:
        >>> import openmm
        >>> system, bond = openmm.System(), openmm.HarmonicBondForce()
        >>> for _ in range(2):
        ...     _ = system.addParticle(12.0)
        >>> _ = bond.addBond(0, 1, 0.15, 1000.0)
        >>> for force in (bond, openmm.RMSDForce([openmm.Vec3(0, 0, 0), openmm.Vec3(1, 0, 0)])):
        ...     _ = system.addForce(force)
        >>> print(HybridEnergy(system, 300.0).describe())
        HarmonicBondForce: torch, HarmonicBonds
        RMSDForce: OpenMM, Reference platform, since this kind of force is not compiled
    """

    def __init__(
        self,
        system: openmm.System,
        temperature: float,
        *,
        positions: Any = None,
        platform: str = "auto",
        workers: int | str = 0,
        max_memory: float = 2**32,
    ) -> None:
        check_supported(system)
        refused = _refusals(system)
        super().__init__(_part(system, refused), temperature, platform=platform, workers=workers)
        self._remarks.update(refused)
        self._whole = {"xml": serialize(system)}  # a dict: the fingerprint knows both parts already
        known = named_forces(system).keys() - refused.keys()
        self.compiled = ForceFieldEnergy(_part(system, known), temperature, positions=positions, max_memory=max_memory)
        self._notes, self.compiled._notes = notes(system), {}

    def describe(self) -> str:
        """Which force is evaluated where, and why, one per line."""
        return f"{self.compiled.describe()}\n{super().describe()}"

    def context(self, integrator: openmm.Integrator, masses: Sequence[float]) -> openmm.Context:
        """As of `OpenMMEnergy`, of the whole System."""
        return dynamics_context(self._whole["xml"], self.platform, integrator, masses)

    def _energy(self, x: Tensor) -> Tensor:
        rest = super()._energy(x)
        return torch.where(torch.isfinite(rest), self.compiled._energy(x) + rest, torch.inf)  # no gradient where inf


def system_energy(
    system: openmm.System, temperature: float, positions: Any = None, *, max_memory: float = 2**32
) -> ForceFieldEnergy | OpenMMEnergy:
    """The System's energy with as much of it compiled as can be: all, some, or none of its forces.

    Of more than 250 atoms, where there is no GPU, both ways are tried out, and OpenMM's is taken if it is clearly the
    faster one: with a cutoff it has less to do.

    Arguments and errors as of `HybridEnergy`.
    """
    check_supported(system)
    check_evaluable(system)
    refused = _refusals(system)
    if refused and len(refused) == len(named_forces(system)):
        alone = OpenMMEnergy(system, temperature)
        alone._remarks.update(refused)
        return alone
    kind = HybridEnergy if refused else ForceFieldEnergy
    compiled = kind(system, temperature, positions=positions, max_memory=max_memory)
    if system.getNumParticles() <= _FASTER or torch.cuda.is_available():
        return compiled
    return _faster(compiled, OpenMMEnergy(system, temperature), positions)


def _faster(
    compiled: ForceFieldEnergy | HybridEnergy, other: OpenMMEnergy, positions: Any
) -> ForceFieldEnergy | OpenMMEnergy:
    """The energy with torch in it, unless OpenMM alone takes clearly less time for a frame and its gradient."""
    x = trial_positions(compiled.event_shape[0], positions)[:1].float()
    mine, its = _seconds(compiled, x.repeat(8, 1, 1)), _seconds(other, x.repeat(2, 1, 1))
    if mine < _CLEARLY * its:
        return compiled
    which = "torch takes" if isinstance(compiled, ForceFieldEnergy) else "it takes together with torch"
    why = f"it takes {1e3 * its:.4g} ms for a frame where {which} {1e3 * mine:.4g}"
    other._remarks.update(dict.fromkeys(other._names, why))
    return other


def _seconds(energy: Energy, x: Tensor) -> float:
    """For each frame and its gradient, the better of two times."""
    times = []
    for _ in range(2):
        leaf, begin = x.clone().requires_grad_(), time.perf_counter()
        torch.autograd.grad(energy._energy(leaf).sum(), leaf)
        times.append((time.perf_counter() - begin) / len(x))
    return min(times)


def _refusals(system: openmm.System) -> dict[str, str]:
    """Why each of the forces that cannot be compiled cannot."""
    found = {}
    for name, force in named_forces(system).items():
        try:
            compile_force(force, particle_masses(system))
        except UnsupportedSystemError as error:
            known = type(force) in COMPILERS
            found[name] = str(error).rpartition(": ")[0] if known else "this kind of force is not compiled"
    return found


def _part(system: openmm.System, names: Container[str]) -> openmm.System:
    """The same particles with some of the forces, under the names they have in the whole."""
    part = openmm.System()
    for i in range(system.getNumParticles()):
        part.addParticle(system.getParticleMass(i))
    for name, force in named_forces(system).items():
        if name in names:
            force = copy.deepcopy(force)
            force.setName(name)
            part.addForce(force)
    return part
