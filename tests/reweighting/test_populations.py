import numpy as np
import pytest

from boltzgen.errors import InputError
from boltzgen.reweighting import by_population, expectation, log_partition

RANDOM = np.random.default_rng(0)
LOG_W, F = RANDOM.normal(size=1000), RANDOM.normal(size=1000)


def test_populations_have_the_averages_of_their_draws():
    log_w, f = by_population(LOG_W, F, 20)
    assert len(log_w) == len(f) == 50
    assert log_partition(log_w).value == pytest.approx(log_partition(LOG_W).value, abs=1e-12)
    assert expectation(log_w, f).value == pytest.approx(expectation(LOG_W, F).value, abs=1e-12)


def test_populations_of_one_are_the_draws():
    log_w, f = by_population(LOG_W, F > 0, 1)
    assert log_w == pytest.approx(LOG_W, abs=1e-12)
    assert f == pytest.approx((F > 0).astype(float), abs=1e-12)


def test_copies_count_once():
    """The error is that of the 100 draws there are; of 1000 it would be √10 too small."""
    copies = by_population(np.repeat(LOG_W[:100], 10), np.repeat(F[:100], 10), 10)
    apart, together = expectation(LOG_W[:100], F[:100]), expectation(*copies)
    assert together.standard_error == pytest.approx(apart.standard_error, rel=1e-9)
    assert together.n == 100
    blind = expectation(np.repeat(LOG_W[:100], 10), np.repeat(F[:100], 10))
    assert blind.standard_error < 0.4 * apart.standard_error


def test_a_population_without_weight_has_none():
    log_w, f = by_population([-np.inf, -np.inf, 0.0, -np.inf], [np.nan, 1.0, 3.0, 1.0], 2)
    assert log_w.tolist() == [-np.inf, -np.log(2)]
    assert f.tolist() == [0.0, 3.0]


def test_weights_of_any_size():
    log_w, f = by_population([1e4, 1e4, -1e4, -1e4], [1.0, 3.0, 5.0, 7.0], 2)
    assert log_w == pytest.approx([1e4, -1e4])
    assert f == pytest.approx([2.0, 6.0])


@pytest.mark.parametrize("population", [3, 0, 2000, 2.0])
def test_a_population_that_does_not_divide_the_draws_is_refused(population):
    with pytest.raises(InputError, match="population must"):
        by_population(LOG_W, F, population)
