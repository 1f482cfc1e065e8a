import math

import numpy as np
import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.reweighting import (
    clipped_effective_sample_size,
    effective_sample_size,
    expectation,
    largest_weight,
    normalized_weights,
    weight_entropy,
)
from boltzgen.sampling import Samples

ROUNDING = 1e-12  # relative, float64


def gaussian_shift(n, shift, seed=0):
    """Log-weights of N(0, 1) draws for the target N(shift, 1); ESS/n is exp(-shift²)."""
    return shift * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - shift**2 / 2


def test_equal_weights_are_worth_their_number():
    assert effective_sample_size(torch.full((1000,), -7.3)) == pytest.approx(1000, rel=ROUNDING)


def test_draws_of_weight_zero_are_worth_nothing():
    assert effective_sample_size([0.0, 0.0, -math.inf, -math.inf]) == 2.0


def test_no_weight_at_all_is_worth_nothing():
    assert effective_sample_size([-math.inf] * 5) == 0.0


def test_one_giant_weight_is_one_draw():
    assert effective_sample_size([0.0] * 999 + [2000.0]) == 1.0


def test_weights_beyond_the_range_of_floats():
    log_w = gaussian_shift(1000, 1.0)
    for offset in (-1e5, 1e5):
        assert effective_sample_size(log_w + offset) == pytest.approx(effective_sample_size(log_w), rel=1e-9)


def test_value_of_a_gaussian_shift():
    assert effective_sample_size(gaussian_shift(1_000_000, 0.7)) / 1e6 == pytest.approx(math.exp(-0.49), rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_dtype_is_accounted_in_float64(dtype):
    log_w = gaussian_shift(100_000, 1.0).to(dtype).requires_grad_()
    expected = effective_sample_size(log_w.detach().double().numpy())
    assert effective_sample_size(log_w) == expected


@pytest.mark.parametrize(
    ("log_w", "message"),
    [
        ([0.0, math.nan], "1 NaN"),
        ([0.0, math.inf], r"1 \+inf"),
        ([], "got none"),
        (np.zeros((3, 1)), r"\(3, 1\)"),
        (torch.zeros(2, 2), r"\(2, 2\)"),
        (["a", "b"], "one number per draw"),
    ],
)
@pytest.mark.parametrize("function", [effective_sample_size, normalized_weights, clipped_effective_sample_size])
def test_what_is_no_set_of_weights_is_refused(function, log_w, message):
    with pytest.raises(InputError, match=message):
        function(log_w)


def test_normalized_weights():
    w = normalized_weights(gaussian_shift(1000, 1.0).float() + 3000)
    assert w.dtype == np.float64
    assert w.sum() == pytest.approx(1, rel=ROUNDING)
    with pytest.raises(InputError, match="all 2 are -inf"):
        normalized_weights([-math.inf, -math.inf])


def test_clipping_cuts_the_largest_weights_to_the_smallest_of_them():
    log_w = np.log(np.arange(1.0, 11.0))
    w = np.minimum(np.arange(1.0, 11.0), 8.0)
    assert clipped_effective_sample_size(log_w, share=0.3) == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=ROUNDING)
    assert clipped_effective_sample_size(log_w) == pytest.approx(effective_sample_size(log_w), rel=ROUNDING)
    with pytest.raises(InputError, match="share"):
        clipped_effective_sample_size(log_w, share=0.0)


def test_effective_sample_size_is_blind_to_a_lost_mode():
    """Trap 8: equal wells at ±10, all draws in one of them: nothing in the weights tells."""
    x = 10 + torch.randn(10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_w = torch.logaddexp(-0.5 * (x - 10) ** 2, -0.5 * (x + 10) ** 2) + 0.5 * (x - 10) ** 2
    assert effective_sample_size(log_w) / 10_000 == pytest.approx(1.0, rel=1e-6)


def test_the_heaviest_draw_and_the_entropy():
    log_w = [0.0, math.log(3), -math.inf]
    assert largest_weight(log_w) == pytest.approx(0.75, rel=ROUNDING)
    assert weight_entropy(log_w) == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75), rel=ROUNDING)


def test_entropy_lies_between_one_draw_and_all_of_them():
    assert weight_entropy([0.0, -1e4, -math.inf]) == 0.0
    assert weight_entropy(np.full(1000, 1e6)) == pytest.approx(math.log(1000), rel=ROUNDING)
    log_w = gaussian_shift(100_000, 0.5)
    # N(0, 1) to N(0.5, 1): KL(p ‖ q) = 1/8
    assert weight_entropy(log_w) == pytest.approx(math.log(100_000) - 0.125, abs=0.005)


@pytest.mark.parametrize("function", [largest_weight, weight_entropy])
def test_no_weight_at_all_has_no_shares(function):
    with pytest.raises(InputError, match="at least one finite"):
        function([-math.inf, -math.inf])


def test_samples_are_not_their_weights():
    samples = Samples(torch.zeros(50, 1), torch.zeros(50), torch.zeros(50))
    with pytest.raises(InputError, match="log_w must be an array or tensor; got Samples: pass"):
        effective_sample_size(samples)
    with pytest.raises(InputError, match="log_w must be an array or tensor; got Samples"):
        expectation(samples, samples.x[:, 0])
    with pytest.raises(InputError, match="f must be an array or tensor; got Samples"):
        expectation(samples.log_w, samples)
