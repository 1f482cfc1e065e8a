"""Any `CustomGBForce` without periodic boundaries: values of the atoms by formulae, and energies of these."""

from __future__ import annotations

import openmm
import torch
from torch import Tensor, nn

from ...errors import UnsupportedSystemError
from ..expressions import Expression, tables_of
from .custom_born import recognized_born
from .custom_pairs import particle_parameters, within_cutoff, without_exclusions
from .custom_terms import global_parameters
from .force import Force
from .geometry import Frames, all_pairs, length, take_rows, total_rows

__all__ = ["CustomGeneralizedBorn", "generalized_born"]

_SINGLE = openmm.CustomGBForce.SingleParticle
_EXCLUDING = openmm.CustomGBForce.ParticlePair


class CustomGeneralizedBorn(Force):
    """Values of the atoms, one after the other, and U = Σ terms made of them.

    A value, or a term of U, is a formula of the position, the parameters and the earlier values of one atom; or it is
    a sum over pairs of a formula of their distance, and the parameters and values of both. A value of the latter kind
    is each atom's sum over its neighbours; the atom is the first of every pair.

    Raises:
        UnsupportedSystemError: if a formula cannot be read, or for periodic methods.
    """

    bytes_per_pair = 900
    every: Tensor
    kept: Tensor

    def __init__(self, force: openmm.CustomGBForce) -> None:
        super().__init__()
        columns = particle_parameters(force)
        self._names = list(columns)
        self._n_atoms = force.getNumParticles()
        i, j = all_pairs(self._n_atoms)
        self.constants(
            every=range(self._n_atoms),
            atoms=[i, j],
            kept=without_exclusions(force, i, j),
            **{f"parameter_{k}": values[:, None] for k, values in enumerate(columns.values())},
        )
        stages = [force.getComputedValueParameters(v) for v in range(force.getNumComputedValues())]
        stages += [("", *force.getEnergyTermParameters(t)) for t in range(force.getNumEnergyTerms())]
        self._stages = [(name, kind) for name, _, kind in stages]  # a term of U has no name
        names = [name for name, _, _ in stages if name]
        self._expressions = nn.ModuleList(
            self._expression(force, text, kind, names[:k]) for k, (_, text, kind) in enumerate(stages)
        )

    def forward(self, frames: Frames) -> Tensor:
        columns = self.read(frames.dtype, *(f"parameter_{k}" for k in range(len(self._names))))
        x, y, z = frames.positions(self.every).unbind(1)
        values = {**dict(zip(self._names, columns, strict=True)), "x": x, "y": y, "z": z}
        u = torch.zeros_like(x[0])
        for (name, kind), expression in zip(self._stages, self._expressions, strict=True):
            if kind == _SINGLE:
                found = expression(values, x)
            else:
                found = self._over_pairs(expression, values, frames, excluding=kind == _EXCLUDING, ordered=bool(name))
            if name:
                values[name] = found
            else:
                u = u + found.sum(0)
        return u

    def _over_pairs(
        self, expression: nn.Module, values: dict[str, Tensor], frames: Frames, *, excluding: bool, ordered: bool
    ) -> Tensor:
        """The formula for each pair; or, for pairs in either order, its sum over each atom's neighbours."""
        pairs = self.kept if excluding else self.atoms
        r = length(frames.vectors(*pairs)) if excluding else frames.distances()
        if ordered:
            pairs, r = torch.cat([pairs, pairs.flip(0)], 1), torch.cat([r, r])
        given = {
            name + k: take_rows(value, atoms)
            for name, value in values.items()
            for k, atoms in zip("12", pairs, strict=True)
            if name + k in expression.inputs  # type: ignore[operator]
        }
        found: Tensor = expression({"r": r, **given}, r)
        return total_rows(found, pairs[0], self._n_atoms) if ordered else found

    def _expression(self, force: openmm.CustomGBForce, text: str, kind: int, known: list[str]) -> Expression:
        """The formula of a value or an energy, given the values known before."""
        constants, tables, parameters = global_parameters(force), tables_of(force), self._names
        if kind == _SINGLE:
            return Expression(text, [*known, "x", "y", "z"], parameters, constants, tables)
        variables = ["r", *(name + k for name in known for k in "12")]
        parameters = [name + k for name in parameters for k in "12"]
        return Expression(text, variables, parameters, constants, tables, around=within_cutoff(force))


def generalized_born(force: openmm.CustomGBForce) -> Force:
    """The force in its fastest form: OBC, as OpenMM writes it, has one of its own."""
    try:
        return recognized_born(force)
    except UnsupportedSystemError:
        return CustomGeneralizedBorn(force)
