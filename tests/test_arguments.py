"""Counts: any integer type, and nothing else."""

import math

import numpy as np
import pytest

from boltzgen.arguments import positive_counts
from boltzgen.errors import InputError


def test_integers_of_any_type_are_counts():
    positive_counts(n=1, steps=np.int64(3), walkers=np.uint8(7))


@pytest.mark.parametrize("value", [0, -1, True, 1e4, np.float64(2.0), math.nan, "3", None, (2,)])
def test_nothing_else_is_and_the_argument_is_named(value):
    with pytest.raises(InputError, match="steps must be a positive integer; got"):
        positive_counts(n=1, steps=value)
