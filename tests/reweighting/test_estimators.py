import math
import time
import warnings

import numpy as np
import pytest
import torch

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import (
    effective_sample_size,
    expectation,
    free_energy_difference,
    log_partition,
    pareto_k,
    probability,
)

OFF = math.log(1.05)  # weights off by 5 %, in the power twins


def phi(x):
    """Standard normal distribution function."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


class Shifted:
    """Target exp(−½(x − m)²) with proposal N(0, 1): lognormal weights, ESS/n = exp(−m²), everything known."""

    def __init__(self, ess):
        self.m = math.sqrt(-math.log(ess))
        self.log_partition = 0.5 * math.log(2 * math.pi)
        self.mean = self.m
        self.above = 1 - phi(1 - self.m)  # P(x > 1)
        self.difference = -math.log((1 - self.above) / self.above)  # from above 1 to below 1

    def draw(self, shape, seed):
        x = np.random.default_rng(seed).normal(size=shape)
        return x, self.m * x - 0.5 * self.m**2 + self.log_partition


def estimates(target, x, log_w):
    """Estimate and truth of every estimator."""
    above = x > 1
    return {
        "log_partition": (log_partition(log_w), target.log_partition),
        "mean": (expectation(log_w, x), target.mean),
        "square": (expectation(log_w, x**2), 1 + target.mean**2),
        "probability": (probability(log_w, above), target.above),
        "difference": (free_energy_difference(log_w, above, ~above), target.difference),
    }


@pytest.mark.parametrize("ess", [0.8, 0.3, 0.1])
def test_estimators_are_right(ess, assert_consistent):
    target = Shifted(ess)
    for estimate, exact in estimates(target, *target.draw(200_000, seed=1)).values():
        assert_consistent(estimate, exact)
        assert estimate.reliable
        assert estimate.n == 200_000
        assert estimate.ess / estimate.n == pytest.approx(ess, rel=0.1)


def test_weights_off_by_five_percent_are_caught(assert_consistent):
    target = Shifted(0.8)
    x, log_w = target.draw(500_000, seed=1)
    for estimate, exact in estimates(target, x, log_w + OFF * (x > 1)).values():
        with pytest.raises(AssertionError, match="sigmas"):
            assert_consistent(estimate, exact)


def test_eighteen_sigmas_are_not_consistent(assert_consistent):
    estimate = log_partition(Shifted(0.8).draw(1000, seed=0)[1])
    assert_consistent(estimate, estimate.value + 3.9 * estimate.standard_error)
    for sigmas in (4.1, 18):
        with pytest.raises(AssertionError, match="sigmas"):
            assert_consistent(estimate, estimate.value - sigmas * estimate.standard_error)


def coverage(ess, n, replicas, off=0.0):
    """Share of 95 % intervals that hold the truth, by estimator."""
    target = Shifted(ess)
    x, log_w = target.draw((replicas, n), seed=2)
    hits = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        for row, weights in zip(x, log_w + off * (x > 1), strict=True):
            for name, (estimate, exact) in estimates(target, row, weights).items():
                low, high = estimate.interval
                hits.setdefault(name, []).append(low <= exact <= high)
    return {name: np.mean(values) for name, values in hits.items()}


def test_intervals_cover_the_truth():
    assert all(0.93 <= share <= 0.97 for share in coverage(0.3, 1000, 1000).values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ess", "n", "most"),
    [
        (0.05, 1000, 0.996),
        (0.1, 1000, 0.986),
        (0.2, 1000, 0.975),
        (0.5, 1000, 0.97),
        (0.8, 1000, 0.97),
        (0.05, 4000, 0.97),
        (0.2, 4000, 0.97),
    ],
)
def test_intervals_cover_the_truth_at_any_sample_quality(ess, n, most):
    """Those of x and x² too, largest where lognormal weights are; those of a state are long where few draws count."""
    found = coverage(ess, n, 2000)
    rare = {name: found.pop(name) for name in ("probability", "difference")}
    assert all(0.93 <= share <= 0.975 for share in found.values())  # noise 0.4 % at the upper end
    assert all(0.93 <= share <= most for share in rare.values())


def test_intervals_miss_the_truth_if_weights_are_off():
    assert all(share < 0.93 for share in coverage(0.8, 5000, 300, off=OFF).values())


def test_draws_that_could_not_be_evaluated_count(assert_consistent):
    """Trap 6: a target on x > 0 only; leaving out the others would give log Z too high by ln 2."""
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    log_w = torch.where(x > 0, 0.0, -math.inf)
    estimate = log_partition(log_w)
    assert_consistent(estimate, -math.log(2))
    assert estimate.n == 100_000
    assert estimate.ess == pytest.approx(50_000, rel=0.02)
    assert log_partition(log_w[x > 0]).value == 0.0
    x[x < 0] = math.nan  # what a failed frame's observable may be
    assert_consistent(expectation(log_w, x), math.sqrt(2 / math.pi))


def test_a_lost_mode_leaves_no_trace():
    """Trap 8: wells of equal weight at ±10, draws in one of them: log Z off by ln 2, and nothing tells."""
    x = 10 + torch.randn(10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_w = torch.logaddexp(-0.5 * (x - 10) ** 2, -0.5 * (x + 10) ** 2) + 0.5 * (x - 10) ** 2
    estimate = log_partition(log_w)
    assert estimate.reliable
    assert estimate.value == pytest.approx(0.0, abs=1e-6)  # truth: ln 2


def test_a_lost_mode_between_states_is_told():
    x, log_w = Shifted(0.8).draw(1000, seed=0)
    for in_a, in_b, value in ((x < 9, x > 9, math.inf), (x > 9, x < 9, -math.inf)):
        with pytest.warns(UnreliableEstimateWarning, match="too few draws in state [ab]: 0"):
            estimate = free_energy_difference(log_w, in_a, in_b)
        assert (estimate.value, estimate.standard_error, estimate.reliable) == (value, math.inf, False)
        assert estimate.interval == (-math.inf, math.inf)
    with pytest.warns(UnreliableEstimateWarning, match="in the state: 0"):
        estimate = probability(log_w, x > 9)
    assert (estimate.value, estimate.interval) == (0.0, (0.0, 1.0))


def test_a_state_of_few_draws_is_told():
    x, log_w = Shifted(0.8).draw(1000, seed=0)
    rare = np.sort(x)[-10]
    with pytest.warns(UnreliableEstimateWarning, match="too few draws in state b: 10"):
        free_energy_difference(log_w, x < rare, x >= rare)


def test_heavy_weights_inside_one_state_are_told():
    """A state drawn ten thousand times too often hides its tail below the weights of the other."""
    random = np.random.default_rng(0)
    in_b = np.arange(20_000) % 2 == 0
    log_w = np.where(in_b, 1.5 * random.exponential(size=20_000) - 30, 0.0)
    assert pareto_k(log_w) == -math.inf
    with pytest.warns(UnreliableEstimateWarning, match="in state b exceeds"):
        free_energy_difference(log_w, ~in_b, in_b)


def test_free_energy_differences_beyond_rounding():
    in_b = np.arange(1000) % 2 == 0
    for difference in (-600.0, 600.0):
        estimate = free_energy_difference(np.where(in_b, -difference, 0.0), ~in_b, in_b)
        assert estimate.value == pytest.approx(difference)
        assert estimate.standard_error == pytest.approx(2 / math.sqrt(1000), rel=0.01)


def test_the_difference_changes_sign_with_the_states():
    x, log_w = Shifted(0.5).draw(10_000, seed=4)
    there, back = free_energy_difference(log_w, x < 1, x > 1), free_energy_difference(log_w, x > 1, x < 1)
    assert there.value == pytest.approx(-back.value)
    assert there.standard_error == pytest.approx(back.standard_error)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.interval[0] < there.value < there.interval[1]


def test_the_error_of_a_difference_knows_that_the_states_compete():
    """Uniform weights: se² of ln(p/(1 − p)) is 1/(n p (1 − p))."""
    in_a = np.arange(10_000) % 4 == 0
    estimate = free_energy_difference(np.zeros(10_000), in_a, ~in_a)
    assert estimate.value == pytest.approx(-math.log(3))
    assert estimate.standard_error == pytest.approx(1 / math.sqrt(10_000 * 3 / 16), rel=1e-3)


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_a_constant_in_the_energy_only_shifts_log_z(offset):
    target = Shifted(0.5)
    x, log_w = target.draw(1000, seed=5)
    before, after = estimates(target, x, log_w), estimates(target, x, log_w + offset)
    for name in before:
        shift = offset if name == "log_partition" else 0
        assert after[name][0].value == pytest.approx(before[name][0].value + shift, abs=1e-6)
        assert after[name][0].standard_error == pytest.approx(before[name][0].standard_error, rel=1e-6)


def test_constants_are_exact():
    _, log_w = Shifted(0.5).draw(1000, seed=6)
    estimate = expectation(log_w, np.full(1000, 3.7))
    assert estimate.value == pytest.approx(3.7)
    assert estimate.standard_error == pytest.approx(0, abs=1e-12)
    assert log_partition(np.full(1000, 0.25)).interval == (0.25, 0.25)


def test_torch_and_numpy_in_any_dtype_agree():
    target = Shifted(0.5)
    x, log_w = target.draw(1000, seed=7)
    x, log_w = x.astype(np.float32), log_w.astype(np.float32)
    tensors = torch.tensor(x, requires_grad=True), torch.tensor(log_w, requires_grad=True)
    for name, (estimate, _) in estimates(target, *tensors).items():
        assert estimate == estimates(target, x, log_w)[name][0]
        assert type(estimate.value) is float
        assert estimate.ess == effective_sample_size(log_w)
        assert estimate.pareto_k == pareto_k(log_w)


def test_integer_and_boolean_observables():
    _, log_w = Shifted(0.5).draw(1000, seed=8)
    inside = np.arange(1000) % 3 == 0
    assert expectation(log_w, inside).value == pytest.approx(probability(log_w, inside).value)
    assert expectation(log_w, torch.tensor(inside).long()).value == pytest.approx(probability(log_w, inside).value)


ZERO, HALF = np.zeros(100), np.arange(100) < 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expectation(ZERO, np.zeros(99)), "one entry per log-weight, 100; got 99"),
        (lambda: expectation(ZERO, np.zeros((100, 1))), r"\(100, 1\)"),
        (lambda: expectation(ZERO, np.full(100, math.nan)), "100 NaN or infinite of 100"),
        (lambda: free_energy_difference(ZERO, ZERO, HALF), "in_a must be boolean.*float64"),
        (lambda: free_energy_difference(ZERO, HALF, HALF), "not overlap; got 50 of 100"),
        (lambda: free_energy_difference(ZERO, HALF, ~HALF[:99]), "in_b must have one entry"),
        (lambda: free_energy_difference(np.where(HALF, -np.inf, 0), HALF, HALF & ~HALF), "all 100 are -inf"),
        (lambda: probability(ZERO, np.ones(100)), "in_state must be boolean"),
        (lambda: log_partition([[0.0]]), r"shape \(n,\)"),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_million_draws_take_well_under_a_second():
    x, log_w = Shifted(0.5).draw(1_000_000, seed=9)
    for call in (lambda: expectation(log_w, x), lambda: free_energy_difference(log_w, x < 0, x > 0)):
        start = time.process_time()
        call()
        assert time.process_time() - start < 2.0  # 0.3 s measured; room for a loaded machine


def test_a_state_whose_weights_vanish_has_no_free_energy_to_believe():
    log_w, a = np.repeat([0.0, -800.0], 500), np.arange(1000) < 500
    with pytest.warns(UnreliableEstimateWarning, match="in state b are too small beside the others"):
        found = free_energy_difference(log_w, a, ~a)
    assert (found.value, found.standard_error, found.reliable) == (math.inf, math.inf, False)
