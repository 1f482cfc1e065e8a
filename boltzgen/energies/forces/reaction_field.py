"""Lennard-Jones and Coulomb interactions up to a cutoff, beyond which there is a dielectric continuum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openmm
import torch
from torch import Tensor

from ...errors import UnsupportedSystemError
from .force import Force, numbers
from .nonbonded import NonbondedPairs, pair_parameters

__all__ = ["ReactionFieldPairs", "nonbonded_pairs"]


class ReactionFieldPairs(NonbondedPairs):
    """U = Σ_{r<r_c} S(r) 4 ε [(σ/r)¹² − (σ/r)⁶] + q_i q_j/(4π ε₀) [1/r + k r² − c], and exceptions without a cutoff.

    k = (ε_s − 1)/((2 ε_s + 1) r_c³) and c = 3 ε_s/((2 ε_s + 1) r_c) for a solvent of dielectric constant ε_s; the
    switching function S = 1 − x³ (10 − 15 x + 6 x²), x = (r − r_s)/(r_c − r_s), takes the first term smoothly to 0.
    Without it U jumps at r_c.

    References:
        Tironi, Sperb, Smith & van Gunsteren (1995), J. Chem. Phys. 102, 5451.
    """

    bytes_per_pair = 170

    def __init__(self, force: openmm.NonbondedForce) -> None:
        super().__init__(force)
        excepted = pair_parameters(force)[1][:, None]
        self._cutoff, self._switch = numbers([force.getCutoffDistance(), force.getSwitchingDistance()])
        self._switched = bool(force.getUseSwitchingFunction())
        dielectric = force.getReactionFieldDielectric()
        self._curvature = (dielectric - 1) / (2 * dielectric + 1) / self._cutoff**3
        self._shift = 3 * dielectric / (2 * dielectric + 1) / self._cutoff
        charge = self.read(torch.float64, "charge")[0].numpy()
        self.constants(reach=np.where(excepted, np.inf, self._cutoff), field=np.where(excepted, 0.0, charge))

    def evaluate(self, r: Tensor, inverse: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        charge, size, depth, reach, field = self.read(r.dtype, "charge", "size", "depth", "reach", "field")
        s = size * (inverse * inverse) ** 3
        attraction, coulomb = depth * s, charge * inverse
        inside = r < reach
        pair = attraction * (s - 1)
        x = torch.where(torch.isinf(reach), 0.0, (r - self._switch) / (self._cutoff - self._switch)).clamp(0, 1)
        switch = 1 - x**3 * (10 - x * (15 - 6 * x)) if self._switched else torch.ones_like(r)
        u = switch * pair + coulomb + field * (self._curvature * r * r - self._shift)

        def gradient() -> Tensor:
            slope = -inverse * (switch * attraction * (12 * s - 6) + coulomb) + 2 * self._curvature * field * r
            if self._switched:
                slope = slope - pair * 30 * (x * (1 - x)).square() / (self._cutoff - self._switch)
            return torch.where(inside, slope, 0.0)

        return torch.where(inside, u, torch.where(r.isnan(), r, 0.0)).sum(0), gradient


def nonbonded_pairs(force: openmm.NonbondedForce) -> Force:
    """The force with or without a cutoff.

    Raises:
        UnsupportedSystemError: for periodic methods.
    """
    if force.getNonbondedMethod() == openmm.NonbondedForce.NoCutoff:
        return NonbondedPairs(force)
    if force.getNonbondedMethod() == openmm.NonbondedForce.CutoffNonPeriodic:
        return ReactionFieldPairs(force)
    raise UnsupportedSystemError(
        f"{force.getName()} must use NoCutoff or CutoffNonPeriodic; got a periodic method: create the System with "
        "nonbondedMethod=NoCutoff"
    )
