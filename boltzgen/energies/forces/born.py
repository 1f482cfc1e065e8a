"""Generalized Born implicit solvent in the form of Onufriev, Bashford and Case, with a surface term."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .force import Force
from .geometry import Frames, take_rows, total_rows
from .gradient import evaluate

__all__ = ["GeneralizedBorn"]


class GeneralizedBorn(Force):
    """U = −½ τ Σ_ij q_i q_j / f_ij + Σ_i s_i / B_i⁶ with f² = r² + B_i B_j exp(−r²/(4 B_i B_j)).

    The Born radii are 1/B = 1/ρ̃ − tanh(α ψ − β ψ² + γ ψ³)/ρ, ψ = ρ̃ I, and I sums the overlap of atom i's
    surroundings with every other atom's scaled sphere (Hawkins, Cramer and Truhlar).

    Arguments:
        charge, offset_radius, scaled_radius, radius: q in e, ρ̃, the screening radius and ρ in nm, (n_atoms,).
        surface: s in kJ nm⁶/mol, (n_atoms,).
        polar: τ, (1/ε_solute − 1/ε_solvent)/(4π ε₀) in kJ nm/(mol e²).
        rescaling: (α, β, γ).
        engulfing: whether an atom inside another's scaled sphere is screened by all of it, as `GBSAOBCForce`
            does and OpenMM's expression for `CustomGBForce` does not.

    References:
        Onufriev, Bashford, Case (2004), Proteins 55, 383, eqs. 5–7.
    """

    def __init__(
        self,
        charge: ArrayLike,
        offset_radius: ArrayLike,
        scaled_radius: ArrayLike,
        radius: ArrayLike,
        surface: ArrayLike,
        *,
        polar: float,
        rescaling: tuple[float, float, float],
        engulfing: bool,
    ) -> None:
        super().__init__()
        q, rho, s = (np.asarray(v, dtype=np.float64) for v in (charge, offset_radius, scaled_radius))
        i, j = np.triu_indices(len(q), 1)
        atom, neighbour = np.concatenate([i, j]), np.concatenate([j, i])
        self.constants(
            atom=atom,
            atom_radius=rho[atom].reshape(2, -1, 1),
            neighbour_radius=s[neighbour].reshape(2, -1, 1),
            pair_charge=-polar * (q[i] * q[j])[:, None],
            self_charge=-0.5 * polar * (q * q)[:, None],
            offset_radius=rho[:, None],
            radius=np.asarray(radius, dtype=np.float64)[:, None],
            surface=np.asarray(surface, dtype=np.float64)[:, None],
        )
        self.rescaling = rescaling
        self.engulfing = engulfing

    def forward(self, frames: Frames) -> Tensor:
        return evaluate(self._evaluate, frames.distances())

    def _evaluate(self, r: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        pair_charge, self_charge, rho, radius, surface = self.read(
            r.dtype, "pair_charge", "self_charge", "offset_radius", "radius", "surface"
        )
        alpha, beta, gamma = self.rescaling
        overlap, overlap_slope = self._overlap(r)
        psi = rho * total_rows(overlap.flatten(0, 1), self.atom, len(rho))
        tanh = torch.tanh(psi * (alpha - psi * (beta - psi * gamma)))
        inverse_B = 1 / rho - tanh / radius
        inverse_bb = take_rows(inverse_B, self.atom).view(2, len(r), -1).prod(0)
        t = 0.25 * r * r * inverse_bb
        screening = torch.exp(-t)
        e = screening / inverse_bb
        inverse_f2 = 1 / (r * r + e)
        pair = pair_charge * inverse_f2.sqrt()
        inverse_B5 = inverse_B**5
        u = pair.sum(0) + (inverse_B * (self_charge + surface * inverse_B5)).sum(0)

        def gradient() -> Tensor:
            p = 0.5 * pair * inverse_f2
            born = p * e * (1 + t)  # ∂u/∂ log(1/B) of either atom
            by_B = total_rows(born.repeat(2, 1), self.atom, len(rho)) / inverse_B
            by_B = by_B + self_charge + 6 * surface * inverse_B5
            by_overlap = by_B * (tanh * tanh - 1) * (alpha - psi * (2 * beta - psi * (3 * gamma))) * (rho / radius)
            chain = (take_rows(by_overlap, self.atom).view(overlap.shape) * overlap_slope()).sum(0)
            return chain - 2 * p * (1 - 0.25 * screening) * r

        return u, gradient

    def _overlap(self, r: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """The share of each pair in I, (2, n_pairs, n): of i by j, then of j by i; and its derivative by r.

        h = ½ [1/L − 1/U + ¼ (r − s²/r) (1/U² − 1/L²) + ½ log(L/U)/r], U = r + s, L = max(ρ̃, |r − s|).
        """
        rho, s = self.read(r.dtype, "atom_radius", "neighbour_radius")
        inverse = 1 / r
        upper, lower = r + s, torch.maximum(rho, (r - s).abs())
        q = 1 / (upper * lower)
        difference, total = (upper - lower) * q, (upper + lower) * q
        s2 = s * s
        logarithm = torch.log(lower * lower * q) * inverse
        h = 0.5 * (difference * (1 - 0.25 * (r - s2 * inverse) * total)) + 0.25 * logarithm
        outside, engulfed = upper < rho, s - r > rho
        if self.engulfing:
            h = h + torch.where(engulfed, 1 / rho - upper * q, 0.0)

        def slope() -> Tensor:  # h does not change with U, nor with L unless engulfed
            dh = -0.25 * (0.5 * (1 + s2 * inverse * inverse) * difference * total + logarithm * inverse)
            if not self.engulfing:
                dh = dh + torch.where(engulfed, (upper * q).square(), 0.0)
            return torch.where(outside, 0.0, dh)

        return torch.where(outside, 0.0, h), slope
