"""The one place where kJ/mol becomes kT, and where `openmm.unit.Quantity` is turned into a plain number."""

import math
import sys
from numbers import Real
from typing import Any

from .errors import InputError

__all__ = ["MOLAR_GAS_CONSTANT", "kT", "magnitude", "positive_temperature"]

MOLAR_GAS_CONSTANT = 8.31446261815324e-3
"""R in kJ/(mol K): the exact SI value N_A k_B (BIPM, SI Brochure, 9th edition, 2019)."""

_NAMES = {"nanometer": "a length", "kelvin": "a temperature", "kilojoule/mole": "an energy", "picosecond": "a time"}


def kT(temperature: float) -> float:  # noqa: N802 - the physicist's name
    """Thermal energy R·T in kJ/mol.

    Arguments:
        temperature: in K; an `openmm.unit.Quantity` is accepted.

    Raises:
        InputError: unless the temperature is positive and finite.
    """
    return MOLAR_GAS_CONSTANT * positive_temperature(temperature)


def positive_temperature(temperature: Any) -> float:
    """The temperature as a float in K, refused unless positive and finite."""
    value = magnitude(temperature, "kelvin")
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise InputError(f"temperature must be a positive number of kelvin; got {temperature!r}: pass e.g. 300.0")
    return float(value)


def magnitude(value: Any, unit: str) -> Any:
    """The plain number (or array) of `value` in `unit`; values without a unit pass through unchanged.

    Arguments:
        value: a number, an array, or an `openmm.unit.Quantity`.
        unit: name of the unit the library uses: "nanometer", "kelvin", "kilojoule/mole" or "picosecond".

    Raises:
        InputError: if the quantity has another dimension.
    """
    if not hasattr(value, "value_in_unit"):
        return value
    openmm_unit = sys.modules["openmm.unit"]  # loaded already: a Quantity came from it
    first, _, second = unit.partition("/")
    target = getattr(openmm_unit, first) / (getattr(openmm_unit, second) if second else openmm_unit.dimensionless)
    try:
        return value.value_in_unit(target)
    except TypeError:
        got = value.unit.get_name()
        raise InputError(
            f"{_NAMES[unit]} must be given, in {unit} or the like; got {got}: check the argument"
        ) from None
