"""Forces whose terms are a formula of a few points: bonds, angles, torsions, external fields, and any compound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from torch import Tensor

from ..expressions import Expression, Table, tables_of
from ..expressions.parser import Extension
from ..expressions.points import Shape, coordinates, measures, shape_of
from .force import Force, numbers
from .geometry import Frames, Points, angle, dihedral_angle, length

__all__ = [
    "CustomTerms",
    "custom_angles",
    "custom_bonds",
    "custom_centroids",
    "custom_compounds",
    "custom_external",
    "custom_torsions",
    "global_parameters",
]

_Array = NDArray[Any]


class CustomTerms(Force):
    """U = Σ_terms f(geometry of a term's points, its own parameters, global parameters).

    f is written in OpenMM's language. A term's points are atoms, or centres of fixed groups of atoms; its geometry is
    made of their coordinates and of distances, angles and dihedrals between them. At an angle of 0 or π, where three
    points of a dihedral are in line, and where two points coincide, the slope of that quantity counts as 0.

    Arguments:
        text: f.
        shapes: what each name in f means: "x", "y", "z", "distance", "angle" or "dihedral", and of which points.
        points: the points of each term, (n_points, n_terms).
        parameters: of each term, by name, (n_terms,).
        constants: global parameters.
        tables: tabulated functions.
        extensions: functions that f may call besides, which introduce further names.
        groups: for points that are centres: the atoms of each, and their weights, which add up to 1.
    """

    def __init__(
        self,
        text: str,
        shapes: dict[str, Shape],
        points: _Array,
        parameters: dict[str, _Array],
        constants: dict[str, float],
        tables: dict[str, Table],
        extensions: dict[str, Extension] | None = None,
        groups: Sequence[tuple[_Array, _Array]] | None = None,
    ) -> None:
        super().__init__()
        self._expression = Expression(text, shapes, parameters, constants, tables, extensions)
        self._shapes = {name: shapes.get(name) or shape_of(name) for name in self._expression.variables}
        self._names = list(parameters)
        self._n_groups = None if groups is None else len(groups)
        self.constants(
            atoms=points.astype(np.int64),
            **{f"parameter_{k}": values[:, None] for k, values in enumerate(parameters.values())},
        )
        if groups is not None:
            members = [atoms for atoms, _ in groups]
            self.constants(
                member=np.concatenate([*members, np.zeros(0)]).astype(np.int64),
                group=np.repeat(np.arange(len(groups)), [len(atoms) for atoms in members]),
                weight=np.concatenate([*(weights for _, weights in groups), np.zeros(0)])[:, None],
            )

    member: Tensor
    group: Tensor

    def forward(self, frames: Frames) -> Tensor:
        points: Points = frames
        if self._n_groups is not None:
            (weight,) = self.read(frames.dtype, "weight")
            points = frames.centroids(self.member, weight, self.group, self._n_groups)
        columns = self.read(frames.dtype, *(f"parameter_{k}" for k in range(len(self._names))))
        values = dict(zip(self._names, columns, strict=True))
        for name, (kind, which) in self._shapes.items():
            values[name] = _MEASURES[kind](points, self.atoms[list(which)])
        some = values[next(iter(self._shapes))] if self._shapes else points.positions(self.atoms[0])[:, 0]
        u: Tensor = self._expression(values, some)
        return u.sum(0)


def _coordinate(axis: int) -> Callable[[Points, Tensor], Tensor]:
    return lambda points, atoms: points.positions(atoms[0])[:, axis]


_MEASURES: dict[str, Callable[[Points, Tensor], Tensor]] = {
    "x": _coordinate(0),
    "y": _coordinate(1),
    "z": _coordinate(2),
    "distance": lambda points, atoms: length(points.vectors(atoms[0], atoms[1])),
    "angle": lambda points, atoms: angle(points.vectors(atoms[0], atoms[1]), points.vectors(atoms[2], atoms[1])),
    "dihedral": lambda points, atoms: dihedral_angle(*(points.vectors(j, i) for i, j in pairwise(atoms))),
}


def custom_bonds(force: openmm.CustomBondForce) -> CustomTerms:
    """f(r) of pairs of atoms."""
    terms = [force.getBondParameters(k) for k in range(force.getNumBonds())]
    names = [force.getPerBondParameterName(p) for p in range(force.getNumPerBondParameters())]
    return _terms(force, {"r": ("distance", (0, 1))}, 2, [(t[:2], t[2]) for t in terms], names)


def custom_angles(force: openmm.CustomAngleForce) -> CustomTerms:
    """f(theta) of triples of atoms."""
    terms = [force.getAngleParameters(k) for k in range(force.getNumAngles())]
    names = [force.getPerAngleParameterName(p) for p in range(force.getNumPerAngleParameters())]
    return _terms(force, {"theta": ("angle", (0, 1, 2))}, 3, [(t[:3], t[3]) for t in terms], names)


def custom_torsions(force: openmm.CustomTorsionForce) -> CustomTerms:
    """f(theta) of quadruples of atoms, theta the dihedral in [−π, π]."""
    terms = [force.getTorsionParameters(k) for k in range(force.getNumTorsions())]
    names = [force.getPerTorsionParameterName(p) for p in range(force.getNumPerTorsionParameters())]
    return _terms(force, {"theta": ("dihedral", (0, 1, 2, 3))}, 4, [(t[:4], t[4]) for t in terms], names)


def custom_external(force: openmm.CustomExternalForce) -> CustomTerms:
    """f(x, y, z) of single atoms."""
    terms = [force.getParticleParameters(k) for k in range(force.getNumParticles())]
    names = [force.getPerParticleParameterName(p) for p in range(force.getNumPerParticleParameters())]
    return _terms(force, {c: (c, (0,)) for c in "xyz"}, 1, [((t[0],), t[1]) for t in terms], names)


def custom_compounds(force: openmm.CustomCompoundBondForce) -> CustomTerms:
    """f of the coordinates of any number of atoms, and of distances, angles and dihedrals between them."""
    terms = [force.getBondParameters(k) for k in range(force.getNumBonds())]
    names = [force.getPerBondParameterName(p) for p in range(force.getNumPerBondParameters())]
    n = force.getNumParticlesPerBond()
    return _terms(force, coordinates(n), n, terms, names, measures("p", n))


def custom_centroids(force: openmm.CustomCentroidBondForce, masses: NDArray[np.float64]) -> CustomTerms:
    """The same, of centres of groups of atoms, weighted by the masses unless the force gives weights."""
    terms = [force.getBondParameters(k) for k in range(force.getNumBonds())]
    names = [force.getPerBondParameterName(p) for p in range(force.getNumPerBondParameters())]
    n = force.getNumGroupsPerBond()
    groups = []
    for g in range(force.getNumGroups()):
        atoms, given = force.getGroupParameters(g)
        weights = np.array(given if len(given) else masses[list(atoms)])
        groups.append((np.array(atoms), weights / weights.sum()))
    return _terms(force, coordinates(n), n, terms, names, measures("g", n), groups)


def _terms(
    force: Any,
    shapes: dict[str, Shape],
    n_points: int,
    terms: Sequence[tuple[Sequence[int], Sequence[float]]],
    names: list[str],
    extensions: dict[str, Extension] | None = None,
    groups: list[tuple[_Array, _Array]] | None = None,
) -> CustomTerms:
    points = np.array([list(p) for p, _ in terms], dtype=np.int64).reshape(-1, n_points).T
    table = np.array([numbers(values) for _, values in terms], dtype=np.float64).reshape(len(terms), len(names))
    return CustomTerms(
        force.getEnergyFunction(),
        shapes,
        points,
        dict(zip(names, table.T, strict=True)),
        global_parameters(force),
        tables_of(force) if hasattr(force, "getNumTabulatedFunctions") else {},
        extensions,
        groups,
    )


def global_parameters(force: Any) -> dict[str, float]:
    """Default values of a custom force's global parameters, by name."""
    return {
        force.getGlobalParameterName(g): force.getGlobalParameterDefaultValue(g)
        for g in range(force.getNumGlobalParameters())
    }
