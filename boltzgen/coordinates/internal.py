"""Internal coordinates of any connected molecule as a bijection with an exact measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError
from ..flows.bijection import Bijection
from .geometry import Placement, angle, azimuth, dihedral, distance, wrap
from .scales import harmonic_scales
from .symmetry import Rotor, centre_and_reach, confirmed, find_rotors, opposite_siblings
from .zmatrix import Row, z_matrix

if TYPE_CHECKING:
    from ..molecule import Molecule

__all__ = ["InternalCoordinates"]

_TINY = 1e-30  # keeps the logarithms of coordinates outside the chart finite, and their gradients with them
_STRAIGHT = math.sin(math.radians(10.0))
_TOUCHING = 1e-3  # nm


class InternalCoordinates(Bijection):
    """Bond lengths, angles and torsions of a molecule, y (n, 3N − 6) ↔ positions x (n, N, 3).

    y = [r₂ … r_N | θ₃ … θ_N | τ₄ … τ_N] in nm and rad, in the order of the rows of `zmatrix`. With rigid motion
    integrated out,

        log |det ∂x/∂y| = Σ 2 log r + Σ log sin θ − Σ log fold

    over all placed atoms, the first three included; its own constant, 8π² times the volume, is left out.

    The chart is r > 0, 0 < θ < π, and, of the atoms placed about one bond: the first has a circular torsion in [−π, π)
    (about a bond in a ring: a bounded one within π of the reference); the others are measured against it and stay on
    their side of it, less than π from each other, which fixes chirality and the labels of equivalent hydrogens. Where
    three equivalent atoms, found in the graph and confirmed by the energy, are only relabelled by a turn of 2π/3, the
    coordinate of the turn is y = 3 (ψ − ψ₀), ψ being the mean of their azimuths and ψ₀ its value in the reference: it
    has period 2π as well, and exactly one of the three labellings of a configuration lies in the chart.

    Outside the chart log_det is −inf, in both directions. `inverse` first relabels the atoms of folded rotors, so that
    `forward(inverse(x))` is `into_chart(x)` up to rigid motion.

    Arguments:
        molecule: connected, of at least three atoms; its positions decide on chirality, labels and what is planar.
        fold: whether to restrict symmetric rotors to one sector.

    Attributes:
        zmatrix: one `Row` per atom, in the order of placement.
        labels: name of each coordinate.
        circular: (3N − 6,) bool, true for coordinates of period 2π.
        reference: (3N − 6,) float64, y of the molecule's own positions.
        rotors: the folded ones.
        log_symmetry: Σ log fold: configurations come in so many copies, of which the chart holds one.
        molecule, n_atoms: as given, and N.

    Raises:
        InputError: if the molecule has fewer than three atoms, is not connected, or has angles near 0° or 180°.

    Example:
        >>> from boltzgen.molecule import Molecule
        >>> coordinates = InternalCoordinates(Molecule.load("alanine_dipeptide"))
        >>> y = coordinates.reference[None]
        >>> x, log_det = coordinates(y)
        >>> x.shape, round(coordinates.torsion(y, "phi").rad2deg().item())
        (torch.Size([1, 22, 3]), -143)

    References:
        Gō & Scheraga, Macromolecules 9, 535 (1976): the measure. Parsons et al., J. Comput. Chem. 26, 1063 (2005):
        placing atoms in frames.
    """

    circular: Tensor
    reference: Tensor
    _atoms: Tensor
    _first: Tensor
    _centre: Tensor
    _reach: Tensor
    _opposite: Tensor
    _members: Tensor
    _turns: Tensor
    _phase: Tensor

    def __init__(self, molecule: Molecule, *, fold: bool = True) -> None:
        n, names = molecule.n_atoms, molecule.atom_labels
        rows = z_matrix(n, molecule.bonds, molecule.elements, molecule.torsions, names)
        super().__init__(3 * n - 6, (n, 3))
        self.n_atoms, self.zmatrix = n, rows
        self.molecule = molecule
        self._placement = Placement(rows)
        self._constant("_atoms", [row[:4] for row in rows])
        number = {row.atom: i for i, row in enumerate(rows)}
        self._constant("_first", [number[row.torsion] - 2 if row.kind == "sibling" else 0 for row in rows[2:]])

        x = torch.tensor(molecule.positions, dtype=torch.float64)[None]
        r, theta, tau = self._measure(x.permute(2, 1, 0))
        _refuse_degenerate(rows, r[:, 0].tolist(), theta[:, 0].tolist(), names)
        azimuths = tau[:, 0].tolist()
        centre, reach = centre_and_reach(rows, azimuths)
        self._constant("_centre", torch.tensor(centre, dtype=torch.float64)[:, None])
        self._constant("_reach", torch.tensor(reach, dtype=torch.float64)[:, None])
        self._constant("_opposite", torch.tensor(opposite_siblings(rows, azimuths), dtype=torch.long).reshape(-1, 2).T)

        rotors = find_rotors(rows, azimuths, molecule.elements) if fold else []
        self.rotors: list[Rotor] = confirmed(rotors, molecule.energy(300.0).energy, x[0]) if rotors else []
        self.log_symmetry = len(self.rotors) * math.log(3)
        self._constant("_members", [rotor.members for rotor in self.rotors])
        self._constant("_turns", [[number[rotor.members[j]] - 3 for rotor in self.rotors] for j in range(3)])
        self._constant("_phase", self._mean_azimuth(self._centred(tau)) if self.rotors else [])

        folded = {rotor.members[0] for rotor in self.rotors}
        self._constant("circular", [False] * (2 * n - 3) + [row.kind == "circular" for row in rows[3:]])
        self._constant("reference", self._inverse(x, None)[0][0])
        self.labels = _labels(rows, names, folded)
        self._columns = {row[:4]: 2 * n - 3 + i for i, row in enumerate(rows[3:]) if row.atom not in folded}

    def _constant(self, name: str, value: Tensor | Sequence[object]) -> None:
        self.register_buffer(name, torch.as_tensor(value), persistent=False)  # built again from the molecule, not saved

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        y, n = z.T, self.n_atoms
        r, theta, tau = y[: n - 1], y[n - 1 : 2 * n - 3], y[2 * n - 3 :]
        log_det = self._log_det(r, theta, tau)
        if self.rotors:
            first, second, third = self._turns
            turned = wrap(tau[first]) / 3 + self._phase.to(tau) - (tau[second] + tau[third]) / 3
            tau = tau.index_copy(0, first, turned)
        phi = torch.cat([torch.zeros_like(r[:1]), tau])
        phi = phi + phi.index_select(0, self._first)  # siblings turn with their first; others add row 0, which is zero
        return self._placement(r, theta, phi).permute(2, 1, 0), log_det

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        r, theta, tau = self._measure(self._into_chart(x.permute(2, 1, 0)))
        tau = self._centred(tau)
        if self.rotors:
            folded = wrap(3 * (self._mean_azimuth(tau) - self._phase.to(tau)))
            tau = tau.index_copy(0, self._turns[0], folded)
        log_det = self._log_det(r, theta, tau)
        return torch.cat([r, theta, tau]).T, torch.where(torch.isfinite(log_det), -log_det, log_det)

    def _log_det(self, r: Tensor, theta: Tensor, tau: Tensor) -> Tensor:
        """log |det ∂x/∂y| (n,), −inf outside the chart."""
        side = self._reach.to(tau) - (tau - self._centre.to(tau)).abs()
        across = tau[self._opposite[0]] - tau[self._opposite[1]] - math.pi
        inside = (torch.cat([r, theta, math.pi - theta, side, across]) > 0).all(0)
        log_det = 2 * r.clamp_min(_TINY).log().sum(0) + theta.sin().clamp_min(_TINY).log().sum(0) - self.log_symmetry
        return torch.where(inside, log_det, torch.full_like(log_det, -math.inf))

    def _measure(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """r (N − 1, n), θ (N − 2, n), τ (N − 3, n) of x (3, N, n)."""
        a, b, c, d = (x.index_select(1, atoms[k:]) for k, atoms in zip(range(4), self._atoms.T, strict=True))
        return distance(a[:, 1:], b), angle(a[:, 2:], b[:, 1:], c), azimuth(a[:, 3:], b[:, 2:], c[:, 1:], d)

    def _centred(self, tau: Tensor) -> Tensor:
        centre = self._centre.to(tau)
        return centre + wrap(tau - centre)

    def _mean_azimuth(self, tau: Tensor) -> Tensor:
        """ψ of each rotor (rotors, n) from its own and its siblings' torsions: relabelling adds 2π/3 to it, exactly."""
        first, second, third = self._turns
        return tau[first] + (tau[second] + tau[third]) / 3

    def _into_chart(self, x: Tensor) -> Tensor:
        """x (3, N, n) with the members of each rotor taking the places of those that many sectors back."""
        if not self.rotors:
            return x
        psi = self._mean_azimuth(self._centred(self._measure(x)[2])) - self._phase.to(x)
        sector = torch.floor((psi + math.pi / 3) / (2 * math.pi / 3)).nan_to_num(0.0).long()
        order = torch.arange(self.n_atoms, device=x.device)[:, None].repeat(1, x.shape[2])
        for j in range(3):
            order[self._members[:, j]] = self._members.gather(1, (j - sector) % 3)
        return x.gather(1, order.expand_as(x))

    def into_chart(self, x: Tensor) -> Tensor:
        """The same configurations, atoms of folded rotors relabelled so as to lie in the chart.

        Arguments:
            x: positions (n, N, 3).

        Returns:
            (n, N, 3); its energy is that of x.

        Raises:
            InputError: if x has another shape.
        """
        _require_shape("x", x, self.out_shape)
        return self._into_chart(x.permute(2, 1, 0)).permute(2, 1, 0)

    def torsion(self, y: Tensor, atoms: str | Sequence[int]) -> Tensor:
        """Torsion angle in [−π, π), rad, of internal coordinates y (n, 3N − 6).

        Arguments:
            atoms: name of one of the molecule's torsions, or four atom indices.

        Returns:
            (n,).

        Raises:
            InputError: if there is no such torsion, or y has another shape.
        """
        _require_shape("y", y, self.in_shape)
        quadruple = self._quadruple(atoms)
        for key in (quadruple, quadruple[::-1]):
            if key in self._columns:
                return wrap(y[:, self._columns[key]])
        return dihedral(self._forward(y, None)[0], quadruple)

    def _quadruple(self, atoms: str | Sequence[int]) -> tuple[int, ...]:
        torsions = self.molecule.torsions
        if isinstance(atoms, str):
            if atoms not in torsions:
                known = ", ".join(torsions) or "none has a name"
                raise InputError(f"torsion must be one of the molecule's ({known}); got {atoms!r}: or pass four atoms")
            return tuple(torsions[atoms])
        quadruple = tuple(map(int, atoms))
        if len(quadruple) != 4 or len(set(quadruple)) != 4 or not all(0 <= k < self.n_atoms for k in quadruple):
            raise InputError(
                f"a torsion must be four different atoms below {self.n_atoms}; got {list(atoms)}: count them from 0"
            )
        return quadruple

    def harmonic_scales(self, temperature: float) -> tuple[Tensor, Tensor]:
        """Mean and lower Cholesky factor of the covariance of the stiff coordinates in the harmonic approximation.

        See `boltzgen.coordinates.scales.harmonic_scales`.

        Arguments:
            temperature: in K.

        Returns:
            mean (d,) and factor (d, d), float64, of the d coordinates that are not `circular`.
        """
        molecule = self.molecule.minimized()
        x = torch.tensor(molecule.positions, dtype=torch.float64)[None]
        return harmonic_scales(molecule.energy(temperature), self, self.circular, self.inverse(x)[0][0])


def _require_shape(name: str, value: Tensor, shape: Sequence[int]) -> None:
    if tuple(value.shape[1:]) != tuple(shape):
        expected = "(n, " + ", ".join(map(str, shape)) + ")"
        raise InputError(f"{name} must have shape {expected}; got {tuple(value.shape)}: pass one configuration per row")


def _refuse_degenerate(rows: Sequence[Row], r: Sequence[float], theta: Sequence[float], names: Sequence[str]) -> None:
    for row, length in zip(rows[1:], r, strict=True):
        if not length > _TOUCHING:
            a, b = names[row.atom], names[row.bond]
            raise InputError(f"bonded atoms must be apart; got {a} and {b} at {length:.2g} nm: check the positions")
    for row, value in zip(rows[2:], theta, strict=True):
        if not math.sin(value) > _STRAIGHT:
            atoms = " - ".join(names[k] for k in row[:3])
            raise InputError(
                f"angles must stay away from 0 and 180 degrees; got {math.degrees(value):.1f} for {atoms}: "
                "molecules with linear groups have no such coordinates yet"
            )


def _labels(rows: Sequence[Row], names: Sequence[str], folded: set[int]) -> list[str]:
    words = {"circular": "torsion", "ring": "torsion", "sibling": "improper"}
    torsions = [("rotor" if row.atom in folded else words[row.kind], row[:4]) for row in rows[3:]]
    columns = [("bond", row[:2]) for row in rows[1:]] + [("angle", row[:3]) for row in rows[2:]] + torsions
    return [" ".join([word, *(names[k] for k in atoms)]) for word, atoms in columns]
