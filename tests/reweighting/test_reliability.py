"""Row by row: which weights may be believed."""

import math
import re

import numpy as np
import pytest

from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.reweighting import expectation, log_partition
from boltzgen.reweighting.reliability import doubts

G = np.random.default_rng(0)
NORMAL = G.normal(size=1000)

TABLE = {
    # name: log-weights, words expected in the reasons (none: reliable)
    "uniform": (np.zeros(1000), None),
    "good": (0.5 * NORMAL, None),
    "heavier than uniform, bounded": (np.log(G.random(1000)), None),
    "good, half of the frames failed": (np.where(np.arange(1000) % 2, 0.5 * NORMAL, -np.inf), None),
    "one giant": (np.append(np.zeros(999), 12.0), ["worth only", "carries 99% of the weight", "Pareto k inf"]),
    "infinite variance": (G.exponential(size=10_000), [r"Pareto k \d\.\d\d of the 10000 draws exceeds 0.70"]),
    "too few": (NORMAL[:24], ["too few draws: 24, at least 25 are needed"]),
    "too few, equal": (np.zeros(24), ["too few draws: 24"]),
    "few worth the name": (np.where(np.arange(1000) < 20, 0.0, -np.inf), ["worth only 20, at least 25"]),
}


@pytest.mark.parametrize("name", TABLE)
def test_doubts(name):
    log_w, words = TABLE[name]
    if words is None:
        assert doubts(log_w) == []
        return
    reasons = "; ".join(doubts(log_w))
    for word in words:
        assert re.search(word, reasons), reasons


@pytest.mark.parametrize("estimator", [log_partition, lambda log_w: expectation(log_w, np.arange(len(log_w)))])
@pytest.mark.parametrize("name", TABLE)
def test_an_unreliable_number_never_leaves_quietly(name, estimator):
    log_w, words = TABLE[name]
    if words is None:
        estimate = estimator(log_w)
        assert estimate.reliable
        assert not estimate.why
        return
    with pytest.warns(UnreliableEstimateWarning, match=words[0]) as caught:
        estimate = estimator(log_w)
    assert not estimate.reliable
    assert re.search(words[0], str(estimate))
    assert caught[0].filename == __file__  # blamed on the caller


def test_no_weight_at_all():
    log_w = np.full(1000, -np.inf)
    with pytest.warns(UnreliableEstimateWarning, match="all 1000 draws have weight zero"):
        estimate = log_partition(log_w)
    assert (estimate.value, estimate.interval, estimate.ess) == (-math.inf, (-math.inf, math.inf), 0.0)
    with pytest.raises(InputError, match="all 1000 are -inf"):
        expectation(log_w, np.zeros(1000))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinite_weights_are_errors(bad):
    with pytest.raises(InputError, match="must be finite or -inf"):
        log_partition(np.append(np.zeros(100), bad))


def test_no_draw_in_a_place():
    assert doubts(np.zeros(0), " in state a") == ["too few draws in state a: 0, at least 25 are needed"]


def test_good_weights_raise_few_false_alarms():
    random = np.random.default_rng(1)
    for n in (100, 1000, 10_000):
        assert sum(bool(doubts(0.5 * random.normal(size=n))) for _ in range(100)) <= 12
