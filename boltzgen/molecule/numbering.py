"""Numbers that mean nothing by themselves, made the same in every process."""

from __future__ import annotations

import copy
import re

import openmm

__all__ = ["with_types_in_order"]


def with_types_in_order(system: openmm.System) -> openmm.System:
    """The System with Lennard-Jones types numbered in the order of the atoms; the same object if they are.

    OpenMM numbers the types of a `<LennardJonesForce>` in the order of a set of strings, which differs between
    processes. The numbers only say which row and column of a table an atom has, so the energy is the same; but a hash
    of the System is not, and a training would not be known again.
    """
    orders = {k: order for k, force in enumerate(system.getForces()) if (order := _order(force)) is not None}
    if not orders:
        return system
    system = copy.deepcopy(system)
    for k, order in orders.items():
        _renumber(system.getForce(k), order)
    return system


def _order(force: openmm.Force) -> list[int] | None:
    """The types in the order of the atoms; None if they are in it, or are no mere indices of tables."""
    if not isinstance(force, openmm.CustomNonbondedForce) or force.getNumPerParticleParameters() != 1:
        return None
    if force.getNumComputedValues():  # which may see the number itself
        return None
    tables = [force.getTabulatedFunction(k) for k in range(force.getNumTabulatedFunctions())]
    sizes = {size for table in tables if isinstance(table, openmm.Discrete2DFunction) for size in _shape(table)}
    if len(sizes) != 1 or not all(isinstance(table, openmm.Discrete2DFunction) for table in tables):
        return None
    name, (size,) = force.getPerParticleParameterName(0), sizes
    functions = "|".join(re.escape(force.getTabulatedFunctionName(k)) for k in range(len(tables)))
    looked_up = rf"\b({functions})\s*\(\s*{re.escape(name)}1\s*,\s*{re.escape(name)}2\s*\)"
    if re.search(rf"\b{re.escape(name)}[12]\b", re.sub(looked_up, "", force.getEnergyFunction())):
        return None
    types = [force.getParticleParameters(i)[0] for i in range(force.getNumParticles())]
    if any(t not in range(size) for t in types):
        return None
    order = list(dict.fromkeys(int(t) for t in types))
    order += [t for t in range(size) if t not in order]
    return None if order == list(range(size)) else order


def _renumber(force: openmm.CustomNonbondedForce, order: list[int]) -> None:
    """Makes type order[k] type k, with its row and column of all tables."""
    for k in range(force.getNumTabulatedFunctions()):
        table = force.getTabulatedFunction(k)
        n, _, values = table.getFunctionParameters()
        table.setFunctionParameters(n, n, [values[order[i] + n * order[j]] for j in range(n) for i in range(n)])
    for i in range(force.getNumParticles()):
        (old,) = force.getParticleParameters(i)
        force.setParticleParameters(i, [order.index(int(old))])


def _shape(table: openmm.Discrete2DFunction) -> tuple[int, int]:
    width, height, _ = table.getFunctionParameters()
    return width, height
