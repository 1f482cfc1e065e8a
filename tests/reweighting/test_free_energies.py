import logging
import math
import warnings

import numpy as np
import pytest
import torch

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import (
    bennett_acceptance_ratio,
    exponential_average,
    free_energy_change,
    log_partition,
    mbar_arrays,
)

SAME_SOLUTION = 1e-8  # absolute, kT, to an independent implementation
OFF = math.log(1.05)


class Oscillators:
    """States a and b: springs of width 1 at 0, and of width `width` at `shift`, offset by 3 kT; in one dimension."""

    def __init__(self, width=0.8, shift=1.0):
        self.width, self.shift = width, shift
        self.difference = 3.0 - math.log(width)

    def u_a(self, x):
        return 0.5 * x**2

    def u_b(self, x):
        return 0.5 * ((x - self.shift) / self.width) ** 2 + 3.0

    def works(self, n_a, n_b, seed):
        random = np.random.default_rng(seed)
        x_a, x_b = random.normal(size=n_a), self.shift + self.width * random.normal(size=n_b)
        return self.u_b(x_a) - self.u_a(x_a), self.u_a(x_b) - self.u_b(x_b)


@pytest.fixture(scope="module")
def pymbar():
    """pymbar, whose advertisement on import is not ours to print."""
    logging.disable(logging.WARNING)
    try:
        import pymbar
        import pymbar.other_estimators

        return pymbar
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("n_a", "n_b"), [(1000, 1000), (3000, 200), (50, 5000)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_bennett_and_exp_equal_pymbar(pymbar, n_a, n_b, shift):
    forward, reverse = Oscillators(shift=shift).works(n_a, n_b, seed=1)
    theirs = pymbar.other_estimators.bar(forward, reverse, relative_tolerance=1e-13)
    ours = bennett_acceptance_ratio(forward, reverse)
    assert ours.value == pytest.approx(theirs["Delta_f"], abs=SAME_SOLUTION)
    assert ours.standard_error == pytest.approx(theirs["dDelta_f"], rel=0.15)  # theirs takes the model's variance
    one_sided = pymbar.other_estimators.exp(forward)
    assert exponential_average_value(forward) == pytest.approx(one_sided["Delta_f"], abs=SAME_SOLUTION)


def exponential_average_value(work):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        return exponential_average(work).value


@pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning")  # pymbar's options for scipy
def test_mbar_with_our_arrays_equals_bennett(pymbar):
    system, random = Oscillators(), np.random.default_rng(0)
    x = random.normal(size=1500), system.shift + system.width * random.normal(size=700)
    u_kn, counts = mbar_arrays([np.stack([system.u_a(x_j), system.u_b(x_j)]) for x_j in x])
    assert counts.tolist() == [1500, 700]
    theirs = pymbar.MBAR(u_kn, counts).compute_free_energy_differences()
    works = system.u_b(x[0]) - system.u_a(x[0]), system.u_a(x[1]) - system.u_b(x[1])
    assert bennett_acceptance_ratio(*works).value == pytest.approx(theirs["Delta_f"][0, 1], abs=SAME_SOLUTION)


@pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning")
def test_mbar_of_a_flow_alone_is_its_log_z(pymbar):
    x = 1.1 * np.random.default_rng(0).normal(size=2000)
    u, log_q = 0.5 * x**2, -0.5 * (x / 1.1) ** 2 - 0.5 * math.log(2 * math.pi * 1.21)
    u_kn, counts = mbar_arrays([np.stack([-log_q, u]), np.zeros((2, 0))])
    theirs = pymbar.MBAR(u_kn, counts).compute_free_energy_differences()
    assert theirs["Delta_f"][0, 1] == pytest.approx(-log_partition(-u - log_q).value, abs=SAME_SOLUTION)


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_oscillators_have_their_exact_difference(assert_consistent, shift):
    system = Oscillators(shift=shift)
    forward, reverse = system.works(100_000, 60_000, seed=2)
    assert_consistent(bennett_acceptance_ratio(forward, reverse), system.difference)
    assert_consistent(exponential_average(forward), system.difference)
    assert_consistent(free_energy_change(np.zeros_like(forward), -forward), system.difference)


def test_a_wrong_work_is_caught(assert_consistent):
    system = Oscillators(shift=0.5)
    forward, reverse = system.works(200_000, 200_000, seed=2)
    for estimate in (
        bennett_acceptance_ratio(forward + OFF, reverse),
        exponential_average(forward + OFF),
        free_energy_change(np.zeros_like(forward), -forward - OFF),
        free_energy_change(np.zeros_like(forward), -forward - OFF, paired=False),
    ):
        with pytest.raises(AssertionError, match="sigmas"):
            assert_consistent(estimate, system.difference)


def test_bennett_is_the_more_precise():
    forward, reverse = Oscillators(shift=1.5).works(1000, 1000, seed=3)
    assert bennett_acceptance_ratio(forward, reverse).standard_error < exponential_average(forward).standard_error / 1.5


def test_the_difference_changes_sign_with_the_states():
    forward, reverse = Oscillators().works(800, 300, seed=4)
    there, back = bennett_acceptance_ratio(forward, reverse), bennett_acceptance_ratio(reverse, forward)
    assert there.value == pytest.approx(-back.value, abs=1e-12)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=1e-9)
    assert there.ess == pytest.approx(back.ess)


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_an_offset_only_shifts(offset):
    forward, reverse = Oscillators().works(800, 300, seed=4)
    before, after = (
        bennett_acceptance_ratio(forward, reverse),
        bennett_acceptance_ratio(forward + offset, reverse - offset),
    )
    assert after.value == pytest.approx(before.value + offset, abs=1e-8)
    assert after.standard_error == pytest.approx(before.standard_error, rel=1e-6)


@pytest.mark.parametrize(
    ("n_a", "n_b", "shift", "width"), [(500, 500, 1.0, 0.8), (200, 1000, 2.0, 1.0), (300, 300, 3.0, 1.0)]
)
def test_bennett_intervals_cover_the_truth(n_a, n_b, shift, width):
    system = Oscillators(width, shift)
    found = [bennett_acceptance_ratio(*system.works(n_a, n_b, seed)) for seed in range(1000)]
    share = np.mean([low <= system.difference <= high for low, high in (e.interval for e in found)])
    assert 0.93 <= share <= 0.97, share
    errors = np.mean([e.standard_error for e in found])
    assert np.std([e.value for e in found]) == pytest.approx(errors, rel=0.1)


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_of_a_change_cover_the_truth(paired):
    """Targets N(±0.4, 1), the second times e², one flow N(0, 1) for both, or one for each."""
    hits = []
    for seed in range(1000):
        x = np.random.default_rng(seed).normal(size=(2, 1000))
        log_w_a, log_w_b = 0.4 * x[0] - 0.08, 2 - 0.4 * x[int(not paired)] - 0.08
        low, high = free_energy_change(log_w_a, log_w_b, paired=paired).interval
        hits.append(low <= -2.0 <= high)
    assert 0.93 <= np.mean(hits) <= 0.97


def test_the_same_draws_for_both_targets_cancel_their_errors():
    log_w = np.random.default_rng(0).normal(size=2000)
    b = log_w + 0.05 * np.random.default_rng(1).normal(size=2000)
    paired, apart = free_energy_change(log_w, b), free_energy_change(log_w, b, paired=False)
    assert paired.value == pytest.approx(apart.value, abs=1e-12)
    assert paired.standard_error < apart.standard_error / 10
    assert paired.value == pytest.approx(log_partition(log_w).value - log_partition(b).value, abs=1e-12)


def test_two_flows_have_the_errors_of_both():
    random = np.random.default_rng(0)
    a, b = random.normal(size=2000), 0.5 * random.normal(size=1000)
    change = free_energy_change(a, b, paired=False)
    expected = math.hypot(log_partition(a).standard_error, log_partition(b).standard_error)
    assert change.standard_error == pytest.approx(expected, rel=0.01)
    assert (change.n, change.ess) == (1000, log_partition(b).ess)  # of the worse one


def test_a_bad_side_is_named():
    with pytest.warns(UnreliableEstimateWarning, match="too few draws for b: 10"):
        free_energy_change(np.zeros(100), np.zeros(10), paired=False)
    heavy = 3 * np.random.default_rng(0).exponential(size=1000)
    with pytest.warns(UnreliableEstimateWarning, match="draws for a exceeds"):
        free_energy_change(heavy, np.zeros(1000))


ZERO = np.zeros(100)


@pytest.mark.parametrize(
    ("forward", "reverse", "message"),
    [
        (np.full(100, 1000.0), np.full(100, 1000.0), "share .*e-299: put states between"),
        (np.full(100, math.inf), np.full(100, math.inf), "share 0:"),
        (np.full(100, math.inf), ZERO, "share"),
        (30.0 + ZERO, 30.0 + ZERO, "share .*e-11"),
        (np.where(np.arange(100) < 3, np.nan, 0.0), ZERO, "work_forward must hold numbers.*3 NaN"),
        (ZERO, np.where(np.arange(100) < 3, -np.inf, 0.0), "work_reverse must hold numbers.*3 -inf"),
        (ZERO, np.zeros(0), "work_reverse must hold numbers.*got 0 with"),
        (ZERO, [ZERO], r"shape \(n,\)"),
    ],
)
def test_without_overlap_there_is_an_error_not_a_number(forward, reverse, message):
    with pytest.raises(InputError, match=message):
        bennett_acceptance_ratio(forward, reverse)


def test_infinite_work_counts_as_a_draw(pymbar):
    """b lies on x > 0 only: half the draws of a have no energy there."""
    x = np.random.default_rng(0).normal(size=(2, 20_000))
    forward, reverse = np.where(x[0] > 0, 0.0, np.inf), np.zeros(20_000)
    estimate = bennett_acceptance_ratio(forward, reverse)
    assert abs(estimate.value - math.log(2)) < 4 * estimate.standard_error
    assert bennett_acceptance_ratio(forward[x[0] > 0], reverse).value == pytest.approx(0, abs=1e-12)  # trap 6
    assert abs(exponential_average(forward).value - math.log(2)) < 4 * estimate.standard_error


def test_little_overlap_is_told():
    forward, reverse = Oscillators(1.0, 5.5).works(100, 100, seed=0)
    with pytest.warns(UnreliableEstimateWarning, match="share only") as caught:
        estimate = bennett_acceptance_ratio(forward, reverse)
    assert caught[0].filename == __file__
    assert not estimate.reliable
    assert 1 <= estimate.ess < 25


def test_complete_overlap_has_no_error():
    estimate = bennett_acceptance_ratio(ZERO + 2.0, ZERO - 2.0)
    assert (estimate.value, estimate.standard_error, estimate.ess) == (
        pytest.approx(2.0),
        pytest.approx(0.0, abs=1e-12),
        pytest.approx(200),
    )


def test_nothing_in_the_other_state():
    with pytest.warns(UnreliableEstimateWarning, match="weight zero"):
        assert exponential_average(np.full(100, math.inf)).value == math.inf


def test_torch_and_numpy_agree():
    forward, reverse = Oscillators().works(500, 500, seed=5)
    tensors = torch.tensor(forward), torch.tensor(reverse)
    assert bennett_acceptance_ratio(*tensors) == bennett_acceptance_ratio(forward, reverse)
    assert exponential_average(tensors[0]) == exponential_average(forward)


def test_pairs_must_pair():
    with pytest.raises(InputError, match="got 100 and 99: pass paired=False"):
        free_energy_change(ZERO, ZERO[:99])


GOOD = np.zeros((2, 50))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "some draws"),
        ([np.zeros((2, 0)), np.zeros((2, 0))], "some draws"),
        ([GOOD, np.zeros((3, 50))], r"K arrays \(K, n_j\)"),
        ([GOOD, np.full((2, 50), np.nan)], "got others in block 1"),
        ([np.full((2, 50), np.inf), GOOD], "got others in block 0"),
        ([GOOD, np.full((2, 50), -np.inf)], "got others in block 1"),
        ([[[0.0] * 50, [1e3] * 50], [[1e3] * 50, [0.0] * 50]], r"got \[1\] apart from \[0\]"),
        ([np.zeros(50)], r"shape \(n, d\)"),
    ],
)
def test_arrays_for_mbar_are_checked_first(blocks, message):
    with pytest.raises(InputError, match=message):
        mbar_arrays(blocks)


def test_states_may_overlap_through_others():
    centres, random = np.array([0.0, 4.0, 8.0]), np.random.default_rng(0)
    draws = [c + random.normal(size=1000) for c in centres]
    blocks = [0.5 * (x - centres[:, None]) ** 2 for x in draws]
    assert mbar_arrays(blocks)[0].shape == (3, 3000)
    with pytest.raises(InputError, match=r"got \[1\] apart from \[0\]"):
        mbar_arrays([blocks[0][[0, 2]], blocks[2][[0, 2]]])
