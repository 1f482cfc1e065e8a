import math

import pytest
import torch

from boltzgen.energies import Energy, Softened, toys
from boltzgen.errors import EnergyError, InputError
from boltzgen.flows import BLOCK, coupling_flow
from boltzgen.reporting import judge
from boltzgen.sampling import draw, explore
from boltzgen.sampling.exploration import _moved


def normal(mean, scale, **options):
    """A flow that is this normal law, in float64."""
    flow = coupling_flow(len(mean), layers=2, transform="affine", hidden=(8,), **options).double()
    log_scale, shift = torch.tensor(scale).log().double(), torch.tensor(mean).double()

    class Moved(type(flow.bijection)):
        def _forward(self, z, context=None):
            x, log_det = super()._forward(z, context)
            return x * log_scale.exp() + shift, log_det + log_scale.sum()

        def _inverse(self, x, context=None):
            z, log_det = super()._inverse((x - shift) * (-log_scale).exp(), context)
            return z, log_det - log_scale.sum()

    flow.bijection.__class__ = Moved
    return flow


class TwoWells(Energy):
    """Round wells of one width at ∓2.7, behind a barrier of 9 kT."""

    centre, width = 2.7, 0.6

    def _energy(self, x):
        distance = x[:, 0].abs() - self.centre
        tail = torch.nn.functional.softplus(-2 * self.centre * x[:, 0].abs() / self.width**2)
        return (distance / self.width).square() / 2 + x[:, 1].square() / 2 - tail


def right_well():
    """The right one, a little too wide: an effective share of 97 %, and the left drawn once in 50 000 times."""
    return normal([TwoWells.centre, 0.0], [1.1 * TwoWells.width, 1.1])


def light(verdict, name):
    return next(check.status for check in verdict.checks if check.name == name)


def test_a_lost_well_is_found_and_judged_red():
    flow, target = right_well(), TwoWells(2)
    samples = draw(flow, target, 5000, seed=1)
    assert judge(samples).trustworthy
    assert (samples.x[:, 0] > 0).all()
    found = explore(flow, target, 128, seed=1)
    assert 0.2 < (found.x[:, 0] < 0).double().mean() < 0.8
    verdict = judge(samples, reference_log_w=found.log_w)
    assert light(verdict, "coverage") == "red"
    assert verdict.headline.startswith("not trustworthy: coverage")


def test_without_heat_it_is_not_found():
    """The twin: dynamics at the temperature of the target stays where it starts."""
    flow, target = right_well(), TwoWells(2)
    found = explore(flow, target, 128, hot=1.0, seed=1)
    assert (found.x[:, 0] > 0).double().mean() > 0.98
    assert light(judge(draw(flow, target, 5000, seed=1), reference_log_w=found.log_w), "coverage") == "green"


def test_a_flow_that_has_all_of_its_target_stays_green():
    target = toys.Gaussian([1.0, -1.0], [[0.09, 0.0], [0.0, 4.0]])
    flow = normal([1.0, -1.0], [0.33, 2.1])
    verdict = judge(draw(flow, target, 5000, seed=1), reference_log_w=explore(flow, target, seed=1).log_w)
    assert verdict.status == "green", str(verdict)


def test_it_cools_down_to_the_temperature_of_the_target():
    """Spread of a Gaussian: 1 if it is sampled in the end, √8 where it is hot."""
    target = toys.Gaussian([0.0], [[1.0]])
    x = explore(coupling_flow(1).double(), target, 2048, hot=8.0, seed=1).x
    assert abs(float(x.var()) - 1) < 4 * math.sqrt(2 / 2048)


class Chart(Energy):
    """Free rotation, of angles in [−π, π) only."""

    def _energy(self, x):
        return torch.where((x.abs() > math.pi).any(1), torch.inf, 0.0 * x.sum(1))


@pytest.mark.parametrize(("circular", "crossed"), [([True], 0.5), (None, 0.0)])
def test_angles_go_round(circular, crossed):
    """From just below π, one trajectory of two radians at most: half of them come back at −π, or none."""
    x, generator = torch.full((2000, 1), 3.14, dtype=torch.float64), torch.Generator().manual_seed(1)
    mask = None if circular is None else torch.tensor(circular)
    moved, accepted = _moved(Chart(1), x, torch.ones(1), mask, 0.05, 10, generator)
    assert (moved.abs() <= math.pi).all()
    assert abs(float((moved < 0).double().mean()) - crossed) < 4 * math.sqrt(0.25 / 2000)
    assert accepted == pytest.approx(0.5 + crossed, abs=0.05)


def test_the_answer_depends_on_the_seed_only():
    target = TwoWells(2)
    first, again, other = (explore(right_well(), target, 32, trajectories=10, seed=s) for s in (1, 1, 2))
    assert first.x.equal(again.x)
    assert not first.x.equal(other.x)
    state = torch.get_rng_state()
    explore(right_well(), target, 8, trajectories=2, seed=1)
    assert torch.get_rng_state().equal(state)


def test_every_evaluation_is_counted():
    target = TwoWells(2)
    explore(right_well(), target, 32, trajectories=5, steps=3, seed=1)
    assert target.evaluations.gradient == 32 * 5 * (3 + 1)
    assert target.evaluations.energy == 4 * BLOCK + 32


def test_its_rows_are_no_draws():
    found = explore(right_well(), TwoWells(2), 32, trajectories=2, seed=1)
    assert not found.independent
    assert light(judge(found), "independence") == "red"


def test_where_the_flow_has_no_density_at_all_the_weight_is_above_all_others():
    flow, target = right_well(), TwoWells(2)
    before = type(flow)._pull

    class Cut(type(flow)):
        def _pull(self, x, context):
            return torch.where(x[:, 0] > 0, before(self, x, context), -torch.inf)

    flow.__class__ = Cut
    found = explore(flow, target, 64, seed=1)
    lost = found.x[:, 0] < 0
    assert lost.any()
    assert found.n_failed == 0
    assert (found.log_w[lost] > 1e38).all()
    assert light(judge(draw(flow, target, 2000, seed=1), reference_log_w=found.log_w), "coverage") == "red"


def test_mistakes_are_explained():
    flow, target = right_well(), TwoWells(2)
    with pytest.raises(InputError, match="hot must not lie below the target's temperature, 1"):
        explore(flow, target, hot=0.5)
    with pytest.raises(InputError, match="trajectories must be a positive integer"):
        explore(flow, target, trajectories=0)
    for circular in ([1], [True, False, True]):
        with pytest.raises(InputError, match=r"circular must be booleans of shape \(2,\)"):
            explore(flow, target, circular=circular)
    with pytest.raises(InputError, match="flow must be a Flow"):
        explore(target, flow)
    with pytest.raises(InputError, match="an exact density"):
        explore(flow, Softened(target, 1.0))

    class Nowhere(Energy):
        def _energy(self, x):
            return torch.full((len(x),), torch.inf)

    with pytest.raises(EnergyError, match="some of 4096 draws must have a finite energy"):
        explore(flow, Nowhere(2), seed=1)


def test_a_list_says_which_coordinates_are_angles():
    found = [
        explore(right_well(), TwoWells(2), 8, trajectories=2, circular=circular, seed=1).x
        for circular in ([True, False], torch.tensor([True, False]))
    ]
    assert torch.equal(*found)
