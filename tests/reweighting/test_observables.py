import math

import numpy as np
import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.reweighting.observables import as_observable, as_state

LOG_W = np.array([0.0, -np.inf, -1.0])


@pytest.mark.parametrize(
    "f", [[1, 2, 3], np.array([1, 2, 3], np.int8), torch.tensor([1.0, 2.0, 3.0]).requires_grad_()], ids=str
)
def test_observables_become_float64(f):
    values = as_observable("f", LOG_W, f)
    assert values.dtype == np.float64
    assert values.tolist() == [1.0, 0.0, 3.0]


def test_what_has_no_weight_may_have_no_value():
    assert as_observable("f", LOG_W, [1.0, math.nan, 3.0]).tolist() == [1.0, 0.0, 3.0]
    rows = as_observable("f", LOG_W, [[1.0, 2.0], [math.inf, 5.0], [3.0, 4.0]], ndim=2)
    assert rows.tolist() == [[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_has_a_weight_must_have_a_value(value):
    with pytest.raises(
        InputError, match="f must be finite wherever the weight is positive; got 1 NaN or infinite of 3"
    ):
        as_observable("f", LOG_W, [1.0, 2.0, value])
    with pytest.raises(InputError, match="got 1 NaN or infinite of 3"):
        as_observable("f", LOG_W, [[1.0, 2.0], [1.0, 2.0], [1.0, value]], ndim=2)


def test_the_observable_given_is_not_changed():
    f = np.array([1.0, math.nan, 3.0])
    as_observable("f", LOG_W, f)
    assert math.isnan(f[1])


@pytest.mark.parametrize("mask", [[True, False, True], np.array([1, 0, 1], bool), torch.tensor([1.0, 0, 1]) > 0.5])
def test_states_are_booleans(mask):
    assert as_state("in_a", LOG_W, mask).tolist() == [True, False, True]


@pytest.mark.parametrize("mask", [[1, 0, 1], [0.0, 1.0, 1.0]])
def test_indices_and_numbers_are_no_state(mask):
    with pytest.raises(InputError, match="in_a must be boolean, one entry per draw; got"):
        as_state("in_a", LOG_W, mask)


@pytest.mark.parametrize("read", [as_observable, as_state])
def test_there_is_one_entry_per_draw(read):
    with pytest.raises(InputError, match="phi must have one entry per log-weight, 3; got 2: pass matching draws"):
        read("phi", LOG_W, [True, False])
    with pytest.raises(InputError, match=r"phi must hold one number per draw, shape \(n,\); got shape \(3, 1\)"):
        read("phi", LOG_W, [[True], [False], [True]])
    with pytest.raises(InputError, match=r"got shape \(\) of object"):
        read("phi", LOG_W, lambda x: x)
