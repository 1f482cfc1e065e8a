"""How much a training may spend, in gradient steps or in minutes, and how much of it is gone."""

from __future__ import annotations

import time

from ..arguments import positive_counts, positive_numbers
from ..errors import InputError
from ..processes import ranks

__all__ = ["Budget"]


class Budget:
    """A number of gradient steps or a time, of which a fraction is spent.

    Counted in steps, training is a function of its arguments alone; counted in minutes it ends when a user wants it to.
    Time is what it was at the last `tick`, the longest that any of several processes saw: all of them agree on it.

    Arguments:
        steps: gradient steps, or None.
        minutes: of wall-clock time, or None; exactly one of the two must be given.
        spent_steps, spent_seconds: before now, by an interrupted run.
    """

    def __init__(
        self, *, steps: int | None, minutes: float | None, spent_steps: int = 0, spent_seconds: float = 0.0
    ) -> None:
        if (steps is None) == (minutes is None):
            raise InputError(f"either steps or minutes must be given; got {steps!r} and {minutes!r}: pass one of them")
        if steps is not None:
            (steps,) = positive_counts(steps=steps)
        if minutes is not None:
            (minutes,) = positive_numbers(minutes=minutes)
        self.steps = steps
        self.total_seconds = None if minutes is None else 60.0 * minutes
        self.spent_steps = spent_steps
        self._before = spent_seconds
        self._begin = time.monotonic()
        self.seconds = spent_seconds
        """Wall-clock time spent, interrupted runs included."""

    def tick(self) -> None:
        """Looks at the clock."""
        self.seconds = ranks().highest(self._before + time.monotonic() - self._begin)

    @property
    def fraction(self) -> float:
        """Share of the budget that is spent; may pass 1."""
        if self.steps is not None:
            return self.spent_steps / self.steps
        assert self.total_seconds is not None
        return self.seconds / self.total_seconds
