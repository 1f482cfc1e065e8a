"""What every room asks of the numbers it is given."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from .errors import InputError

__all__ = ["positive_counts"]


def positive_counts(**counts: Any) -> None:
    """Refuses what is no positive integer; those of numpy are integers too.

    Raises:
        InputError: naming the argument.
    """
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name} must be a positive integer; got {value!r}: pass e.g. {name}=1024")
