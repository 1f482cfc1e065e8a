import pytest
import torch

from boltzgen.flows.masked import MaskedConditioner


def build(positions=(2, 0, 1), circular=1, context=0, owners=((0, 1, 2), (0, 0, 1, 2)), hidden=(16, 16)):
    tensors = [torch.tensor(owner) for owner in owners]
    return MaskedConditioner(
        positions, circular, context, tensors, hidden=hidden, generator=torch.Generator().manual_seed(0)
    )


def dependence(conditioner, d, linear, context=0):
    """Which parameter sees which dimension and entry of the context."""
    v, c = torch.randn(d, 8).requires_grad_(), torch.randn(8, context).requires_grad_()
    theta = torch.cat(conditioner(v[:linear], v[linear:], c if context else None))
    rows = [torch.autograd.grad(row.sum(), (v, c), retain_graph=True, allow_unused=True) for row in theta]
    seen = torch.stack([torch.zeros(d) if a is None else a.abs().sum(1) for a, _ in rows]) > 0
    by_context = torch.stack([torch.zeros(context) if b is None else b.abs().sum(0) for _, b in rows]) > 0
    return seen, by_context


@pytest.mark.parametrize("hidden", [(), (2,), (16, 16), (16, 3, 7)])
def test_every_parameter_sees_what_comes_before_and_nothing_else(hidden, randomise):
    seen, _ = dependence(randomise(build(hidden=hidden)), 3, 2)
    before = torch.tensor([[False, True, True], [False, False, False], [False, True, False]])  # positions 2, 0, 1
    expected = before[[0, 1, 2, 0, 0, 1, 2]]
    assert torch.equal(seen, expected)


def test_narrow_layers_see_less_but_never_what_comes_later(randomise):
    d = 7
    conditioner = build(range(d), 0, 0, [range(d)], hidden=(3,))
    seen, _ = dependence(randomise(conditioner), d, d)
    assert torch.equal(seen, seen.tril(-1))
    assert seen[-1, :-1].all(), "the last dimension sees all others"
    assert 0 < seen.sum() < d * (d - 1) // 2


def test_the_context_is_seen_by_all(randomise):
    seen, by_context = dependence(randomise(build(context=2)), 3, 2, context=2)
    assert by_context.all()
    assert not seen[1].any()


def test_starts_at_zero_and_its_weights_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    first, again = build(), build()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.hidden[0].weight, again.hidden[0].weight)
    assert all((t == 0).all() for t in first(torch.randn(2, 5), torch.randn(1, 5), None))


def test_one_dimension_at_a_time_gives_the_same_rows(randomise):
    conditioner = randomise(build(owners=[(0, 1, 0), (2, 2)]))
    v = torch.randn(3, 5)
    first, second = conditioner(v[:2], v[2:], None)
    for i, expected in enumerate([[first[[0, 2]]], [first[[1]]], [second]]):
        found = conditioner(v[:2], v[2:], None, i)
        assert len(found) == len(expected)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))
