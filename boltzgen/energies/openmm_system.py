"""What an `openmm.System` must be for its Boltzmann distribution to be sampled atom by atom in free space."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import openmm

from ..errors import EnergyError, InputError, UnsupportedSystemError
from .forces import named_forces

__all__ = ["check_evaluable", "check_force_type", "check_supported", "fields", "translation_invariant"]

_ENERGIES = frozenset(
    {
        "AmoebaGeneralizedKirkwoodForce",
        "AmoebaMultipoleForce",
        "AmoebaTorsionTorsionForce",
        "AmoebaVdwForce",
        "AmoebaWcaDispersionForce",
        "CMAPTorsionForce",
        "CustomAngleForce",
        "CustomBondForce",
        "CustomCVForce",
        "CustomCentroidBondForce",
        "CustomCompoundBondForce",
        "CustomExternalForce",
        "CustomGBForce",
        "CustomHbondForce",
        "CustomManyParticleForce",
        "CustomNonbondedForce",
        "CustomTorsionForce",
        "GBSAOBCForce",
        "GayBerneForce",
        "HarmonicAngleForce",
        "HarmonicBondForce",
        "HippoNonbondedForce",
        "LCPOForce",
        "NonbondedForce",
        "OrientationRestraintForce",
        "PeriodicTorsionForce",
        "RBTorsionForce",
        "RGForce",
        "RMSDForce",
    }
)
_HARMLESS = "CMMotionRemover"  # acts on velocities, which a configuration does not have
_COORDINATE = re.compile(r"\b[xyz]\d*\b")


def check_supported(system: openmm.System) -> None:
    """Refusal of every System whose U(x) is not a density on the free positions of all its atoms.

    Raises:
        InputError: if `system` is no `openmm.System`, or has no particles.
        UnsupportedSystemError: for constraints, virtual sites, massless or Drude particles, periodic boxes,
            thermostats and barostats, and forces that run foreign code or that this library does not know.
    """
    if not isinstance(system, openmm.System):
        raise InputError(f"system must be an openmm.System; got {type(system).__name__}: see ForceField.createSystem")
    n_atoms = system.getNumParticles()
    if n_atoms == 0:
        raise InputError("system must have particles; got none: add them with addParticle(mass)")
    for force in _nested(system.getForces()):
        check_force_type(type(force).__name__)
    if n := system.getNumConstraints():
        raise UnsupportedSystemError(
            f"system must have no constraints; got {n}, whose bonds then carry no energy and would be sampled at any "
            "length: rebuild it with constraints=None, rigidWater=False"
        )
    if sites := [i for i in range(n_atoms) if system.isVirtualSite(i)]:
        raise UnsupportedSystemError(
            f"every particle must be free to move; got virtual sites ({_some(sites)}), whose positions follow from "
            "others: use a force field without them (TIP3P instead of TIP4P-Ew)"
        )
    masses = [system.getParticleMass(i).value_in_unit(openmm.unit.dalton) for i in range(n_atoms)]
    if massless := [i for i, mass in enumerate(masses) if not mass > 0]:
        raise UnsupportedSystemError(
            f"every particle must have a mass; got none for {_some(massless)}, which OpenMM holds fixed in space: "
            "give them their mass, or leave them out and add their field as a CustomExternalForce"
        )
    if system.usesPeriodicBoundaryConditions():
        periodic = sorted({type(f).__name__ for f in system.getForces() if f.usesPeriodicBoundaryConditions()})
        raise UnsupportedSystemError(
            f"system must not be periodic; got periodic boundary conditions in {', '.join(periodic)}, under which a "
            "molecule's coordinates are no longer unique: rebuild it with nonbondedMethod=NoCutoff and implicit solvent"
        )


def check_evaluable(system: openmm.System) -> None:
    """Refusal of a System that OpenMM itself would not evaluate.

    Raises:
        EnergyError: saying why.
    """
    try:
        openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    except openmm.OpenMMException as error:
        raise EnergyError(f"OpenMM must be able to evaluate this System; got {error}: check its forces") from None


def check_force_type(name: str) -> None:
    """Refusal of every force, by the name of its class, that is not an energy of the positions alone.

    Raises:
        UnsupportedSystemError: saying why, and what to do.
    """
    if name in _ENERGIES or name == _HARMLESS:
        return
    if "Barostat" in name or "Thermostat" in name:
        remedy = "it changes the ensemble and is no energy: remove it, the temperature is an argument of the energy"
    elif name == "DrudeForce":
        remedy = "Drude particles follow their atoms and cannot be sampled: use a non-polarisable or AMOEBA force field"
    elif name == "ATMForce":
        remedy = "OpenMM does not show what forces it holds: add those to the System itself"
    elif name in ("CustomVolumeForce", "ConstantPotentialForce"):
        remedy = "it needs a periodic box: rebuild the system without one"
    else:
        remedy = "it runs code that OpenMM itself does not contain: write it as a Custom*Force or as an Energy in torch"
    raise UnsupportedSystemError(f"every force must be an energy that OpenMM defines; got {name}: {remedy}")


def translation_invariant(system: openmm.System) -> bool:
    """Whether U(x) stays the same when all positions are shifted; False when in doubt.

    External forces depend on the position itself, and so may custom expressions that name a coordinate
    (x1, y1, z1, ... of a bond between particles; x, y, z of a generalised Born term).
    """
    return not any(_names_coordinate(force) for force in _nested(system.getForces()))


def notes(system: openmm.System) -> dict[str, str]:
    """What there is to know of forces by name: that one is ignored, or feels more than the molecule's shape."""
    ignored = [force.getName() for force in system.getForces() if type(force).__name__ == _HARMLESS]
    return dict.fromkeys(ignored, "ignored, since it acts on velocities alone") | dict.fromkeys(
        fields(system), "may feel where the molecule is and how it is turned"
    )


def fields(system: openmm.System) -> list[str]:
    """Names of the forces that may feel where the System is, or how it is turned; some when in doubt."""
    return [name for name, force in named_forces(system).items() if any(map(_names_direction, _nested([force])))]


def _names_direction(force: openmm.Force) -> bool:
    return _names_coordinate(force) or type(force).__name__ == "OrientationRestraintForce"


def _nested(forces: Iterable[openmm.Force]) -> Iterator[openmm.Force]:
    """These forces, and those nested in them."""
    stack = list(forces)
    while stack:
        force = stack.pop()
        yield force
        if isinstance(force, openmm.CustomCVForce):
            stack += [force.getCollectiveVariable(i) for i in range(force.getNumCollectiveVariables())]


def _names_coordinate(force: openmm.Force) -> bool:
    if isinstance(force, openmm.CustomExternalForce):
        return True
    if isinstance(force, openmm.CustomGBForce):
        values = [force.getComputedValueParameters(i)[1] for i in range(force.getNumComputedValues())]
        expressions = values + [force.getEnergyTermParameters(i)[0] for i in range(force.getNumEnergyTerms())]
    elif isinstance(
        force, (openmm.CustomCompoundBondForce, openmm.CustomCentroidBondForce, openmm.CustomManyParticleForce)
    ):
        expressions = [force.getEnergyFunction()]
    else:
        return False
    return any(_COORDINATE.search(expression) for expression in expressions)


def _some(particles: list[int]) -> str:
    shown = ", ".join(map(str, particles[:5]))
    return f"{len(particles)}: particles {shown}" + (", ..." if len(particles) > 5 else "")
