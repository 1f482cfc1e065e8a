"""Interactions between pairs of atoms given by a formula of their distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import UnsupportedSystemError
from ..expressions import Expression, tables_of
from .custom_terms import global_parameters
from .force import Force, numbers
from .geometry import Frames, all_pairs, length

__all__ = ["CustomPairs", "particle_parameters", "within_cutoff", "without_exclusions"]

_Columns = dict[str, NDArray[np.float64]]
_Indices = NDArray[np.int64]


class CustomPairs(Force):
    """U = Σ_pairs f(r, parameters of the first atom, of the second, global parameters), less the excluded pairs.

    With interaction groups the pairs are those of an atom of the first group with one of the second, once for each two
    groups. With a cutoff f is multiplied by the switching function, if there is one, and is 0 beyond.

    Raises:
        UnsupportedSystemError: if f cannot be read, or for periodic methods.
    """

    bytes_per_pair = 900
    first: Tensor
    second: Tensor

    def __init__(self, force: openmm.CustomNonbondedForce) -> None:
        super().__init__()
        columns = particle_parameters(force)
        columns |= _computed_values(force, columns)
        first, second = _pairs(force)
        by_pair = {
            name + k: values[atom]
            for name, values in columns.items()
            for k, atom in zip("12", (first, second), strict=True)
        }
        self._names = list(by_pair)
        self._expression = Expression(
            force.getEnergyFunction(),
            ["r"],
            self._names,
            global_parameters(force),
            tables_of(force),
            around=within_cutoff(force),
        )
        self.constants(
            first=first, second=second, **{f"parameter_{k}": v[:, None] for k, v in enumerate(by_pair.values())}
        )
        self._everyone = np.array_equal(np.stack([first, second]), np.stack(all_pairs(force.getNumParticles())))

    def forward(self, frames: Frames) -> Tensor:
        r = frames.distances() if self._everyone else length(frames.vectors(self.first, self.second))
        values = self.read(frames.dtype, *(f"parameter_{k}" for k in range(len(self._names))))
        u: Tensor = self._expression({"r": r, **dict(zip(self._names, values, strict=True))}, r)
        return u.sum(0)


def particle_parameters(force: Any) -> _Columns:
    """Each per-particle parameter of a custom force by name, (n_atoms,)."""
    names = [force.getPerParticleParameterName(p) for p in range(force.getNumPerParticleParameters())]
    rows = [numbers(force.getParticleParameters(i)) for i in range(force.getNumParticles())]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    return dict(zip(names, table.T, strict=True))


def within_cutoff(force: Any) -> str:
    """What becomes of a function f of the distance r under the force's cutoff and switching function, as a formula.

    Raises:
        UnsupportedSystemError: for periodic methods.
    """
    method = force.getNonbondedMethod()
    if method == type(force).NoCutoff:
        return "f"
    if method != type(force).CutoffNonPeriodic:
        raise UnsupportedSystemError(
            f"{force.getName()} must use NoCutoff or CutoffNonPeriodic; got a periodic method: use NoCutoff"
        )
    (cutoff,) = numbers([force.getCutoffDistance()])
    if not hasattr(force, "getUseSwitchingFunction") or not force.getUseSwitchingFunction():
        return f"select(step({cutoff!r}-r), f, 0)"
    (start,) = numbers([force.getSwitchingDistance()])
    switch = f"select(step(x), 1-x^3*(10-x*(15-6*x)), 1); x=(r-{start!r})/{cutoff - start!r}"
    return f"select(step({cutoff!r}-r), f*switch, 0); switch={switch}"


def without_exclusions(force: Any, first: _Indices, second: _Indices) -> tuple[_Indices, _Indices]:
    """Those of the pairs that the force does not exclude."""
    excluded = np.zeros((force.getNumParticles(),) * 2, dtype=np.bool_)
    for k in range(force.getNumExclusions()):
        i, j = force.getExclusionParticles(k)
        excluded[i, j] = excluded[j, i] = True
    kept = ~excluded[first, second]
    return first[kept], second[kept]


def _pairs(force: openmm.CustomNonbondedForce) -> tuple[_Indices, _Indices]:
    if not force.getNumInteractionGroups():
        return without_exclusions(force, *all_pairs(force.getNumParticles()))
    found = []
    for g in range(force.getNumInteractionGroups()):
        one, other = (set(atoms) for atoms in force.getInteractionGroupParameters(g))
        both = one & other
        found += [
            (i, j)
            for i in sorted(one)
            for j in sorted(other)
            if i != j and not (i > j and i in both and j in both)  # not twice, the other way round
        ]
    pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
    return without_exclusions(force, pairs[:, 0], pairs[:, 1])


def _computed_values(force: openmm.CustomNonbondedForce, columns: _Columns) -> _Columns:
    """Values that depend on an atom's parameters alone, (n_atoms,) each."""
    given = {name: torch.from_numpy(values.copy())[:, None] for name, values in columns.items()}
    like = torch.zeros(force.getNumParticles(), 1, dtype=torch.float64)
    found = {}
    for v in range(force.getNumComputedValues()):
        name, text = force.getComputedValueParameters(v)
        value = Expression(text, [], list(columns), global_parameters(force), tables_of(force))
        found[name] = value(given, like)[:, 0].numpy()
    return found
