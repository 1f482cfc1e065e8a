import math

import numpy as np
import pytest
import torch

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import (
    bootstrap,
    conformers,
    expectation,
    expectations,
    free_energy_change,
    free_energy_difference,
    histogram,
    log_partition,
    probability,
    profile,
    quantile,
    thermodynamics,
    variance,
)

N, REPLICAS = 2000, 400


def at_hotter(log_w, u):
    return thermodynamics(log_w, u, [1.1], drawn_at=1.0)


ESTIMATORS = {
    "expectation": (expectation, lambda x: (x,)),
    "expectations": (lambda w, f: expectations(w, f)[1], lambda x: (np.stack([x, x**2], 1),)),
    "variance": (variance, lambda x: (x,)),
    "median": (lambda w, f: quantile(w, f, 0.5), lambda x: (x,)),
    "probability": (probability, lambda x: (x > 0.5,)),
    "histogram": (lambda w, s: histogram(w, s, bins=[-1.0, 0.5, 2.0])[1], lambda x: (x,)),
    "profile": (lambda w, s: profile(w, s, bins=[-1.0, 0.5, 2.0])[0], lambda x: (x,)),
    "log Z": (log_partition, lambda x: ()),
    "difference": (free_energy_difference, lambda x: (x < 0.5, x > 1.0)),
    "change": (free_energy_change, lambda x: (0.3 * x,)),
    "conformers": (lambda w, t: conformers(w, t, boundaries=[0.0, 3.0]).population[0], lambda x: (x[:, None],)),
    "F(T)": (lambda w, u: at_hotter(w, u).free_energy[0], lambda x: (0.5 * x**2,)),
    "U(T)": (lambda w, u: at_hotter(w, u).mean_energy[0], lambda x: (0.5 * x**2,)),
    "C(T)": (lambda w, u: at_hotter(w, u).heat_capacity[0], lambda x: (0.5 * x**2,)),
    "S(T)": (lambda w, u: at_hotter(w, u).entropy[0], lambda x: (0.5 * x**2,)),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_has_the_errors_of_the_bootstrap(shifted, name):
    """The same standard errors; the same intervals but for the side to which ours lean, where they are longer."""
    estimator, rows = ESTIMATORS[name]
    x, log_w = shifted(0.6).draw(N, seed=4)
    ours = estimator(log_w, *rows(x))
    again = bootstrap(estimator, log_w, *rows(x), seed=1, replicas=REPLICAS)
    assert again.value == ours.value
    assert again.standard_error == pytest.approx(ours.standard_error, rel=0.15)
    shorter = np.array([again.interval[0] - ours.interval[0], ours.interval[1] - again.interval[1]])
    assert (shorter > -0.5 * ours.standard_error).all()
    # the error of C(T) itself rests on a few draws, which lengthens both sides
    assert np.abs(shorter).min() < (1.5 if name == "C(T)" else 0.5) * ours.standard_error
    assert (again.ess, again.n, again.pareto_k, again.why) == (ours.ess, ours.n, ours.pareto_k, ours.why)


def test_wrong_errors_are_caught(shifted):
    """The twin: errors that take all draws for equal."""
    x, log_w = shifted(0.3).draw(N, seed=4)
    again = bootstrap(expectation, log_w, x, seed=1, replicas=REPLICAS)
    naive = x.std() / math.sqrt(N)
    assert again.standard_error > 1.3 * naive


def test_it_depends_on_its_seed_only_and_takes_tensors(shifted):
    x, log_w = shifted(0.6).draw(200, seed=4)
    one, other, third = (bootstrap(expectation, log_w, x, seed=s, replicas=50) for s in (1, 1, 2))
    assert one == other != third
    assert bootstrap(expectation, torch.tensor(log_w), torch.tensor(x), seed=1, replicas=50) == one


def test_replicas_that_are_not_reliable_do_not_say_so_each(shifted):
    x, log_w = shifted(0.6).draw(20, seed=4)
    with pytest.warns(UnreliableEstimateWarning, match="too few draws: 20") as caught:
        assert not bootstrap(expectation, log_w, x, seed=1, replicas=50).reliable
    assert len(caught) == 1


def test_mistakes_are_explained():
    with pytest.raises(InputError, match=r"rows must be one per log-weight, 100; got \[99\]"):
        bootstrap(expectation, np.zeros(100), np.zeros(99), seed=1)
    with pytest.raises(InputError, match="must give an Estimate; got EstimateArray"):
        bootstrap(expectations, np.zeros(100), np.zeros((100, 2)), seed=1)
    with pytest.raises(InputError, match="replicas must be a positive integer"):
        bootstrap(expectation, np.zeros(100), np.zeros(100), seed=1, replicas=0)
