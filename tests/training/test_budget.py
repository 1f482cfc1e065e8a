"""A budget: of steps, which repeats, or of minutes, which counts what earlier parts of the run have spent."""

import math
import time

import numpy as np
import pytest

from boltzgen.errors import InputError
from boltzgen.training.budget import Budget


def test_steps_count_from_what_is_spent():
    budget = Budget(steps=np.int64(40), minutes=None, spent_steps=10)
    assert budget.fraction == 0.25
    budget.spent_steps += 30
    assert budget.fraction == 1.0


def test_minutes_count_from_what_is_spent(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    budget = Budget(steps=None, minutes=2, spent_seconds=30.0)
    assert (budget.seconds, budget.fraction) == (30.0, 0.25)
    now[0] += 60.0
    budget.tick()
    assert (budget.seconds, budget.fraction) == (90.0, 0.75)


@pytest.mark.parametrize(
    "wrong", [{"minutes": math.inf}, {"minutes": 0}, {"steps": 1.5}, {}, {"steps": 1, "minutes": 1}]
)
def test_a_budget_is_one_positive_number(wrong):
    with pytest.raises(InputError):
        Budget(**{"steps": None, "minutes": None} | wrong)
