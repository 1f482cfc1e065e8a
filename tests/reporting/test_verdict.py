import math

import numpy as np
import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.reporting import judge
from boltzgen.sampling import Samples

INF = math.inf


def samples(log_w, **fields):
    log_w = torch.as_tensor(log_w, dtype=torch.float64)
    return Samples(torch.zeros(len(log_w), 1), torch.zeros(len(log_w)), -log_w, **fields)


def lognormal(n=5000, width=0.3, seed=0):
    return width * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def light(verdict, name):
    return next(check.status for check in verdict.checks if check.name == name)


def test_good_weights_are_trusted_but_never_green_while_coverage_is_not_tested():
    verdict = judge(samples(lognormal()))
    assert verdict.trustworthy
    assert verdict.status == "amber"
    assert verdict.headline == "trustworthy with reservations: coverage not tested"
    assert {check.name for check in verdict.checks if check.status != "green"} == {"coverage"}


def test_with_a_reference_that_the_flow_covers_all_is_green():
    log_w = lognormal()
    tilted = log_w[torch.multinomial(log_w.exp(), 500, generator=torch.Generator().manual_seed(1))]
    verdict = judge(samples(log_w), reference_log_w=tilted)
    assert verdict.status == "green"
    assert verdict.headline == "trustworthy"
    assert not any(check.next_step for check in verdict.checks)


def test_a_lost_mode_is_invisible_to_the_weights_and_red_with_a_reference():
    """Trap 8: one of two equal wells, wells at ±20, flow in the right one only."""
    generator = torch.Generator().manual_seed(0)

    def u(x):
        return -torch.logaddexp(-0.5 * (x - 20) ** 2, -0.5 * (x + 20) ** 2)

    def log_q(x):
        return -0.5 * (x - 20) ** 2 - 0.5 * math.log(2 * math.pi)

    x = 20 + torch.randn(5000, generator=generator, dtype=torch.float64)
    collapsed = Samples(x[:, None], log_q(x), u(x))
    blind = judge(collapsed)
    assert blind.trustworthy
    assert light(blind, "effective draws") == light(blind, "Pareto k") == "green"
    assert "not tested" in str(blind)
    known = torch.tensor([-20.0, 20.0, -19.5, 20.5], dtype=torch.float64)
    seeing = judge(collapsed, reference_log_w=-u(known) - log_q(known))
    assert not seeing.trustworthy
    assert seeing.headline == "not trustworthy: coverage 50 %"
    assert "the flow lost a mode" in str(seeing)


ROW_49 = {
    "one giant": (torch.cat([lognormal(2000), torch.tensor([15.0])]), "largest weight", "red"),
    "heavy tail": (lognormal(2000, 4.0), "Pareto k", "red"),
    "all zero": (torch.full((2000,), -INF), "effective draws", "red"),
    "too few": (lognormal(20), "draws", "red"),
    "one": (torch.zeros(1), "draws", "red"),
    "uniform": (torch.zeros(2000), "Pareto k", "green"),
    "some zero": (torch.cat([lognormal(2000), torch.full((200,), -INF)]), "failed draws", "amber"),
    "most zero": (torch.cat([lognormal(2000), torch.full((3000,), -INF)]), "failed draws", "red"),
    "few": (lognormal(500), "draws", "amber"),
    "wide": (torch.cat([torch.zeros(60), torch.full((5000,), -9.0)]), "effective draws", "amber"),
}


@pytest.mark.parametrize(("log_w", "name", "status"), ROW_49.values(), ids=ROW_49)
def test_every_kind_of_weights_has_its_verdict(log_w, name, status):
    verdict = judge(samples(log_w))
    assert light(verdict, name) == status
    assert verdict.trustworthy == (status != "red")
    assert "nan" not in str(verdict)


def test_resampled_draws_cannot_be_judged():
    verdict = judge(samples(lognormal()).resample(2000, seed=1))
    assert light(verdict, "independence") == "red"
    assert "the weighted draws these came from" in str(verdict)


def test_the_verdict_is_printed_as_a_table():
    lines = str(judge(samples(torch.zeros(2000)))).splitlines()
    assert lines[0] == "AMBER: trustworthy with reservations: coverage not tested"
    assert lines[1].split() == ["green", "draws", "2000", "at", "least", "1000"]
    assert len({line.index("at ") for line in lines if " at " in line[:60]}) == 1
    assert lines[-1].strip().startswith("→ weigh known structures: boltzgen report RUN --reference FILE, or judge(")
    assert any("no tail" in line for line in lines)


@pytest.mark.parametrize("reference", [[math.nan], [-INF, 0.0], [], [[0.0]]])
def test_a_reference_without_meaning_is_refused(reference):
    with pytest.raises(InputError, match="reference_log_w must hold"):
        judge(samples(lognormal()), reference_log_w=reference)


def test_a_configuration_without_any_density_is_not_covered():
    assert light(judge(samples(lognormal()), reference_log_w=np.array([INF])), "coverage") == "red"


def test_no_samples_are_refused():
    with pytest.raises(InputError, match="samples must hold at least one draw"):
        judge(samples([]))


@pytest.mark.parametrize("others", [["a.npz"], "a.npz", [None]])
def test_others_must_be_samples(others):
    with pytest.raises(InputError, match="others must hold Samples; got"):
        judge(samples(lognormal()), others=others)


def test_where_few_draws_decide_the_tail_the_remedy_is_more_of_them():
    generator = np.random.default_rng(0)
    few, bulk = math.log(2) * generator.random(1000), 0.01 * generator.normal(size=1000)
    even = np.where(generator.random(1000) < 0.02, few, bulk)
    heavy = 1.5 * generator.exponential(size=1000)
    for log_w, remedy in ((even, "draw more: "), (np.zeros(10), "draw more: "), (heavy, "train the flow longer: ")):
        tail = next(check for check in judge(samples(log_w)).checks if check.name == "Pareto k")
        assert (tail.status, tail.next_step.startswith(remedy), "inf" in tail.wanted) == ("red", True, False)
