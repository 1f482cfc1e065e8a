import math

import numpy as np
import pytest

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import effective_sample_size, evidence_upper_bound, forward_effective_fraction

OFF = 0.05


def forward(shift, n, seed=0):
    """log w of N(shift, 1) draws for the flow N(0, 1), whose KL is shift²/2."""
    return shift * (shift + np.random.default_rng(seed).normal(size=n)) - 0.5 * shift**2


def test_the_bound_exceeds_log_z_by_the_divergence(assert_consistent):
    assert_consistent(evidence_upper_bound(forward(0.8, 50_000) + 3.0), 3.0 + 0.32)
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(evidence_upper_bound(forward(0.8, 50_000) + OFF), 0.32)


def test_the_forward_share_is_that_of_the_draws():
    shift, n = 0.7, 200_000
    backward = shift * np.random.default_rng(1).normal(size=n) - 0.5 * shift**2
    assert forward_effective_fraction(forward(shift, n)) == pytest.approx(math.exp(-(shift**2)), rel=0.02)
    assert effective_sample_size(backward) / n == pytest.approx(forward_effective_fraction(forward(shift, n)), rel=0.03)


def test_only_the_forward_side_sees_a_lost_mode():
    reference = np.where(np.arange(1000) % 2 == 0, 0.0, 50.0)  # half of them where the flow never goes
    assert forward_effective_fraction(reference) < 1e-20
    assert evidence_upper_bound(reference).value == pytest.approx(25.0)


def test_no_density_at_all_is_told():
    reference = np.where(np.arange(100) < 3, np.inf, 0.0)
    assert forward_effective_fraction(reference) == 0.0
    with pytest.warns(UnreliableEstimateWarning, match="no density to 3 of 100"):
        assert evidence_upper_bound(reference).value == math.inf


def test_few_configurations_are_told():
    with pytest.warns(UnreliableEstimateWarning, match="too few reference configurations: 10"):
        evidence_upper_bound(forward(0.5, 10))


@pytest.mark.parametrize("bad", [[math.nan], [-math.inf, 0.0], [], [[0.0]]])
def test_a_reference_without_meaning_is_refused(bad):
    for function in (evidence_upper_bound, forward_effective_fraction):
        with pytest.raises(InputError, match="reference_log_w must hold"):
            function(bad)
