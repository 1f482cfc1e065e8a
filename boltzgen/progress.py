"""How long work tells people where it is: a bar on a terminal, one plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from tqdm import tqdm

from .processes import ranks

__all__ = ["Progress", "Show", "show", "silent"]


class Show(Protocol):
    """What work calls with the fraction done and a message, as often as it likes; with a count, its rate is shown."""

    def __call__(self, fraction: float, message: str = "", *, count: float | None = None) -> None: ...


def silent(fraction: float, message: str = "", *, count: float | None = None) -> None:
    """Shows nothing."""


class Progress:
    """Progress of one piece of work on standard error: time spent, time left, the rate, and what the work says.

    Arguments:
        title: what is being done, a few words.
        unit: what `count` counts.
        stream: where to write; standard error if None.
        interval: seconds between plain lines where there is no terminal.
    """

    def __init__(self, title: str, *, unit: str = "steps", stream: TextIO | None = None, interval: float = 5.0) -> None:
        self.title, self.unit = title, unit
        self.interval = interval
        self.stream = stream or sys.stderr
        self.begin = time.monotonic()
        self._last = -float("inf")
        self._first: tuple[float, float | None, float] | None = None
        self._bar = (
            tqdm(
                total=1.0,
                desc=title,
                file=self.stream,
                unit="",
                bar_format="{desc} {percentage:3.0f}%|{bar}| {unit}",
            )
            if self.stream.isatty()
            else None
        )

    def __call__(self, fraction: float, message: str = "", *, count: float | None = None) -> None:
        now = time.monotonic()
        if self._first is None or (self._first[1] is None and count is not None):
            self._first = fraction, count, now  # what was done before tells nothing of the speed
        if self._bar is not None:
            self._bar.n = min(fraction, 1.0)
            self._bar.unit = self._standing(fraction, message, count, now)  # a postfix would begin with a comma
            self._bar.refresh()
        elif now - self._last >= self.interval or fraction >= 1:
            self._last = now
            line = f"{self.title}: {100 * fraction:3.0f} %, {self._standing(fraction, message, count, now)}"
            print(line, file=self.stream, flush=True)

    def _standing(self, fraction: float, message: str, count: float | None, now: float) -> str:
        """Where the work stands, in words."""
        assert self._first is not None
        start, counted, then = self._first
        words = [_clock(now - self.begin)]
        if start + 0.02 < fraction < 1:
            words.append(f"{_clock((now - then) * (1 - fraction) / (fraction - start))} left")
        if count is not None and counted is not None and count > counted and now > then:
            rate = (count - counted) / (now - then)
            words.append(f"{rate:.{0 if rate >= 10 else 2}f} {self.unit}/s")
        return f"{', '.join(words)}  {message}"

    def close(self) -> None:
        """Ends the bar's line; nothing to do for plain lines."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def show(title: str, *, visible: bool, unit: str = "steps") -> Iterator[Show]:
    """A `Progress` for the time of a block, or `silent`; of several processes one shows it."""
    if not (visible and ranks().leads):
        yield silent
        return
    with Progress(title, unit=unit) as progress:
        yield progress


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
