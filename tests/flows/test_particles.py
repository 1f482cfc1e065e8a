"""The trace against that of the whole Jacobian; symmetries; and what is nearest."""

import itertools
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from boltzgen.energies.toys import DW4, LJ13
from boltzgen.errors import InputError
from boltzgen.flows import Continuous, Flow, Normal, ParticleVelocity
from boltzgen.flows.particles import _numbers

BASIS = {2: DW4().basis, 3: LJ13(pairs_counted=1).basis}


def velocity(dims, seed=0, dtype=torch.float64, **options):
    """With weights that are not zero."""
    made = ParticleVelocity(BASIS[dims], dims, reach=4.0, **options).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def points(made, n=5, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, made.dim, generator=generator, dtype=torch.float64).to(dtype), torch.linspace(
        0, 1, n, dtype=dtype
    )


def positions(made, z):
    return made.basis @ z.view(len(z), -1, made.dims)


def coordinates(made, x):
    return (made.basis.T @ x).flatten(1)


@pytest.mark.parametrize("hidden", [(), (16,), (12, 8), (8, 8, 8)])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_trace_is_that_of_the_jacobian(dims, hidden):
    made = velocity(dims, hidden=hidden, radial=5)
    z, t = points(made)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z, t: made(z[None], t[None])[0]))(z, t)
    v, trace = made.with_trace(z, t)
    torch.testing.assert_close(v, made(z, t))
    torch.testing.assert_close(trace, jacobian.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-9, atol=1e-9)
    assert trace.abs().min() > 0.1


def test_it_turns_mirrors_and_permutes_with_the_particles():
    made = velocity(3)
    z, t = points(made)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    order = torch.randperm(13, generator=torch.Generator().manual_seed(3))
    for mirror in (turn, -turn):
        moved = coordinates(made, positions(made, z)[:, order] @ mirror)
        v, trace = made.with_trace(moved, t)
        straight, same = made.with_trace(z, t)
        torch.testing.assert_close(positions(made, v), positions(made, straight)[:, order] @ mirror)
        torch.testing.assert_close(trace, same)
    one = z.clone()
    one[:, 0] += 0.1
    assert not torch.allclose(made.with_trace(one, t)[1], same, rtol=1e-3)


@torch.no_grad()
def test_the_flow_starts_as_its_base_and_gives_copies_one_density():
    made = ParticleVelocity(BASIS[3], reach=4.0, radial=4, hidden=(8,), scale=0.7)
    flow, noise = Flow(Normal(36, scale=0.7), Continuous(36, made, steps=4)), torch.Generator().manual_seed(1)
    x, log_q = flow.rsample(10, generator=noise)
    torch.testing.assert_close(log_q, flow.base.log_prob(x))
    made = velocity(3, radial=4, hidden=(8,))
    flow = Flow(Normal(36).double(), Continuous(36, made, steps=8))
    x, log_q = flow.rsample(10, generator=noise)
    copies = coordinates(made, positions(made, x).flip(1, 2))
    torch.testing.assert_close(flow.log_prob(copies), flow.log_prob(x), rtol=0, atol=1e-6)
    assert log_q.std() > 1


def test_flows_of_another_reach_are_told_apart():
    made = [ParticleVelocity(BASIS[3], reach=reach, radial=4) for reach in (4.0, 4.0, 5.0)]
    first, same, other = (Flow(Normal(36), Continuous(36, one, steps=2)).architecture for one in made)
    assert first == same != other
    assert Flow(Normal(36), Continuous(36, made[0], steps=3)).architecture != first


def test_particles_in_one_place_and_far_apart_move_at_finite_speed():
    made = velocity(3, dtype=torch.float32)
    z = torch.stack([torch.zeros(36), 1e4 * torch.ones(36)]).requires_grad_()
    v, trace = made.with_trace(z, torch.tensor([0.5, 0.5]))
    (slope,) = torch.autograd.grad(v.sum() + trace.sum(), z)
    assert v.isfinite().all()
    assert trace.isfinite().all()
    assert slope.isfinite().all()


def test_no_exchange_of_two_numbers_brings_particles_nearer():
    made = velocity(2)
    z, x = points(made, n=200)[0], points(made, n=200, seed=7)[0]
    theirs, ours = positions(made, x), positions(made, z)
    gain = theirs @ ours.transpose(1, 2)
    number = _numbers(gain)
    assert torch.equal(number.sort(1).values, torch.arange(4).expand(200, -1))
    reached = gain.gather(2, number[..., None]).sum((1, 2))
    for i, j in itertools.combinations(range(4), 2):
        other = number.clone()
        other[:, [i, j]] = number[:, [j, i]]
        assert (gain.gather(2, other[..., None]).sum((1, 2)) <= reached + 1e-5).all()
    best = torch.tensor([row[linear_sum_assignment(-row)].sum() for row in gain.numpy()])
    assert (best >= reached - 1e-9).all()
    assert reached.mean() > 0.95 * best.mean()


def rotated(made, x, angle):
    """x turned about its last axis."""
    turn = torch.eye(3, dtype=x.dtype)
    turn[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return coordinates(made, positions(made, x) @ turn.T)


def test_what_is_nearest_to_a_copy():
    """A copy little turned, renumbered or mirrored comes back whole; others keep their distances and come nearer."""
    made = velocity(3)
    x, others = points(made, n=50)[0], points(made, n=50, seed=9)[0]
    order = [1, 0, *range(2, 13)]
    copies = {
        "turned": rotated(made, x, 0.1),
        "renumbered": coordinates(made, positions(made, x)[:, order]),
    }
    for name, copy in copies.items():
        torch.testing.assert_close(made.nearest(copy, x), x, msg=name)
    flat = coordinates(made, positions(made, x) * torch.tensor([1.0, 1.0, 0.01], dtype=torch.float64))
    mirrored = coordinates(made, positions(made, flat) * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(made.nearest(mirrored, flat), flat)
    near = made.nearest(others, x)
    for before, after in zip(positions(made, others), positions(made, near), strict=True):
        torch.testing.assert_close(torch.pdist(after).sort().values, torch.pdist(before).sort().values)
    assert (near - x).norm(dim=1).mean() < 0.55 * (others - x).norm(dim=1).mean()


def test_its_making_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    ParticleVelocity(BASIS[3], reach=4.0, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_another_unit_of_length_changes_nothing_else():
    small = ParticleVelocity(BASIS[3], reach=0.4, scale=0.1, radial=6, hidden=(8,)).double()
    large = ParticleVelocity(BASIS[3], reach=4.0, scale=1.0, radial=6, hidden=(8,)).double()
    for a, b in zip(small.parameters(), large.parameters(), strict=True):
        a.data.copy_(torch.randn(a.shape, generator=torch.Generator().manual_seed(2)))
        b.data.copy_(a)
    z, t = points(large)
    v, trace = large.with_trace(z, t)
    w, same = small.with_trace(0.1 * z, t)
    torch.testing.assert_close(w, 0.1 * v, rtol=1e-5, atol=1e-7)  # its buffers were made in single precision
    torch.testing.assert_close(same, trace, rtol=1e-5, atol=1e-5)


def test_it_goes_where_it_is_sent():
    flow = Flow(Normal(6), Continuous(6, velocity(2, dtype=torch.float32), steps=2)).to("meta")
    x, log_q = flow.rsample(3)
    assert {x.device.type, log_q.device.type, flow.log_prob(x).device.type} == {"meta"}


def test_a_velocity_of_other_sizes_is_refused():
    with pytest.raises(
        InputError, match="velocity must be one of 39 coordinates and 0 numbers of context; got one of 36"
    ):
        Continuous(39, velocity(3))
    with pytest.raises(InputError, match="36 coordinates and 1 numbers of context; got one of 36 and 0"):
        Continuous(36, velocity(3), context=1)


@pytest.mark.parametrize(
    ("basis", "needs"),
    [
        (torch.eye(3), r"basis must be a tensor \(N, N − 1\); got \(3, 3\)"),
        (torch.full((3, 2), torch.nan), "off by nan"),
        (torch.eye(4)[:, :3], "orthonormal columns that sum to zero"),
        (2 * BASIS[2], "orthonormal columns that sum to zero"),
        ([[1.0]], "got list"),
    ],
)
def test_another_basis_is_refused(basis, needs):
    with pytest.raises(InputError, match=needs):
        ParticleVelocity(basis, reach=4.0)


@pytest.mark.parametrize("wrong", [{"reach": 0.0}, {"reach": 1.0, "radial": 0}, {"reach": 1.0, "scale": -1.0}])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(InputError, match="must be"):
        ParticleVelocity(BASIS[3], **wrong)
