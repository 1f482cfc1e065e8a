"""Running estimates: those of the first draws, whatever comes later."""

import dataclasses
import math

import pytest
import torch

from boltzgen.errors import UnreliableEstimateWarning
from boltzgen.reporting import default_estimates, running
from boltzgen.reweighting import effective_sample_size
from boltzgen.sampling import Samples


def toy(log_w):
    n = len(log_w)
    return Samples(torch.zeros(n, 1), torch.zeros(n), -log_w)


def test_each_point_is_the_estimate_of_the_first_draws():
    samples = toy(0.5 * torch.randn(5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    found = running(samples, points=7)
    assert found["n"][0] == 100
    assert found["n"][-1] == 5000
    for k, n in enumerate(found["n"]):
        part = samples[:n]
        assert found["ess"][k] == effective_sample_size(part.log_w)
        for name, (estimate, unit) in default_estimates(part).items():
            series = found["estimates"][name]
            assert (series["value"][k], series["unit"]) == (estimate.value, unit)
            assert series["standard_error"][k] == estimate.standard_error


@pytest.mark.parametrize("heaviest", [0.0, 12.0])
def test_rows_that_are_not_independent_have_no_reliable_estimate(heaviest):
    log_w = torch.zeros(1000, dtype=torch.float64)
    log_w[0] = heaviest
    with pytest.warns(UnreliableEstimateWarning, match="must not be believed"):
        found = default_estimates(dataclasses.replace(toy(log_w), independent=False))
    ((estimate, _),) = found.values()
    assert not estimate.reliable
    assert estimate.why.endswith("the rows are not independent draws")
    assert ("carries" in estimate.why) == (heaviest > 0)
    assert all(estimate.reliable for estimate, _ in default_estimates(toy(torch.zeros(1000))).values())


def test_a_giant_weight_shows_as_a_fall():
    log_w = torch.zeros(4000, dtype=torch.float64)
    quiet = running(toy(log_w))
    assert quiet["ess"] == [float(n) for n in quiet["n"]]
    log_w[3000] = 12.0
    found = running(toy(log_w))
    assert found["ess"][-1] < 2 < 100 <= found["ess"][0]


def test_failures_at_the_beginning_are_unknown_not_wrong():
    log_w = torch.zeros(1000, dtype=torch.float64)
    log_w[:150] = -math.inf
    found = running(toy(log_w))
    assert found["estimates"]["log_partition"]["value"][0] is None
    assert found["estimates"]["log_partition"]["value"][-1] is not None
    assert found["ess"][0] == 0.0


def test_fewer_draws_than_the_first_point():
    assert running(toy(torch.zeros(7, dtype=torch.float64)))["n"] == [7]
