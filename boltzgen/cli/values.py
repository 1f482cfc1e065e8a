"""What the values of the command line's options must be."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from .launching import AUTO, THREADS

__all__ = ["count", "positive", "process_count", "seed", "shard", "thread_count"]

Number = TypeVar("Number", int, float)


def _number(text: str, kind: Callable[[str], Number], wanted: str, good: Callable[[Number], bool]) -> Number:
    """The number meant by an option's text, refused unless it is what is wanted."""
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {wanted}; got {text!r}") from None
    if not good(value):
        raise argparse.ArgumentTypeError(f"must be {wanted}; got {text}")
    return value


def positive(text: str) -> float:
    return _number(text, float, "a positive number", lambda value: 0 < value < float("inf"))


def count(text: str) -> int:
    return _number(text, int, "a positive integer", lambda value: value > 0)


def thread_count(text: str) -> int:
    return _number(text, int, f"an integer from 1 to {THREADS}", lambda value: 0 < value <= THREADS)


def process_count(text: str) -> int | str:
    return text if text == AUTO else _number(text, int, f"a positive integer or {AUTO}", lambda value: value > 0)


def shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    try:
        found = int(part), int(parts)
    except ValueError:
        found = (0, 0)
    if not 0 <= found[0] < found[1]:
        raise argparse.ArgumentTypeError(f"must be I/N with I from 0 to N - 1, such as 0/8; got {text!r}")
    return found


def seed(text: str) -> int:
    return _number(text, int, "an integer from 0 to 2^63 - 1", lambda value: 0 <= value < 2**63)
