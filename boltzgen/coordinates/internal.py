"""Internal coordinates of any molecule, or a few held together, as a bijection with an exact measure."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import four_atoms
from ..errors import InputError
from ..flows.bijection import Bijection
from .copies import find_copies
from .folding import Folding
from .frames import in_chart
from .geometry import angle, azimuth, dihedral, distance, wrap
from .invariance import refuse_fields
from .linear import CarriedFrames, refuse_degenerate, straight_centres
from .linking import links
from .placement import Placement
from .scales import frame_scales, harmonic_scales
from .symmetry import Rotor, centre_and_reach, opposite_siblings, ring_hands
from .zmatrix import labels, neighbours_of, z_matrix

if TYPE_CHECKING:
    from ..molecule import Molecule

__all__ = ["InternalCoordinates"]

_TINY = 1e-30  # keeps the logarithms of coordinates outside the chart finite, and their gradients with them


class InternalCoordinates(Bijection):
    """Bond lengths, angles and torsions of a molecule, y (n, 3N − 6) ↔ positions x (n, N, 3).

    y = [r₂ … r_N | θ₃ … θ_N | τ₄ … τ_N] in nm and rad, in the order of the rows of `zmatrix`. With rigid motion
    integrated out,

        log |det ∂x/∂y| = Σ 2 log r + Σ log sin θ − Σ log k

    over all placed atoms, the first three included; its own constant, 8π² times the volume, is left out.

    The chart is r > 0, 0 < θ < π, and, of the atoms placed about one bond: the first has a circular torsion in [−π, π)
    (about a bond in a ring: a bounded one within π of the reference); the others are measured against it and stay on
    their side of it, less than π from each other, which fixes chirality and the labels of equivalent hydrogens, as do
    signs of volumes where a ring bond closes; only amines may invert, −NH₂ by an exchange of its hydrogens. Beyond a
    straight angle (alkynes, nitriles, allenes) two angles measured across the line take the place of θ and τ, so that
    it is no pole. Where a turn by 2π/k only relabels like branches at either end of a bond (three of a methyl or of
    t-butyl, two of a phenyl or a carboxylate, or both: then k = 6), found in the graph and confirmed by the energy, the
    coordinate of the turn is y = k (ψ − ψ₀), ψ being τ with the mean azimuths of the branches and ψ₀ its value in the
    reference: it has period 2π as well, and exactly one of the k labellings of a configuration lies in the chart. (Of
    branches towards the root it may be none where these are bent out of all shape, at hundreds of kT.)
    (AMBER's impropers name one of two like atoms first, which makes them unlike: those turns are not folded.)

    Outside the chart log_det is −inf, in both directions. `inverse` first relabels atoms, so that
    `forward(inverse(x))` is `into_chart(x)` up to rigid motion.

    Arguments:
        molecule: of at least three atoms; its positions decide on chirality, labels and what is planar. Several
            molecules are tied to each other at atoms of one neighbour (`links`).
        fold: whether to restrict symmetric rotors to one sector.
        hold: names of torsions to keep within π/2 of the reference: ["omega_1"] keeps an amide bond trans, or cis. They
            are stiff coordinates then, and log Z is that of this part of the configurations alone.

    Attributes:
        zmatrix: one `Row` per atom, in the order of placement.
        labels: name of each coordinate.
        circular: (3N − 6,) bool, true for coordinates of period 2π.
        reference: (3N − 6,) float64, y of the molecule's own positions.
        rotors: the folded ones.
        exchanges: pairs of hydrogens of −NH₂ of which one labelling is in the chart, confirmed by the energy as well:
            an inversion of the pyramid leads to the other.
        log_symmetry: Σ log k + log 2 for each of the exchanges: the configurations that a molecule passes through come
            in so many copies, of which the chart holds one. Not counted are copies that no motion leads to while bonds
            hold: the hydrogens of CH₂ exchanged, those of CH₃ in the order of its mirror image, the enantiomer. A
            molecule is in one of these for good, the constant would be the same for all its states.
        molecule, n_atoms: as given, and N.

    Raises:
        InputError: if the molecule has fewer than three atoms, lies on one line, or has a centre with neighbours
            opposite each other among others; or if there is no such torsion to hold.
        UnsupportedSystemError: if its energy changes with where the molecule is or how it is turned, as in an external
            field or with a restraint to a place.

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
    _hands: Tensor

    def __init__(self, molecule: Molecule, *, fold: bool = True, hold: Sequence[str] = ()) -> None:
        if not hasattr(molecule, "bonds"):
            raise InputError(f"molecule must be a Molecule; got {molecule!r}: use Molecule.load or Molecule.from_pdb")
        n, names, elements = molecule.n_atoms, molecule.atom_labels, molecule.elements
        linear = straight_centres(np.asarray(molecule.positions), molecule.bonds)
        tied = links(np.asarray(molecule.positions), molecule.bonds, names)
        rows = z_matrix(n, [*molecule.bonds, *tied], elements, molecule.torsions, names, linear)
        super().__init__(3 * n - 6, (n, 3))
        self.n_atoms, self.zmatrix = n, rows
        self.molecule = molecule
        self._placement = Placement(rows)
        self._carried = CarriedFrames(rows)
        self._constant("_atoms", [row[:4] for row in rows])
        number = {row.atom: i for i, row in enumerate(rows)}
        self._constant("_first", [number[row.torsion] - 2 if row.kind == "sibling" else 0 for row in rows[2:]])

        x = torch.tensor(molecule.positions, dtype=torch.float64)[None]
        refuse_fields(molecule, x)
        r, theta, tau = self._measure(x.permute(2, 1, 0))
        refuse_degenerate(rows, r[:, 0].tolist(), theta[:, 0].tolist(), names)
        azimuths = tau[:, 0].tolist()
        held = self._held([hold] if isinstance(hold, str) else hold)
        neighbours = neighbours_of(n, molecule.bonds)
        turns, self.exchanges, turned = find_copies(molecule, rows, azimuths, neighbours, held, fold=fold)
        self.rotors: list[Rotor] = [*itertools.chain(*turns.values())]
        centre, reach = centre_and_reach(rows, azimuths, turned, held)
        self._constant("_centre", torch.tensor(centre, dtype=torch.float64)[:, None])
        self._constant("_reach", torch.tensor(reach, dtype=torch.float64)[:, None])
        self._holding = [(row[:4], round(v, 1)) for row, v in zip(rows[3:], centre, strict=True) if row.atom in held]
        self._constant("_opposite", torch.tensor(opposite_siblings(rows, azimuths), dtype=torch.long).reshape(-1, 2).T)
        hands = ring_hands(rows, elements, neighbours, x[0].numpy())
        self._constant("_hands", torch.tensor(hands, dtype=torch.long).reshape(-1, 4).T)

        self._log_fold = sum(math.log(len(rotor.members)) for rotor in self.rotors)
        self.log_symmetry = self._log_fold + len(self.exchanges) * math.log(2)
        relabelled = bool(turns or self.exchanges)
        self._folding = Folding(turns, rows, theta, self._centred(tau), self.exchanges) if relabelled else None

        self._constant(
            "circular", [False] * (2 * n - 3) + [row.kind == "circular" and row.atom not in held for row in rows[3:]]
        )
        self._constant("reference", self._inverse(x, None)[0][0])
        self.labels = labels(rows, names, turns.keys(), tied)
        other = turns.keys() | {row.atom for row in self._carried.rows}
        self._columns = {row[:4]: 2 * n - 3 + i for i, row in enumerate(rows[3:]) if row.atom not in other}

    def _constant(self, name: str, value: Tensor | Sequence[object]) -> None:
        self.register_buffer(name, torch.as_tensor(value), persistent=False)  # built again from the molecule, not saved

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        n = self.n_atoms
        r, theta, tau = torch.split(z.T.contiguous(), [n - 1, n - 2, n - 3])
        log_det = self._log_det(r, theta, tau)
        if self._folding is not None:
            tau = self._folding.unfold(theta, tau)
        phi = torch.cat([torch.zeros_like(r[:1]), tau])
        phi = phi + phi.index_select(0, self._first)  # siblings turn with their first; others add row 0, which is zero
        x = self._placement(r, theta, phi)
        return _numbers(x.permute(2, 1, 0)), self._same_hands(x, log_det)

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        x = self._into_chart(x.permute(2, 1, 0))
        r, theta, tau = self._measure(x)
        tau = self._centred(tau)
        if self._folding is not None:
            tau = self._folding.fold(theta, tau)
        log_det = self._same_hands(x, self._log_det(r, theta, tau))
        return _numbers(torch.cat([r, theta, tau]).T), torch.where(torch.isfinite(log_det), -log_det, log_det)

    def _log_det(self, r: Tensor, theta: Tensor, tau: Tensor) -> Tensor:
        """log |det ∂x/∂y| (n,), −inf outside the chart."""
        within = [(margins > 0).all(0) for margins in self._margins(r, theta, tau)]
        inside = torch.stack(within).all(0)
        first, others = torch.split(r, [1, len(theta)])
        volumes = torch.cat([first.square(), others.square() * theta.sin()])  # r² sin θ; the first atom has no θ
        log_det = volumes.clamp_min(_TINY).log().sum(0) - self._log_fold
        return torch.where(inside & log_det.isfinite(), log_det, torch.full_like(log_det, -math.inf))

    def _margins(self, r: Tensor, theta: Tensor, tau: Tensor) -> tuple[Tensor, ...]:
        """What is positive inside the chart, (many, n) each."""
        side = self._reach.to(tau) - (tau - self._centre.to(tau)).abs()
        across = tau[self._opposite[0]] - tau[self._opposite[1]] - math.pi
        return r, theta, math.pi - theta, side, across

    def _volumes(self, x: Tensor) -> Tensor:
        """Of the triples of neighbours where a ring bond ends, x (3, N, n): positive if handed like the reference."""
        centre, *around = (x.index_select(1, atoms) for atoms in self._hands)
        a, b, c = (v - centre for v in around)
        volumes: Tensor = (torch.linalg.cross(a, b, dim=0) * c).sum(0)
        return volumes

    def _same_hands(self, x: Tensor, log_det: Tensor) -> Tensor:
        """log_det, −inf where x (3, N, n) has another handedness than the reference at the end of a ring bond."""
        if not self._hands.numel():
            return log_det
        same = (self._volumes(x) > 0).all(0)
        return torch.where(same, log_det, torch.full_like(log_det, -math.inf))

    def _measure(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """r (N − 1, n), θ (N − 2, n), τ (N − 3, n) of x (3, N, n)."""
        a, b, c, d = (x.index_select(1, atoms[k:]) for k, atoms in zip(range(4), self._atoms.T, strict=True))
        theta, tau = angle(a[:, 2:], b[:, 1:], c), azimuth(a[:, 3:], b[:, 2:], c[:, 1:], d)
        if self._carried:
            theta, tau = self._carried.measure(x, theta, tau)
        return distance(a[:, 1:], b), theta, tau

    def _centred(self, tau: Tensor) -> Tensor:
        centre = self._centre.to(tau)
        return centre + wrap(tau - centre)

    def _into_chart(self, x: Tensor) -> Tensor:
        """`into_chart` of x (3, N, n)."""
        if self._folding is None:
            return x

        def measure(x: Tensor) -> tuple[Tensor, Tensor]:
            _, theta, tau = self._measure(x)
            return theta, self._centred(tau)

        return self._folding.into_chart(x, measure)

    def into_chart(self, x: Tensor) -> Tensor:
        """The same configurations, equivalent atoms relabelled so as to lie in the chart.

        Arguments:
            x: positions (n, N, 3).

        Returns:
            (n, N, 3); its energy is that of x.

        Raises:
            InputError: if x has another shape.
        """
        _require_shape("x", x, self.out_shape)
        return self._into_chart(x.permute(2, 1, 0)).permute(2, 1, 0)

    def leaks(self, x: Tensor) -> dict[str, int]:
        """How many configurations lie outside the chart, by what takes them there: a coordinate, or a ring's centre.

        Arguments:
            x: positions (n, N, 3), of whatever labelling of equivalent atoms.

        Returns:
            Counts by name, the most frequent first; a configuration may leave by several ways at once.

        Raises:
            InputError: if x has another shape.
        """
        _require_shape("x", x, self.out_shape)
        inside = self._into_chart(x.permute(2, 1, 0))
        r, theta, tau = self._measure(inside)
        out = [~(margins > 0) for margins in self._margins(r, theta, self._centred(tau))]
        n, names = self.n_atoms, [*self.labels]
        names[2 * n - 3 : 2 * n - 3] = self.labels[n - 1 : 2 * n - 3]  # an angle may leave at either end
        names += [self.labels[2 * n - 3 + k] for k in self._opposite[1].tolist()]
        if self._hands.numel():
            out.append(~(self._volumes(inside) > 0))
            names += [f"handedness of {self.molecule.atom_labels[k]}" for k in self._hands[0].tolist()]
        found: dict[str, Tensor] = {}
        for name, leaving in zip(names, torch.cat(out), strict=True):
            found[name] = found.get(name, torch.zeros_like(leaving)) | leaving
        counts = {name: int(leaving.sum()) for name, leaving in found.items()}
        return {name: k for name, k in sorted(counts.items(), key=lambda item: -item[1]) if k}

    @property
    def fingerprint(self) -> str:
        """Tells one chart from another: the same y means the same configuration wherever this is the same.

        The z-matrix, the hands of stereocentres, the labels of atoms, and (rounded to 0.1 rad) the sectors of rotors
        and what is held enter it; bond lengths and angles of the molecule's own positions do not.
        """
        centres = zip(self.zmatrix[3:], self._centre[:, 0].tolist(), strict=True)
        sides = [round(centre, 3) for row, centre in centres if row.kind == "sibling"]
        sectors = [] if self._folding is None else self._folding.sectors
        chart = (self.zmatrix, sides, self._hands.tolist(), self.rotors, [round(s, 1) for s in sectors])
        chart += (self._holding,) if self._holding else ()
        return hashlib.sha256(repr(chart).encode()).hexdigest()

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

    def _held(self, hold: Sequence[str]) -> set[int]:
        """The atoms placed by these torsions."""
        own = [row for row in self.zmatrix if row.kind in ("circular", "ring") and row not in self._carried.rows]
        placed: dict[tuple[int, ...], int] = {atoms: row.atom for row in own for atoms in (row[:4], row[3::-1])}
        held = [(name, placed.get(self._quadruple(name))) for name in hold]
        for name, atom in held:
            if atom is None:
                raise InputError(
                    f"hold must name torsions that are coordinates of their own; got {name!r}, which follows from "
                    "others: hold the one about the same bond that `labels` has"
                )
        return {atom for _, atom in held if atom is not None}

    def _quadruple(self, atoms: str | Sequence[int]) -> tuple[int, ...]:
        torsions = self.molecule.torsions
        if isinstance(atoms, str):
            if atoms not in torsions:
                known = ", ".join(torsions) or "none has a name"
                raise InputError(f"torsion must be one of the molecule's ({known}); got {atoms!r}: or pass four atoms")
            return tuple(torsions[atoms])
        return four_atoms(atoms, self.n_atoms)

    def harmonic_scales(self, temperature: float) -> tuple[Tensor, Tensor]:
        """Mean and lower Cholesky factor of the covariance of the stiff coordinates in the harmonic approximation.

        See `boltzgen.coordinates.scales.harmonic_scales`.

        Arguments:
            temperature: in K.

        Returns:
            mean (d,) and factor (d, d), float64, of the d coordinates that are not `circular`.

        Raises:
            InputError: if minimising the molecule's positions leads out of the chart.
        """
        molecule = self.molecule.minimized()
        x = torch.tensor(molecule.positions, dtype=torch.float64)[None]
        left = self.leaks(x)
        if left:
            raise InputError(
                "the positions must have the hands of the minimum they lead to; got another sign or side of "
                f"{', '.join(left)}: build the coordinates of a minimised structure"
            )
        return harmonic_scales(molecule.energy(temperature), self, self.circular, self.inverse(x)[0][0])

    def frame_scales(self, frames: Any, temperature: float) -> tuple[Tensor, Tensor]:
        """The same from frames of a simulation, where they tell; see `boltzgen.coordinates.scales.frame_scales`.

        Arguments:
            frames: (m, n_atoms, 3) in nm, as array, tensor or Quantity, or an mdtraj trajectory.
            temperature: theirs, in K.

        Returns:
            mean (d,) and factor (d, d), as of `harmonic_scales`.

        Raises:
            InputError: if the frames are not the molecule's, or more than 1 % lie outside the chart.

        Warns:
            UserWarning: if frames are left out, or are too few, so that the harmonic scales are taken.
        """
        y, _ = in_chart(self, frames)
        return frame_scales(y[:, ~self.circular], *self.harmonic_scales(temperature))


def _numbers(values: Tensor) -> Tensor:
    """The values, zero in the place of what is none: those rows lie outside the chart."""
    return values.nan_to_num(0.0, 0.0, 0.0)


def _require_shape(name: str, value: Tensor, shape: Sequence[int]) -> None:
    if tuple(value.shape[1:]) != tuple(shape):
        expected = "(n, " + ", ".join(map(str, shape)) + ")"
        raise InputError(f"{name} must have shape {expected}; got {tuple(value.shape)}: pass one configuration per row")
