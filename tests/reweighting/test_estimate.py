import math

import numpy as np
import pytest

from boltzgen.errors import InputError
from boltzgen.reweighting import Estimate


def estimate(value, error, **kwargs):
    return Estimate(value, error, (value - 2 * error, value + 3 * error), ess=900.0, n=1000, pareto_k=0.1, **kwargs)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-3.3801, 0.0123, "-3.380 ± 0.012"),
        (-98.347, 0.52, "-98.35 ± 0.52"),
        (12345.6, 56.7, "12346 ± 57"),
        (12345.6, 567.0, "12346 ± 567"),
        (1.0, 0.0, "1 ± 0"),
        (-math.inf, math.inf, "-inf ± inf"),
        (0.5, 0.0995, "0.500 ± 0.100"),
    ],
)
def test_text_shows_the_digits_that_mean_something(value, error, text):
    assert str(estimate(value, error)) == text


def test_text_says_why_not_to_believe_it():
    assert str(estimate(1.0, 0.1, reliable=False, why="too few draws")) == "1.00 ± 0.10 (unreliable: too few draws)"


@pytest.mark.parametrize("factor", [2.5, -2.5, np.float32(2.5), np.float64(-2.5), 2])
def test_scaling_keeps_the_error(factor):
    one, two = estimate(1.0, 0.1) * factor, factor * estimate(1.0, 0.1)
    assert one == two
    assert (one.value, one.standard_error) == pytest.approx((factor, abs(factor) * 0.1))
    assert one.interval == pytest.approx(tuple(sorted((0.8 * factor, 1.3 * factor))))
    assert (one.n, one.ess, one.pareto_k) == (1000, 900.0, 0.1)


def test_division_and_sign():
    assert (estimate(1.0, 0.1) / 4).interval == pytest.approx((0.2, 0.325))
    assert (-estimate(1.0, 0.1)).interval == pytest.approx((-1.3, -0.8))


@pytest.mark.parametrize("factor", [0.0, math.nan, math.inf])
def test_scaling_that_loses_the_number_is_refused(factor):
    with pytest.raises(InputError):
        estimate(1.0, 0.1) * factor


def test_only_numbers_scale():
    with pytest.raises(TypeError):
        estimate(1.0, 0.1) * "kT"
    with pytest.raises(TypeError):
        estimate(1.0, 0.1) * np.ones(3)


def test_is_a_number_and_frozen():
    one = estimate(1.5, 0.1)
    assert float(one) == 1.5
    with pytest.raises(AttributeError):
        one.value = 2.0


def test_division_by_what_is_no_number_is_refused():
    with pytest.raises(InputError):
        estimate(1.0, 0.1) / 0
    with pytest.raises(TypeError):
        estimate(1.0, 0.1) / "2"
