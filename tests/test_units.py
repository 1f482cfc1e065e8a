"""Units: the gas constant is OpenMM's, temperatures and quantities are checked."""

import math
import subprocess
import sys

import numpy as np
import openmm.unit as u
import pytest

from boltzgen.errors import InputError
from boltzgen.units import MOLAR_GAS_CONSTANT, kT, magnitude, positive_temperature


def test_gas_constant_is_the_exact_si_value_and_openmm_agrees():
    assert pytest.approx(6.02214076e23 * 1.380649e-23 * 1e-3, rel=1e-15) == MOLAR_GAS_CONSTANT
    assert u.MOLAR_GAS_CONSTANT_R.value_in_unit(u.kilojoule_per_mole / u.kelvin) == pytest.approx(
        MOLAR_GAS_CONSTANT, rel=1e-9
    )
    assert kT(300.0) == pytest.approx(2.4943387854459718, rel=1e-15)


def test_quantities_are_accepted_and_converted():
    assert magnitude(u.Quantity(1.0, u.angstrom), "nanometer") == pytest.approx(0.1)
    assert magnitude(u.Quantity(1.0, u.kilocalorie_per_mole), "kilojoule/mole") == pytest.approx(4.184)
    assert kT(u.Quantity(300.0, u.kelvin)) == kT(300.0)
    assert magnitude(2.5, "nanometer") == 2.5


@pytest.mark.parametrize("value", [300, np.int64(300), np.float32(300), np.arange(300, 400, 50)[0]])
def test_numbers_of_numpy_are_temperatures(value):
    assert positive_temperature(value) == 300.0
    assert type(positive_temperature(value)) is float


def test_a_quantity_of_another_dimension_is_refused():
    with pytest.raises(InputError, match="a length must be given"):
        magnitude(u.Quantity(1.0, u.kilojoule_per_mole), "nanometer")


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, None, "300", True])
def test_a_temperature_must_be_positive_and_finite(value):
    with pytest.raises(InputError, match="temperature must be a positive number"):
        positive_temperature(value)


def test_units_are_at_hand_in_a_fresh_interpreter():
    code = "import boltzgen as bg; print(bg.units.kT(300))"
    assert float(subprocess.check_output([sys.executable, "-c", code])) == kT(300.0)
