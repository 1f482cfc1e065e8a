"""Straight lines between base and data: what they teach, how they are paired, and what is refused."""

import math

import pytest
import torch

import boltzgen as bg
from boltzgen.errors import InputError
from boltzgen.flows import Continuous, Flow, Normal, ParticleVelocity

TRIANGLE = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]).T / torch.tensor([2.0, 6.0]).sqrt()


def data(n, seed):
    return torch.tensor([1.0, -0.5]) + 0.4 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def test_a_matched_flow_has_the_density_of_the_data():
    flow = Flow(Normal(2), Continuous(2, hidden=(32, 32), steps=8, generator=torch.Generator().manual_seed(0)))
    x = data(4000, 1)

    def objective(q):
        return bg.flow_matching(q, x[torch.randint(len(x), (256,))])

    before = flow.log_prob(data(2000, 2)).mean()
    bg.train(flow, objective, steps=400, learning_rate=5e-3, progress=False)
    after, best = flow.log_prob(data(2000, 2)).mean(), -2 * (0.5 * torch.tensor(0.16 * 2 * torch.pi * torch.e).log())
    assert before < best - 1
    assert best - 0.05 < after < best + 0.05


def test_weights_say_what_counts():
    flow, x = Flow(Normal(2), Continuous(2, lambda z, t, context: 0.3 * z, steps=2)), data(3, 3)

    def loss(x, *log_w):
        return float(bg.flow_matching(flow, x, torch.tensor(log_w), generator=torch.Generator().manual_seed(4)))

    alone = [loss(x, *[0.0 if i == j else -50.0 for j in range(3)]) for i in range(3)]
    assert loss(x, 0.0, math.log(3), math.log(4)) == pytest.approx((alone[0] + 3 * alone[1] + 4 * alone[2]) / 8)
    lost = torch.full((1, 2), torch.nan)
    assert loss(torch.cat([lost, x]), -torch.inf, 0.0, 0.0, 0.0) == pytest.approx(sum(alone) / 3)


def test_a_velocity_brings_the_base_next_to_the_data():
    class Paired(torch.nn.Module):
        def forward(self, z, t, context):
            return torch.zeros_like(z)

        def nearest(self, z, x):
            return x + 0.5

    x = data(10, 5)
    assert bg.flow_matching(Flow(Normal(2), Continuous(2, Paired(), steps=2)), x) == pytest.approx(0.5)


def test_a_context_goes_with_its_row():
    flow = Flow(Normal(2), Continuous(2, lambda z, t, context: context.expand(-1, 2), steps=2, context=1))
    x, context = torch.zeros(4, 2), torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    log_w = torch.where(torch.arange(4) < 2, -torch.inf, 0.0)
    found = bg.flow_matching(flow, x, log_w, context=context, generator=torch.Generator().manual_seed(0))
    z = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    assert found == pytest.approx(float((torch.tensor([[3.0], [4.0]]) + z).square().sum(1).mean()))
    with pytest.raises(InputError, match="context"):
        bg.flow_matching(flow, x)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("alike", [False, True])
def test_rows_that_are_not_finite_are_refused(alike, bad):
    velocity = ParticleVelocity(TRIANGLE, 1, reach=3.0) if alike else None
    flow = Flow(Normal(2), Continuous(2, velocity))
    with pytest.raises(InputError, match="x must be finite; got NaN or infinity in 1 rows of 3"):
        bg.flow_matching(flow, torch.tensor([[0.0, 0.0], [bad, 1.0], [1.0, 1.0]]))


def test_like_particles_learn_to_lie_where_the_data_do_in_any_order():
    """Triangles of sides 2 in one place and order; the flow before is the twin."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0**0.5]]) + 0.1 * torch.randn(
        600, 3, 2, generator=generator
    )
    x = (TRIANGLE.T @ corners).flatten(1)
    velocity = ParticleVelocity(TRIANGLE, 2, reach=4.0, radial=8, hidden=(16,), generator=generator)
    flow = Flow(Normal(4), Continuous(4, velocity, steps=8))
    held, taught = x[:100], x[100:]
    copies = (TRIANGLE.T @ (TRIANGLE @ held.view(-1, 2, 2))[:, [2, 0, 1]]).flatten(1)
    before = flow.log_prob(held).mean().detach()
    bg.train(flow, lambda q: bg.flow_matching(q, taught), steps=150, learning_rate=1e-2, progress=False)
    with torch.no_grad():
        after = flow.log_prob(held).mean()
        assert after > before + 1.5
        torch.testing.assert_close(flow.log_prob(copies), flow.log_prob(held), rtol=0, atol=1e-3)


def test_other_flows_and_shapes_are_refused():
    with pytest.raises(InputError, match="must have a Continuous bijection alone; got Composition"):
        bg.flow_matching(bg.coupling_flow(2), torch.zeros(3, 2))
    flow = Flow(Normal(2), Continuous(2))
    with pytest.raises(InputError, match=r"x must have shape \(n, 2\)"):
        bg.flow_matching(flow, torch.zeros(3, 3))
    with pytest.raises(InputError, match="log_w"):
        bg.flow_matching(flow, torch.zeros(3, 2), torch.zeros(2))
