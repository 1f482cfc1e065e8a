"""What every room asks of what it is given."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from .errors import InputError

__all__ = ["instances", "positive_counts"]


def positive_counts(**counts: Any) -> None:
    """Refuses what is no positive integer; those of numpy are integers too.

    Raises:
        InputError: naming the argument.
    """
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name} must be a positive integer; got {value!r}: pass e.g. {name}=1024")


def instances(**arguments: tuple[Any, type]) -> None:
    """Refuses an argument that is no instance of its class, given as name=(value, class).

    Raises:
        InputError: naming the argument.
    """
    for name, (value, kind) in arguments.items():
        if not isinstance(value, kind):
            raise InputError(
                f"{name} must be {_a(kind.__name__)}; got {_a(type(value).__name__)}: check the order of the arguments"
            )


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOaeio' else 'a'} {noun}"
