import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import keyed_generator

N = 20_000
SIGMAS = 5


def draw(*key):
    return torch.randn(N, generator=keyed_generator(*key), dtype=torch.float64)


def correlated(a, b):
    return abs((a * b).mean()) > SIGMAS / N**0.5


def test_a_key_means_the_same_every_time():
    assert torch.equal(draw(1, 2), draw(1, 2))


def test_other_keys_are_independent():
    keys = [(0,), (1,), (1, 0), (0, 1), (0, 0), (0, 0, 0), (2**63, 1)]
    draws = [draw(*key) for key in keys]
    assert not any(correlated(a, b) for i, a in enumerate(draws) for b in draws[:i])
    assert correlated(draws[0], 0.1 * draws[0] + draws[1]), "a tenth of the same noise must be seen"


def test_the_global_state_is_not_touched():
    state = torch.random.get_rng_state()
    draw(3)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("key", [(-1,), (1.5,), ("1",), (True,), (1, None)])
def test_what_is_no_seed_is_refused(key):
    with pytest.raises(InputError, match="non-negative integer"):
        keyed_generator(*key)
