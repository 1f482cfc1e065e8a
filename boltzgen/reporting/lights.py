"""One question put to weighted draws, and the light its answer gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["SEVERITY", "Check", "Status", "check", "grade"]

Status = Literal["green", "amber", "red"]
SEVERITY: tuple[Status, ...] = ("green", "amber", "red")


@dataclass(frozen=True)
class Check:
    """One question put to the draws.

    Attributes:
        name: what is looked at.
        value: the number found; None if there is none: the check was not run (amber), or does not apply (green).
        wanted: what a green light needs, in words.
        status: "green", "amber" or "red".
        meaning: what the number says.
        next_step: what to do about it; empty if green.
        percent: whether the number is a share, to be read in percent.
    """

    name: str
    value: float | None
    wanted: str
    status: Status
    meaning: str
    next_step: str = ""
    percent: bool = False

    @property
    def shown(self) -> str:
        """The value as people read it."""
        if self.value is None:
            return {"green": "not applicable", "amber": "not tested", "red": "no"}[self.status]
        if math.isinf(self.value):
            return "no tail" if self.value < 0 else "no fit"
        if self.percent:
            return f"{100 * self.value:.3g} %"
        return f"{self.value:.0f}" if self.value >= 100 else f"{self.value:.3g}"


def check(
    name: str, value: float, wanted: str, status: Status, meaning: str, next_step: str, *, percent: bool = False
) -> Check:
    """A check whose next step matters only where it is not green."""
    return Check(name, float(value), wanted, status, meaning, "" if status == "green" else next_step, percent)


def grade(value: float, green: float, amber: float) -> Status:
    """The light of a value that should be large."""
    return "green" if value >= green else "amber" if value >= amber else "red"
