"""A draw that goes on is the draw made at once, and draws of others are refused."""

import pytest
import torch

from boltzgen.energies import toys
from boltzgen.errors import InputError
from boltzgen.flows import coupling_flow
from boltzgen.sampling import draw, drawing, extension
from boltzgen.sampling.extension import extend, shard

FLOW, TARGET = coupling_flow(2), toys.DoubleWell()


def same(a, b):
    return all(getattr(a, name).equal(getattr(b, name)) for name in ("x", "log_q", "u")) and a.seed == b.seed


@pytest.mark.parametrize("there", [1, 1000, 1024, 1025, 3000])
def test_going_on_is_drawing_at_once(there):
    whole = draw(FLOW, TARGET, 3000, seed=5)
    assert same(extend(draw(FLOW, TARGET, there, seed=5), FLOW, TARGET, 3000, seed=5), whole)
    assert same(extend(None, FLOW, TARGET, 3000, seed=5, batch_size=2048), whole)


def test_more_than_asked_for_stays():
    many = draw(FLOW, TARGET, 2000, seed=5)
    assert same(extend(many, FLOW, TARGET, 10, seed=5), many)


def test_draws_of_others_are_refused():
    mine = draw(FLOW, TARGET, 1500, seed=5)
    other = coupling_flow(2, seed=1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.02
    for flow, target, seed in ((FLOW, TARGET, 6), (other, TARGET, 5), (FLOW, toys.DoubleWell("snf"), 5)):
        with pytest.raises(InputError, match="must be draws of this generator with seed"):
            extend(mine, flow, target, 3000, seed=seed)


def test_an_interruption_keeps_what_was_drawn(monkeypatch):
    kept, weighed, wanted = [], drawing.weighed, draw(FLOW, TARGET, 2048, seed=5)

    def until_the_third(*arguments):
        if len(calls := [*kept_calls, 1]) == 3:
            raise KeyboardInterrupt
        kept_calls.append(calls)
        return weighed(*arguments)

    kept_calls = []
    monkeypatch.setattr(drawing, "weighed", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        extend(None, FLOW, TARGET, 9000, seed=5, keep=kept.append)
    assert same(kept[0], wanted)


def test_draws_are_kept_now_and_then(monkeypatch):
    monkeypatch.setattr(extension, "_SECONDS", 0.0)
    kept = []
    extend(None, FLOW, TARGET, 3000, seed=5, keep=kept.append)
    assert [len(some) for some in kept] == [1024, 2048, 3000]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_parts_of_a_draw_are_the_draw(parts):
    n = 3500
    bounds = [shard(n, part, parts) for part in range(parts)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n
    found = [extend(None, FLOW, TARGET, end, first=first, seed=5) for first, end in bounds]
    whole = found[0]
    for part in found[1:]:
        whole = whole + part
    assert (whole.seed, whole.first) == (5, 0)
    assert same(whole, draw(FLOW, TARGET, n, seed=5))


def test_an_interrupted_part_is_topped_up():
    first, end = shard(9000, 1, 3)
    some = extend(None, FLOW, TARGET, first + 1500, first=first, seed=5)
    whole = extend(some, FLOW, TARGET, end, first=first, seed=5)
    assert whole.log_w.equal(draw(FLOW, TARGET, 9000, seed=5).log_w[first:end])
    with pytest.raises(InputError, match="from number 0 on; got others, of seed 5 from number 3072"):
        extend(some, FLOW, TARGET, end, seed=5)


def test_parts_that_do_not_follow_one_another_are_refused():
    one, two, three = (extend(None, FLOW, TARGET, 1024 * (k + 1), first=1024 * k, seed=5) for k in range(3))
    for wrong in ((one, three), (two, one), (one, one)):
        with pytest.raises(InputError, match="follow one another"):
            wrong[0] + wrong[1]
    assert (two + three).first == 1024
    with pytest.raises(InputError, match="1024 draws at least"):
        shard(2000, 0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 1000}, "first must be a multiple of 1024; got 1000"),
        ({"first": -1024}, "first must be a non-negative integer"),
        ({"first": 2048}, "first must be less than the number of draws in all, 2000; got 2048"),
        ({"seed": None}, "seed must be a non-negative integer"),
        ({"samples": "samples.npz"}, "samples must be a Samples; got a str"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        extend(**{"samples": None, "flow": FLOW, "target": TARGET, "n": 2000, "seed": 5} | arguments)


@pytest.mark.parametrize(
    ("n", "part", "parts", "message"),
    [
        (9000, 3, 3, "part must be between 0 and 2, for 3 parts; got 3"),
        (9000, -1, 3, "part must be a non-negative integer"),
        (9000, 0, 0, "parts must be a positive integer"),
        (0, 0, 1, "n must be a positive integer"),
    ],
)
def test_parts_that_there_are_not_are_refused(n, part, parts, message):
    with pytest.raises(InputError, match=message):
        shard(n, part, parts)
