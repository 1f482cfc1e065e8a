import math
from dataclasses import replace

import pytest
import torch

from boltzgen.energies import toys
from boltzgen.errors import InputError
from boltzgen.reporting import judge
from boltzgen.sampling import Samples

N = 5000


def light(verdict, name):
    return next((check.status for check in verdict.checks if check.name == name), None)


def number(verdict, name):
    return next(check.value for check in verdict.checks if check.name == name)


def wells(shares, n=N, seed=0, *, at=10.0):
    """Draws of round wells at ∓at with these shares, for the target where both have the same; and log w of any x."""
    generator = torch.Generator().manual_seed(seed)
    right = torch.rand(n, generator=generator) < shares[1]
    x = torch.where(right, at, -at).double()[:, None] + torch.randn(n, 2, generator=generator, dtype=torch.float64)

    def log_density(x, shares):
        square = ((x[:, None, 0] - torch.tensor([-at, at])).square() + x[:, None, 1].square()) / 2
        return torch.logsumexp(torch.tensor(shares, dtype=torch.float64).log() - square, 1)

    def log_w(x):
        return log_density(x, (0.5, 0.5)) - log_density(x, shares)

    return Samples(x, log_density(x, shares), -log_density(x, (0.5, 0.5)), seed=seed), log_w


def test_reference_configurations_of_the_target_find_nothing_wrong_with_a_good_flow():
    samples, log_w = wells((0.4, 0.6))
    verdict = judge(samples, reference_log_w=log_w(wells((0.5, 0.5), 1000, seed=1)[0].x))
    assert verdict.status == "green"
    assert number(verdict, "reference gap") < 0.02


def test_a_mode_the_flow_hardly_draws_shows_in_the_reference():
    """Drawn once in ten thousand times: no draw of it, perfect weights, and a reference that knows."""
    samples, log_w = wells((1e-5, 1 - 1e-5))
    assert judge(samples).trustworthy
    verdict = judge(samples, reference_log_w=log_w(wells((0.5, 0.5), 1000, seed=1)[0].x))
    assert light(verdict, "coverage") == light(verdict, "reference gap") == "red"
    assert number(verdict, "reference gap") == pytest.approx(0.5 * math.log(1e5), rel=0.15)


def test_a_little_above_the_largest_weight_is_no_lost_mode_and_far_above_is():
    samples, _ = wells((0.5, 0.5))
    found = torch.zeros(100) + samples.log_w.max()
    for excess, status in ((2.9, "green"), (3.1, "red")):
        found[:5] = samples.log_w.max() + excess
        assert light(judge(samples, reference_log_w=found), "coverage") == status


def test_a_gap_below_the_largest_weight_is_found_too():
    log_w = torch.zeros(N, dtype=torch.float64)
    log_w[0] = 4.0
    samples = Samples(torch.zeros(N, 1), torch.zeros(N), -log_w)
    verdict = judge(samples, reference_log_w=torch.full((500,), 2.0))
    assert light(verdict, "coverage") == "green"
    assert light(verdict, "reference gap") == "red"
    assert light(judge(samples, reference_log_w=torch.full((500,), 0.5)), "reference gap") == "amber"


@pytest.mark.parametrize("missing", [0, 17, 39])
def test_one_of_forty_components_missing(missing):
    target = toys.GaussianMixture40()
    kept = torch.arange(40) != missing
    generator = torch.Generator().manual_seed(1)
    chosen = kept.nonzero()[:, 0][torch.randint(39, (N,), generator=generator)]
    x = target.locs[chosen] + target.scale * torch.randn(N, 2, generator=generator, dtype=torch.float64)

    def log_q(x):
        square = (x[:, None] - target.locs[kept]).square().sum(-1)
        return torch.logsumexp(square / (-2 * target.scale**2), 1) - math.log(39 * 2 * math.pi * target.scale**2)

    samples = Samples(x, log_q(x), target.energy(x))
    assert number(judge(samples), "effective share") > 0.9
    reference = target.sample(2000, seed=2).double()
    verdict = judge(samples, reference_log_w=-target.energy(reference) - log_q(reference))
    assert light(verdict, "coverage") == "red"
    assert number(verdict, "coverage") == pytest.approx(1 / 40, abs=0.015)


def test_mirrored_molecules_are_outside_the_flow():
    samples, _ = wells((0.5, 0.5))
    verdict = judge(samples, reference_log_w=[math.inf] * 50)
    assert light(verdict, "coverage") == light(verdict, "reference gap") == "red"
    assert "coverage 100 %" in verdict.headline


def test_flows_that_agree_need_no_reference():
    verdict = judge(wells((0.4, 0.6))[0], others=[wells((0.6, 0.4), seed=1)[0], wells((0.5, 0.5), seed=2)[0]])
    assert light(verdict, "agreement") == "green"
    assert light(verdict, "coverage") is None
    assert verdict.status == "green"


def collapsed(side, seed):
    return wells((1 - 1e-300, 1e-300) if side == "left" else (1e-300, 1 - 1e-300), seed=seed)[0]


def test_a_flow_that_lost_a_mode_disagrees_with_one_that_did_not():
    verdict = judge(collapsed("right", 0), others=[wells((0.5, 0.5), seed=1)[0]])
    assert light(verdict, "agreement") == "red"
    assert "one of them lost a mode" in str(verdict)


def test_draws_are_no_witness_of_themselves_nor_of_others_of_their_noise():
    draws = wells((0.4, 0.6))[0]
    for other in (draws, wells((0.5, 0.5))[0], replace(draws, seed=None)):
        with pytest.raises(InputError, match="others must be drawn with seeds of their own"):
            judge(draws, others=[other])


def test_flows_that_lost_different_modes_of_equal_weight_disagree():
    """log Z is the same, and wrong, for both."""
    verdict = judge(collapsed("right", 0), others=[collapsed("left", 1)])
    assert light(verdict, "agreement") == "red"


def test_what_all_flows_lost_stays_unseen():
    assert judge(collapsed("right", 0), others=[collapsed("right", 1)]).trustworthy


def test_false_alarms_are_rare():
    lights = [
        light(judge(wells((0.4, 0.6), 1000, seed=s)[0], others=[wells((0.5, 0.5), 1000, seed=s + 500)[0]]), "agreement")
        for s in range(100)
    ]
    assert lights.count("green") >= 99


def test_others_must_be_of_the_same_target():
    samples, other = wells((0.5, 0.5))[0], Samples(torch.zeros(100, 3), torch.zeros(100), torch.zeros(100))
    with pytest.raises(InputError, match="draws of the same target"):
        judge(samples, others=[other])
    failed = Samples(torch.zeros(100, 2).double(), torch.zeros(100), torch.full((100,), math.inf))
    with pytest.raises(InputError, match="draws of finite energy"):
        judge(samples, others=[failed])
