import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows.separate import SeparateConditioner

OWNERS = ((0, 1, 2, 0, 1, 2), (0, 1), (2, 2))


def build(positions=(2, 0, 1), circular=1, context=0, owners=OWNERS, hidden=(16, 8)):
    tensors = [torch.tensor(owner) for owner in owners]
    return SeparateConditioner(
        positions, circular, context, tensors, hidden=hidden, generator=torch.Generator().manual_seed(0)
    )


def dependence(conditioner, context=0):
    """Which parameter sees which of two lengths and an angle, and which of them sees the context."""
    v, c = torch.randn(3, 8).requires_grad_(), torch.randn(8, context).requires_grad_()
    theta = torch.cat(conditioner(v[:2], v[2:], c if context else None))
    rows = [torch.autograd.grad(row.sum(), (v, c), retain_graph=True, allow_unused=True) for row in theta]
    seen = torch.stack([torch.zeros(3) if a is None else a.abs().sum(1) for a, _ in rows]) > 0
    by_context = torch.stack([torch.zeros(context) if b is None else b.abs().sum(0) for _, b in rows]) > 0
    return seen, by_context


@pytest.mark.parametrize("hidden", [(), (2,), (16, 3, 7)])
def test_every_parameter_sees_what_comes_before_and_nothing_else(hidden, randomise):
    seen, _ = dependence(randomise(build(hidden=hidden)))
    before = torch.tensor([[False, True, True], [False, False, False], [False, True, False]])  # positions 2, 0, 1
    assert torch.equal(seen, before[[i for owner in OWNERS for i in owner]])


def test_the_context_is_seen_by_all(randomise):
    seen, by_context = dependence(randomise(build(context=2)), context=2)
    assert by_context.all()
    assert not seen[1].any()


@pytest.mark.parametrize("hidden", [(), (16, 8)])
@pytest.mark.parametrize("context", [0, 2])
def test_one_dimension_at_a_time_gives_the_same_rows(hidden, context, randomise):
    conditioner = randomise(build(hidden=hidden, context=context))
    v, c = torch.randn(3, 5), torch.randn(5, 2) if context else None
    first, second, third = conditioner(v[:2], v[2:], c)
    for i, expected in enumerate([[first[[0, 3]], second[[0]]], [first[[1, 4]], second[[1]]], [first[[2, 5]], third]]):
        found = conditioner(v[:2], v[2:], c, i)
        assert len(found) == len(expected)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))


def test_networks_share_nothing(randomise):
    """A step down the parameters of one dimension leaves those of the others as they were."""
    conditioner = randomise(build())
    v = torch.randn(3, 5)
    before = [theta.detach().clone() for theta in conditioner(v[:2], v[2:], None)]
    conditioner(v[:2], v[2:], None)[0][[2, 5]].square().sum().backward()
    with torch.no_grad():
        for parameter in conditioner.parameters():
            parameter -= parameter.grad if parameter.grad is not None else 0.0
    after = conditioner(v[:2], v[2:], None)
    assert torch.equal(after[0][[0, 1, 3, 4]], before[0][[0, 1, 3, 4]])
    assert not torch.allclose(after[0][[2, 5]], before[0][[2, 5]])


def test_each_starts_like_a_network_of_the_inputs_it_sees():
    """Weights within ±1/√inputs, however many inputs the others have."""
    conditioner = build(positions=range(9), circular=9, owners=[range(9)], hidden=(400,))
    layer = conditioner.hidden[0]
    for i in range(1, 9):
        seen = torch.tensor([f * 9 + j for f in range(4) for j in range(i)])
        weight = layer.weight.detach()[i::9][:, seen]
        assert float(weight.abs().max()) == pytest.approx((4 * i) ** -0.5, rel=0.02)


def test_starts_at_zero_and_its_weights_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    first, again = build(), build()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.hidden[0].weight, again.hidden[0].weight)
    assert all((t == 0).all() for t in first(torch.randn(2, 5), torch.randn(1, 5), None))


def test_rows_in_another_order_are_refused():
    with pytest.raises(InputError, match="the rows of its dimensions in turn"):
        build(owners=[(0, 0, 1, 1, 2, 2)])
