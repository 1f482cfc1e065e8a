"""How far each stiff coordinate strays, and with which others: in the harmonic approximation, or in frames."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from ..energies.energy import Energy
from ..errors import EnergyError
from ..flows.bijection import Bijection
from ..units import kT

__all__ = ["frame_scales", "harmonic_scales"]

_FORCE_CONSTANTS = 3e5, 400.0, 100.0
"""Typical ones of bonds (kJ/mol/nm²), angles and torsions (kJ/mol/rad²): the units in which curvature is judged."""
_SOFTEST = 0.05  # of the typical curvature
_STEP = 1e-4  # nm or rad, of central differences of the gradient
_CONVERGED = 1e-6  # kT still to be gained
_ITERATIONS = 20
_OFF_THE_POLES = 1.5  # standard deviations that the mean of an angle keeps from 0 and π, where its measure vanishes
_FEWEST = 2  # frames for each coordinate: with as many as coordinates, widths in some directions come out near zero
_STILL = 0.05  # of the harmonic variance


def harmonic_scales(energy: Energy, coordinates: Bijection, circular: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean m and Cholesky factor L of the normal law N(m, L Lᵀ) that exp(−u(x(y))) resembles near its minimum.

    With the circular coordinates fixed at y, the stiff ones are minimised by Newton steps; L Lᵀ is the inverse of their
    Hessian H there. H is judged in units of typical force constants k, as (kT/k)^½ H (kT/k)^½: eigenvalues below 0.05,
    negative ones included, are raised to 0.05, so that a flat or unstable direction is about four times as wide as a
    typical force constant would let it be. An angle whose minimum is at a pole, as of a guest on the axis of its host,
    has its mean beside it. H comes from central differences of the gradient, all in one batch: no
    second derivative of the energy is needed.

    Arguments:
        energy: u(x) at the temperature wanted.
        coordinates: y ↦ x, bonds first, then angles, then torsions.
        circular: (d,) bool.
        y: (d,) float64, near a minimum.

    Returns:
        m (s,) and L (s, s), float64, s the number of coordinates that are not circular.

    Raises:
        EnergyError: if the energy is not finite at y, or y lies outside the chart.
    """
    stiff = (~circular).nonzero()[:, 0]
    typical = torch.tensor(_FORCE_CONSTANTS, dtype=torch.float64)
    n_bonds = len(y) // 3 + 1
    counts = torch.tensor([n_bonds, n_bonds - 1, n_bonds - 2])
    unit = (kT(energy.temperature) / typical).sqrt().repeat_interleave(counts)[stiff]

    def evaluate(y: Tensor) -> tuple[Tensor, Tensor]:
        """u and its gradient in the stiff coordinates, in their units."""
        y = y.detach().requires_grad_()
        x, log_det = coordinates.forward(y)
        u = torch.where(torch.isfinite(log_det), energy.energy(x), torch.inf)
        (gradient,) = torch.autograd.grad(u.sum(), y)
        return u.detach(), gradient[:, stiff] * unit

    def curvature(y: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues and eigenvectors of the Hessian in the units of the stiff coordinates."""
        steps = torch.zeros(len(stiff), len(y), dtype=y.dtype)
        steps[torch.arange(len(stiff)), stiff] = _STEP
        ahead, behind = evaluate(torch.cat([y + steps, y - steps]))[1].chunk(2)
        hessian = unit[:, None] * (ahead - behind) / (2 * _STEP)
        values, vectors = torch.linalg.eigh((hessian + hessian.T) / 2)
        return values.clamp_min(_SOFTEST), vectors

    y = y.clone()
    u, gradient = evaluate(y[None])
    if not torch.isfinite(u).all():
        raise EnergyError(
            "the energy of the minimised structure must be finite; got inf: check positions and force field"
        )
    for _ in range(_ITERATIONS):
        values, vectors = curvature(y)
        step = -vectors @ (vectors.T @ gradient[0] / values)
        if -step @ gradient[0] / 2 < _CONVERGED:
            break
        trials = y.repeat(12, 1)
        trials[:, stiff] += 0.5 ** torch.arange(12)[:, None] * (unit * step)
        u_trials, gradients = evaluate(trials)
        best = int(u_trials.argmin())
        if u_trials[best] >= u[0]:
            break
        y, u, gradient = trials[best], u_trials[best : best + 1], gradients[best : best + 1]
    covariance = unit[:, None] * (vectors / values) @ vectors.T * unit
    angle = (stiff >= n_bonds) & (stiff < 2 * n_bonds - 1)
    margin = torch.where(angle, (_OFF_THE_POLES * covariance.diagonal().sqrt()).clamp_max(math.pi / 2), -math.inf)
    return y[stiff].clamp(margin, math.pi - margin), torch.linalg.cholesky(covariance)


def frame_scales(y: Tensor, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and Cholesky factor of the covariance C of the stiff coordinates in frames, for those of `harmonic_scales`.

    They hold all wells that the frames visit: rings that pucker, amines that invert. C is judged in units of the
    harmonic approximation, as L⁻¹ C L⁻ᵀ: where an eigenvalue is below 0.05 the frames do not move (bonds that were
    constrained, say), and the harmonic width stands. Fewer different frames than two for each coordinate say too
    little, and what was given is returned.

    Arguments:
        y: stiff coordinates of the frames, (m, s).
        mean, factor: of the harmonic approximation, (s,) and L (s, s).

    Returns:
        (s,) and lower triangular (s, s), float64.

    Warns:
        UserWarning: if the frames are too few.
    """
    different, needed = len(torch.unique(y, dim=0)), _FEWEST * y.shape[1]
    if different < needed:
        warnings.warn(
            f"frames must be at least {needed} different ones to tell how {y.shape[1]} stiff coordinates vary; got "
            f"{different}: the harmonic scales are taken",
            UserWarning,
            stacklevel=3,
        )
        return mean, factor
    z = torch.linalg.solve_triangular(factor, (y.double() - y.double().mean(0)).T, upper=False)
    values, vectors = torch.linalg.eigh(z @ z.T / (len(y) - 1))
    spread = factor @ vectors * torch.where(values < _STILL, 1.0, values).sqrt()
    return y.double().mean(0), torch.linalg.cholesky(spread @ spread.T)
