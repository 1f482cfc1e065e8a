"""Any `CustomGBForce` without periodic boundaries: values of the atoms by formulae, and energies of these."""

from __future__ import annotations

import openmm
import torch
from torch import Tensor, nn

from ...errors import UnsupportedSystemError
from ..expressions import Expression, tables_of
from .custom_born import custom_born
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

    atoms: Tensor
    kept: Tensor

    def __init__(self, force: openmm.CustomGBForce) -> None:
        super().__init__()
        columns = particle_parameters(force)
        self._n_atoms = force.getNumParticles()
        self._parameters_of_atoms = list(columns)
        i, j = all_pairs(self._n_atoms)
        self.constants(
            atoms=[i, j],
            kept=without_exclusions(force, i, j),
            every=range(self._n_atoms),
            **{f"parameter_{k}": values[:, None] for k, values in enumerate(columns.values())},
        )
        values = [force.getComputedValueParameters(v) for v in range(force.getNumComputedValues())]
        terms = [force.getEnergyTermParameters(t) for t in range(force.getNumEnergyTerms())]
        self._stages = [(name, kind) for name, _, kind in values] + [("", kind) for _, kind in terms]
        self._expressions = nn.ModuleList()
        known: list[str] = []
        for name, text, kind in [*values, *(("", text, kind) for text, kind in terms)]:
            self._expressions.append(self._read_stage(force, text, kind, known))
            known += [name] if name else []

    every: Tensor

    def forward(self, frames: Frames) -> Tensor:
        parameters = dict(
            zip(
                self._parameters_of_atoms,
                self.read(frames.dtype, *(f"parameter_{k}" for k in range(len(self._parameters_of_atoms)))),
                strict=True,
            )
        )
        x, y, z = frames.positions(self.every)
        values = {"x": x, "y": y, "z": z}
        u = torch.zeros_like(x[0])
        for (name, kind), expression in zip(self._stages, self._expressions, strict=True):
            if kind == _SINGLE:
                found = expression(parameters | values, x)
                if name:
                    values[name] = found
                else:
                    u = u + found.sum(0)
                continue
            pairs = self.kept if kind == _EXCLUDING else self.atoms
            r = length(frames.vectors(*pairs)) if kind == _EXCLUDING else frames.distances()
            if not name:
                u = u + self._over_pairs(expression, parameters | values, r, pairs).sum(0)
                continue
            both = torch.cat([pairs, pairs.flip(0)], 1)
            found = self._over_pairs(expression, parameters | values, torch.cat([r, r]), both)
            values[name] = total_rows(found, both[0], self._n_atoms)
        return u

    def _over_pairs(self, expression: nn.Module, values: dict[str, Tensor], r: Tensor, pairs: Tensor) -> Tensor:
        given = {
            name + k: take_rows(value, atoms)
            for name, value in values.items()
            for k, atoms in zip("12", pairs, strict=True)
            if name + k in expression.inputs  # type: ignore[operator]
        }
        found: Tensor = expression({"r": r, **given}, r)
        return found

    def _read_stage(self, force: openmm.CustomGBForce, text: str, kind: int, known: list[str]) -> Expression:
        """The formula of a value or an energy, given the values known before."""
        constants, tables, parameters = global_parameters(force), tables_of(force), self._parameters_of_atoms
        if kind == _SINGLE:
            return Expression(text, [*known, "x", "y", "z"], parameters, constants, tables)
        variables = ["r", *(name + k for name in known for k in "12")]
        parameters = [name + k for name in parameters for k in "12"]
        return Expression(text, variables, parameters, constants, tables, around=within_cutoff(force))


def generalized_born(force: openmm.CustomGBForce) -> Force:
    """The force in its fastest form: OBC, as OpenMM writes it, has one of its own."""
    try:
        return custom_born(force)
    except UnsupportedSystemError:
        return CustomGeneralizedBorn(force)
