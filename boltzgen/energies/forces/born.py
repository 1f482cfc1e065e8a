"""Generalized Born implicit solvent in the form of Onufriev, Bashford and Case, with a surface term."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .force import PairForce
from .geometry import all_pairs, take_rows, total_rows

__all__ = ["GeneralizedBorn"]


class GeneralizedBorn(PairForce):
    """U = −τ [Σ_{i<j} q_i q_j / f_ij + ½ Σ_i q_i² / B_i] + Σ_i s_i / B_i⁶, f² = r² + B_i B_j exp(−r²/(4 B_i B_j)).

    The Born radii are 1/B = 1/ρ̃ − tanh(α ψ − β ψ² + γ ψ³)/ρ with ψ = ρ̃ Σ_j h_ij, where h is the integral of r⁻⁴/(4π)
    over the part of neighbour j's scaled sphere outside atom i:

        h = ½ [1/L − 1/R + ¼ (r − s²/r) (1/R² − 1/L²) + ½ log(L/R)/r],  L = max(ρ̃, |r − s|),  R = r + s,

    and 0 if R < ρ̃, the sphere lying within the atom.

    Arguments:
        charge: q in e, (n_atoms,).
        offset_radius, scaled_radius, radius: ρ̃, the neighbour's s, and ρ, in nm, (n_atoms,).
        surface: s_i of the surface term in kJ nm⁶/mol, (n_atoms,).
        polar: τ = (1/ε_solute − 1/ε_solvent)/(4π ε₀) in kJ nm/(mol e²).
        rescaling: (α, β, γ).
        engulfing: whether h of an atom that lies within its neighbour's sphere includes 1/ρ̃ − 1/L, as it should:
            `GBSAOBCForce` has that term, OpenMM's expressions for `CustomGBForce` do not.

    References:
        Hawkins, Cramer, Truhlar (1996), J. Phys. Chem. 100, 19824; Onufriev, Bashford, Case (2004), Proteins 55, 383.
    """

    bytes_per_pair = 170

    def __init__(
        self,
        charge: NDArray[np.float64],
        offset_radius: NDArray[np.float64],
        scaled_radius: NDArray[np.float64],
        radius: NDArray[np.float64],
        surface: NDArray[np.float64],
        *,
        polar: float,
        rescaling: tuple[float, float, float],
        engulfing: bool,
    ) -> None:
        super().__init__()
        i, j = all_pairs(len(charge))
        atom, neighbour = np.stack([i, j]), np.stack([j, i])  # each pair twice: j in the surroundings of i, i of j
        self.constants(
            atoms=atom,
            atom_radius=offset_radius[atom][..., None],
            neighbour_radius=scaled_radius[neighbour][..., None],
            pair_charge=-polar * (charge[i] * charge[j])[:, None],
            self_charge=-0.5 * polar * (charge * charge)[:, None],
            offset_radius=offset_radius[:, None],
            radius=radius[:, None],
            surface=surface[:, None],
        )
        self._n_atoms = len(charge)
        self._rescaling = rescaling
        self._engulfing = engulfing

    def evaluate(self, r: Tensor, inverse: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        pair_charge, self_charge, surface = self.read(r.dtype, "pair_charge", "self_charge", "surface")
        rho, radius = self.read(r.dtype, "offset_radius", "radius")
        alpha, beta, gamma = self._rescaling
        overlap, overlap_slope = self._overlap(r, inverse)
        psi = 0.25 * rho * self._by_atom(overlap)
        tanh = torch.tanh(psi * (alpha - psi * (beta - psi * gamma)))
        inverse_B = 1 / rho - tanh / radius
        inverse_B5 = inverse_B.square().square() * inverse_B
        inverse_BB = self._by_pair(inverse_B).prod(0)
        square = r * r
        minus_t = -0.25 * square * inverse_BB
        decay = torch.exp(minus_t)
        bump = decay / inverse_BB
        inverse_f = (square + bump).rsqrt()
        pair = pair_charge * inverse_f
        u = pair.sum(0) + (inverse_B * (self_charge + surface * inverse_B5)).sum(0)

        def gradient() -> Tensor:
            p = pair * inverse_f * inverse_f
            by_log = p * bump * (1 - minus_t)  # twice ∂u/∂ log(1/B), the same for both atoms
            by_inverse_B = 0.5 * self._by_atom(by_log.expand(2, -1, -1)) / inverse_B
            by_inverse_B = by_inverse_B + self_charge + 6 * surface * inverse_B5
            by_argument = by_inverse_B * (tanh * tanh - 1) / radius
            by_overlap = by_argument * (alpha - psi * (2 * beta - psi * 3 * gamma)) * 0.25 * rho
            through_radii = (self._by_pair(by_overlap) * overlap_slope()).sum(0)
            return torch.addcmul(through_radii, p * r, 0.25 * decay - 1)

        return u, gradient

    def _overlap(self, r: Tensor, inverse: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """4h of each pair, of i by j and of j by i, (2, n_pairs, n), and its derivative by r.

        R and L are kept from falling below ρ̃, where they make h = 0: torch.where would take several times as long.
        """
        rho, s = self.read(r.dtype, "atom_radius", "neighbour_radius")
        beyond = r - s
        inner = torch.maximum(rho, -beyond)  # above ρ̃ only if the atom lies within its neighbour's sphere
        upper, lower = torch.maximum(rho, r + s), torch.maximum(inner, beyond)
        q = 1 / (upper * lower)
        difference, total = (upper - lower) * q, (upper + lower) * q  # 1/L − 1/R and 1/L + 1/R
        half = 0.5 * s * s
        log = torch.log(lower / upper) * inverse
        h = torch.addcmul(log, difference, 2 - (0.5 * r - half * inverse) * total)
        if self._engulfing:
            h = h + 4 * (1 / rho - 1 / inner)

        def slope() -> Tensor:  # neither R nor L contributes: ∂h/∂R = 0, and so is ∂h/∂L unless L = ρ̃ or L = s − r
            dh = -torch.addcmul(log * inverse, difference * total, 0.5 + half * inverse * inverse)
            if not self._engulfing:
                dh = dh + torch.where(inner > rho, 4 / (inner * inner), 0.0)
            return dh

        return h, slope

    def _by_atom(self, values: Tensor) -> Tensor:
        """Sum over each atom's neighbours, (2, n_pairs, n) → (n_atoms, n)."""
        return total_rows(values.flatten(0, 1), self.atoms.flatten(), self._n_atoms)

    def _by_pair(self, values: Tensor) -> Tensor:
        """The values of both atoms of each pair, (n_atoms, n) → (2, n_pairs, n)."""
        return take_rows(values, self.atoms.flatten()).view(*self.atoms.shape, values.shape[1])
