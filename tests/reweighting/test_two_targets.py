"""Free-energy differences between two targets with a trained flow for each, by every road, against the exact one."""

import pytest
import torch

from boltzgen.energies import Energy, toys
from boltzgen.errors import UnreliableEstimateWarning
from boltzgen.flows import coupling_flow
from boltzgen.reweighting import (
    bennett_acceptance_ratio,
    effective_sample_size,
    expectation,
    free_energy_change,
    pareto_k,
)
from boltzgen.sampling import draw, reweight, weigh
from boltzgen.training import anneal

N = 4000


@pytest.fixture(scope="module")
def ends():
    """Two double wells, and a flow trained on each."""
    targets = toys.DoubleWell("bgflow"), toys.DoubleWell("snf")
    flows = []
    for target in targets:
        flow = coupling_flow(2, layers=4, hidden=(32,), seed=1)
        anneal(flow, target, steps=150, seed=1, progress=False)
        flows.append(flow)
    return targets, flows


def exact(targets):
    return targets[0].log_partition() - targets[1].log_partition()


def test_one_flow_for_each_end(ends, assert_consistent):
    targets, flows = ends
    log_w = [draw(flow, target, N, seed=k).log_w for k, (flow, target) in enumerate(zip(flows, targets, strict=True))]
    assert all(effective_sample_size(one) > 0.2 * N for one in log_w)
    assert_consistent(free_energy_change(*log_w, paired=False), exact(targets))
    assert_consistent(free_energy_change(*log_w[::-1], paired=False), -exact(targets))


def mapped(x, one, other, targets):
    """Work of the map that takes one flow to the other, u_b(y) − u_a(x) − log |det ∂y/∂x|."""
    with torch.no_grad():
        z, log_det = one.bijection.inverse(x.float())
        y, further = other.bijection(z)
    return targets[1].energy(y.double()) - targets[0].energy(x.double()) - (log_det + further).double()


def test_the_map_from_flow_to_flow_by_bennett_both_ways(ends, assert_consistent):
    """Exact draws of both ends, each carried to the other."""
    targets, flows = ends
    x = [target.sample(N, seed=k + 1) for k, target in enumerate(targets)]
    there, back = mapped(x[0], *flows, targets), mapped(x[1], *flows[::-1], targets[::-1])
    found = bennett_acceptance_ratio(there, back)
    assert_consistent(found, exact(targets))
    other_way = bennett_acceptance_ratio(back, there)
    assert other_way.value == pytest.approx(-found.value, abs=1e-9)
    # without the map the ends overlap less
    plain = [targets[1].energy(x[0]) - targets[0].energy(x[0]), targets[0].energy(x[1]) - targets[1].energy(x[1])]
    assert found.standard_error < bennett_acceptance_ratio(*plain).standard_error
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(bennett_acceptance_ratio(there + 0.2, back - 0.2), exact(targets))


def test_each_flow_is_an_end_of_its_own(ends, assert_consistent):
    targets, flows = ends
    values = []
    for k, (flow, target) in enumerate(zip(flows, targets, strict=True)):
        work = -draw(flow, target, N, seed=k).log_w
        back = weigh(flow, target, target.sample(N, seed=k + 5)).log_w
        found = bennett_acceptance_ratio(work, back)
        assert_consistent(found, -target.log_partition())
        values.append((found.value, found.standard_error**2))
    assert_consistent((values[1][0] - values[0][0], (values[0][1] + values[1][1]) ** 0.5), exact(targets))


class Pulled(Energy):
    """u(x) − b x: a normal law of mean b, whose log Z is ½ b² more."""

    def __init__(self, inner, b):
        super().__init__(inner.event_shape)
        self.inner, self.b = inner, b

    def _energy(self, x):
        return self.inner._energy(x) - self.b * x[:, 0]


def test_a_bias_costs_weight_and_k_says_when_it_is_too_much(assert_consistent):
    target = toys.Gaussian([0.0], [[1.0]])
    samples = draw(coupling_flow(1), target, 20_000, seed=1)
    k, sizes = [], []
    for b in (0.3, 1.0, 1.8):
        biased = reweight(samples, Pulled(target, b))
        k.append(pareto_k(biased.log_w))
        sizes.append(effective_sample_size(biased.log_w))
        if b <= 1:
            assert_consistent(expectation(biased.log_w, biased.x[:, 0]), b)
            assert_consistent(free_energy_change(samples.log_w, biased.log_w), -0.5 * b**2)
    assert k == sorted(k)
    assert sizes == sorted(sizes, reverse=True)
    far = reweight(samples, Pulled(target, 4.0))
    assert pareto_k(far.log_w) > 0.7
    with pytest.warns(UnreliableEstimateWarning, match="heavy-tailed|worth only"):
        assert not expectation(far.log_w, far.x[:, 0]).reliable
