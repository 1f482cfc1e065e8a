import math

import numpy as np
import pytest

from boltzgen.errors import InputError
from boltzgen.reweighting import BinnedEstimate, Estimate, EstimateArray


def array():
    value = np.array([1.0, -2.0, 3.0])
    error = np.array([0.1, 0.2, 0.3])
    return EstimateArray(value, error, (value - error, value + 2 * error), 900.0, 1000, 0.1, np.array(["", "few", ""]))


def test_an_entry_is_an_estimate():
    one, two = array()[0], array()[1]
    assert one == Estimate(1.0, 0.1, (0.9, 1.2), 900.0, 1000, 0.1, True, "")
    assert (two.reliable, two.why) == (False, "few")
    assert type(one.value) is type(one.standard_error) is type(one.interval[0]) is float
    assert [entry.value for entry in (array()[i] for i in range(len(array())))] == [1.0, -2.0, 3.0]


def test_several_entries_are_no_estimate():
    with pytest.raises(InputError, match="choose one entry"):
        array()[:2]


def test_what_may_be_believed():
    assert array().reliable.tolist() == [True, False, True]
    assert array().shape == (3,)


@pytest.mark.parametrize("factor", [2.5, -2.5, np.float64(2.5)])
def test_scaling_keeps_the_error(factor):
    for scaled in (array() * factor, factor * array()):
        for i in range(3):
            assert scaled[i] == array()[i] * factor


@pytest.mark.parametrize("factor", [0.0, math.nan, math.inf])
def test_scaling_that_loses_the_numbers_is_refused(factor):
    with pytest.raises(InputError):
        array() * factor
    with pytest.raises(TypeError):
        array() * np.ones(3)


def test_centres_of_bins():
    one = array()
    binned = BinnedEstimate(
        one.value, one.standard_error, one.interval, 900.0, 1000, 0.1, one.why, (np.array([0.0, 1.0, 3.0, 4.0]),)
    )
    assert binned.centers[0].tolist() == [0.5, 2.0, 3.5]
    assert (binned * 2.0).edges is binned.edges


def test_division_and_sign():
    for i in range(3):
        assert (array() / -4)[i] == array()[i] / -4
        assert (-array())[i] == -array()[i]
    with pytest.raises(InputError):
        array() / 0
    with pytest.raises(TypeError):
        array() / np.ones(3)
