"""The compiled energy against OpenMM's Reference platform, force by force."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import openmm
import torch
from torch import Tensor

from ..errors import EnergyError, InputError
from ..units import magnitude
from .forces import named_forces
from .openmm_context import Frames

__all__ = ["TOLERANCE", "Deviation", "deviations", "require_parity", "trial_positions"]

TOLERANCE = 1e-8
"""Largest relative deviation from OpenMM Reference in float64."""
_STRETCHED = 3.0
"""times the size of the molecule: beyond cutoffs and flat bottoms, and the ends of tables."""


class PerForce(Protocol):
    """An energy that knows its forces by name."""

    def per_force(self, x: Tensor) -> dict[str, Tensor]: ...


class Deviation(NamedTuple):
    """How far one force is from OpenMM's.

    Attributes:
        energy: largest |ΔU|, relative to |U| of its frame but at least 1 kJ/mol; NaN if there is none to compare with.
        gradient: largest component of ΔF, relative to that of F in its frame but at least 1 kJ/mol/nm.
        atoms: the atoms with the most wrong forces, the worst first.
    """

    energy: float
    gradient: float
    atoms: list[int]


def deviations(energy: PerForce, system: openmm.System, x: Tensor) -> dict[str, Deviation]:
    """Deviation of each force from OpenMM Reference, over the configurations that OpenMM can evaluate.

    Arguments:
        energy: a `ForceFieldEnergy` of the System.
        x: configurations, (n, n_atoms, 3), in nm; u and its gradient are evaluated in their precision.
    """
    x = x.detach().requires_grad_()
    forces = named_forces(system)
    found = {}
    for name, U in energy.per_force(x).items():
        F = -torch.autograd.grad(U.sum(), x, retain_graph=True)[0]
        found[name] = _deviation(U.detach().double(), F.double(), *_reference(system, forces[name], x))
    return found


def require_parity(
    energy: PerForce,
    system: openmm.System,
    positions: Any = None,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> None:
    """Comparison of each force with OpenMM Reference on `trial_positions`.

    Raises:
        EnergyError: if a force deviates by more than the tolerance, or OpenMM finds none of its energies finite.
        InputError: if the positions do not fit the System.
    """
    x = trial_positions(system.getNumParticles(), positions, seed=seed)
    for name, deviation in deviations(energy, system, x).items():
        if math.isnan(deviation.energy):
            raise EnergyError(
                f"{name} must have a finite energy in OpenMM near the positions, to be compared with; got none: pass "
                'positions of the molecule, or use backend="openmm"'
            )
        if not max(deviation.energy, deviation.gradient) <= tolerance:
            raise EnergyError(
                f"{name} in torch must agree with OpenMM Reference to {tolerance:.0e}; got relative deviations of "
                f"{deviation.energy:.1e} in energy and {deviation.gradient:.1e} in force, worst at atoms "
                f'{", ".join(map(str, deviation.atoms))}: use backend="openmm" and report the System'
            )


def trial_positions(n_atoms: int, positions: Any = None, *, seed: int = 0) -> Tensor:
    """A few configurations, from slightly distorted to clashing, and one stretched, (n, n_atoms, 3), nm, float64.

    Arguments:
        positions: where to start from, (n_atoms, 3), in nm; without them the atoms are strewn at a molecule's density.

    Raises:
        InputError: if the positions have another shape.
    """
    generator = torch.Generator().manual_seed(seed)
    n = max(2, min(6, 600 // n_atoms))  # Reference needs seconds for a frame of a thousand atoms
    if positions is None:
        size = math.cbrt(n_atoms / 100)
        x = size * torch.rand(n, n_atoms, 3, dtype=torch.float64, generator=generator)
        return torch.cat([x, _STRETCHED * x[:1]])
    start = torch.tensor(np.asarray(magnitude(positions, "nanometer")), dtype=torch.float64)
    if start.shape != (n_atoms, 3):
        raise InputError(
            f"positions must have shape ({n_atoms}, 3), in nm; got {tuple(start.shape)}: pass those of this System"
        )
    distortions = torch.logspace(-2.5, -0.7, n, dtype=torch.float64)[:, None, None]
    noise = torch.randn(n, n_atoms, 3, dtype=torch.float64, generator=generator)
    x = start + distortions * noise
    middle = start.mean(0)
    return torch.cat([x, middle + _STRETCHED * (x[:1] - middle)])


def _reference(system: openmm.System, force: openmm.Force, x: Tensor) -> tuple[Tensor, Tensor]:
    """U and F of one force alone."""
    alone = openmm.System()
    for i in range(system.getNumParticles()):
        alone.addParticle(system.getParticleMass(i))
    alone.addForce(copy.deepcopy(force))
    frames = Frames(openmm.XmlSerializer.serialize(alone), "Reference", centred=False)
    U, F = frames.evaluate(x.detach().double().numpy(), forces=True)
    return torch.from_numpy(U), torch.from_numpy(F)


def _deviation(U: Tensor, F: Tensor, U_reference: Tensor, F_reference: Tensor) -> Deviation:
    comparable = torch.isfinite(U_reference)
    U, F, U_reference, F_reference = (v[comparable] for v in (U, F, U_reference, F_reference))
    energy = (U - U_reference).abs() / U_reference.abs().clamp_min(1.0)
    force = (F - F_reference).abs().amax(2) / F_reference.abs().amax((1, 2)).clamp_min(1.0)[:, None]
    energy, force = (torch.where(v.isnan(), torch.inf, v) for v in (energy, force))
    per_atom = force.amax(0) if len(force) else force.new_zeros(F.shape[1])
    worst = per_atom.argsort(descending=True)[:4].tolist()
    return Deviation(energy.max().item() if len(energy) else math.nan, per_atom.max().item(), worst)
