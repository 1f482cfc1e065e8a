"""Generalized Born implicit solvent in the form of Onufriev, Bashford and Case, with a surface term."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .force import Force
from .geometry import Frames

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
        q, o, s = (np.asarray(v, dtype=np.float64) for v in (charge, offset_radius, scaled_radius))
        n = len(q)
        i, j = np.triu_indices(n, 1)
        a, b = np.concatenate([i, j]), np.concatenate([j, i])
        self.constants(
            i=i,
            j=j,
            pair=np.tile(np.arange(len(i)), 2),
            incidence=(a == np.arange(n)[:, None]).astype(np.float64),
            inner=o[a, None],
            outer=s[b, None],
            pair_charge=-polar * (q[i] * q[j])[:, None],
            self_charge=-0.5 * polar * (q * q)[:, None],
            offset_radius=o[:, None],
            inverse_radius=1 / np.asarray(radius, dtype=np.float64)[:, None],
            surface=np.asarray(surface, dtype=np.float64)[:, None],
        )
        self.rescaling = rescaling
        self.engulfing = engulfing

    def forward(self, frames: Frames) -> Tensor:
        pair_charge, self_charge, surface = self.read(frames, "pair_charge", "self_charge", "surface")
        r2 = frames.pairs().squared
        inverse_B = 1 / self.radii(frames)
        inverse_bb = inverse_B.index_select(0, self.i) * inverse_B.index_select(0, self.j)
        f2 = r2 + torch.exp(-0.25 * r2 * inverse_bb) / inverse_bb
        u = (pair_charge * f2.rsqrt()).sum(0)
        return u + (self_charge * inverse_B + surface * inverse_B**6).sum(0)

    def radii(self, frames: Frames) -> Tensor:
        """Born radii B, (n_atoms, n), in nm."""
        rho, inverse_radius, incidence = self.read(frames, "offset_radius", "inverse_radius", "incidence")
        alpha, beta, gamma = self.rescaling
        psi = rho * (incidence @ self._overlap(frames))
        return 1 / (1 / rho - torch.tanh(psi * (alpha - psi * (beta - psi * gamma))) * inverse_radius)

    def _overlap(self, frames: Frames) -> Tensor:
        o, s = self.read(frames, "inner", "outer")
        pairs = frames.pairs()
        r, inverse = pairs.distance.index_select(0, self.pair), pairs.inverse.index_select(0, self.pair)
        upper = r + s
        near = torch.maximum(o, (r - s).abs())
        inverse_l, inverse_u = 1 / near, 1 / upper
        h = 0.5 * (
            (inverse_l - inverse_u) * (1 - 0.25 * (r - s * s * inverse) * (inverse_l + inverse_u))
            + 0.5 * inverse * torch.log(near * inverse_u)
        )
        if self.engulfing:
            h = h + torch.where(o < s - r, 1 / o - inverse_l, 0.0)
        return torch.where(upper >= o, h, 0.0)
