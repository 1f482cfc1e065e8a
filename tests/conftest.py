"""What statistical tests share: agreement within error bars."""

import math

import pytest
import torch

torch.set_num_threads(1)  # what is small runs many times slower on more threads that share a processor


@pytest.fixture
def assert_consistent():
    """check(estimate, exact, sigmas=4): the estimate lies within that many of its standard errors of the truth.

    `estimate` has `value` and `standard_error`, or is a (value, standard_error) pair.
    """

    def check(estimate, exact, sigmas=4):
        value, error = estimate if isinstance(estimate, tuple) else (estimate.value, estimate.standard_error)
        assert math.isfinite(value)
        assert 0 < error < math.inf
        deviation = abs(value - exact) / error
        assert deviation <= sigmas, f"{value} ± {error} is {deviation:.1f} sigmas from {exact}"

    return check
