"""What the values of the command line's options must be."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from .launching import AUTO, THREADS

__all__ = ["BEYOND", "COUNT", "POSITIVE", "SEED", "count", "part", "positive", "process_count", "seed", "thread_count"]

BEYOND = 2**63
"""what every number must be below, on the command line and in a configuration: integers of 64 bits end there."""
POSITIVE, COUNT, SEED = "a positive number below 2^63", "a positive integer below 2^63", "an integer from 0 to 2^63 - 1"

Number = TypeVar("Number", int, float)


def positive(text: str) -> float:
    """A time, a temperature."""
    return _number(text, float, POSITIVE, lambda value: 0 < value < BEYOND)


def count(text: str) -> int:
    """A number of draws, frames, walkers or steps."""
    return _number(text, int, COUNT, lambda value: 0 < value < BEYOND)


def seed(text: str) -> int:
    """What random numbers start from."""
    return _number(text, int, SEED, lambda value: 0 <= value < BEYOND)


def thread_count(text: str) -> int:
    """How many threads one process works with."""
    return _number(text, int, f"an integer from 1 to {THREADS}", lambda value: 0 < value <= THREADS)


def process_count(text: str) -> int | str:
    """How many processes share the work, or that it is to be found out."""
    if text == AUTO:
        return text
    return _number(text, int, f"an integer from 1 to {THREADS} or {AUTO}", lambda value: 0 < value <= THREADS)


def part(text: str) -> tuple[int, int]:
    """Which part of how many: "2/8" is (2, 8), the third of eight."""
    which, _, parts = text.partition("/")
    try:
        found = int(which), int(parts)
    except ValueError:
        found = (0, 0)
    if not 0 <= found[0] < found[1]:
        raise argparse.ArgumentTypeError(f"must be I/N with I from 0 to N - 1, such as 0/8; got {text!r}")
    return found


def _number(text: str, kind: Callable[[str], Number], wanted: str, good: Callable[[Number], bool]) -> Number:
    """The number meant by an option's text, refused unless it is what is wanted."""
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {wanted}; got {text!r}") from None
    if not good(value):
        raise argparse.ArgumentTypeError(f"must be {wanted}; got {text}")
    return value
