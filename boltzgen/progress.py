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
    """What work calls with the fraction done and a message, as often as it likes."""

    def __call__(self, fraction: float, message: str = "") -> None: ...


def silent(fraction: float, message: str = "") -> None:
    """Shows nothing."""


class Progress:
    """Progress of one piece of work on standard error.

    Arguments:
        title: what is being done, a few words.
        stream: where to write; standard error if None.
        interval: seconds between plain lines where there is no terminal.
    """

    def __init__(self, title: str, *, stream: TextIO | None = None, interval: float = 15.0) -> None:
        self.title = title
        self.interval = interval
        self.stream = stream or sys.stderr
        self.begin = time.monotonic()
        self._last = -float("inf")
        self._first: tuple[float, float] | None = None
        self._bar = (
            tqdm(
                total=1.0,
                desc=title,
                file=self.stream,
                unit="",
                bar_format="{desc} {percentage:3.0f}%|{bar:20}| {unit}",
            )
            if self.stream.isatty()
            else None
        )

    def __call__(self, fraction: float, message: str = "") -> None:
        now = time.monotonic()
        elapsed = now - self.begin
        start, then = self._first = self._first or (fraction, now)  # what was done before tells nothing of the speed
        known = start + 0.02 < fraction < 1
        left = f", {_clock((now - then) * (1 - fraction) / (fraction - start))} left" if known else ""
        if self._bar is not None:
            self._bar.n = min(fraction, 1.0)
            self._bar.unit = f"{_clock(elapsed)}{left}  {message}"  # a postfix would begin with a comma
            self._bar.refresh()
        elif now - self._last >= self.interval or fraction >= 1:
            self._last = now
            line = f"{self.title}: {100 * fraction:3.0f} %, {_clock(elapsed)}{left}  {message}"
            print(line, file=self.stream, flush=True)

    def close(self) -> None:
        """Ends the bar's line; nothing to do for plain lines."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def show(title: str, *, visible: bool) -> Iterator[Show]:
    """A `Progress` for the time of a block, or `silent`; of several processes one shows it."""
    if not (visible and ranks().leads):
        yield silent
        return
    with Progress(title) as progress:
        yield progress


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
