"""When long work saves itself: every minute, when a signal asks for it, and at its end."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .checkpoint import save_checkpoint
from .errors import RankError
from .processes import ranks

__all__ = ["Autosave", "save_asked_for"]

_SECONDS = 60.0
_ENDING = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = [None, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []), *_ENDING]
"""What may be asked for, the most urgent last."""


@contextmanager
def save_asked_for() -> Iterator[Callable[[], bool]]:
    """Within it SIGUSR1 asks for a save; what it gives tells whether that has happened since the last call.

    Where Python handles no signals, outside the main thread or without SIGUSR1, it never has.
    """
    asked: list[int] = []

    def since() -> bool:
        found = bool(asked)
        asked.clear()
        return found

    if not hasattr(signal, "SIGUSR1") or threading.current_thread() is not threading.main_thread():
        yield since
        return
    before = signal.signal(signal.SIGUSR1, lambda number, _: asked.append(number))
    try:
        yield since
    finally:
        signal.signal(signal.SIGUSR1, before)


class Autosave:
    """A checkpoint kept up to date while a training or a simulation runs, within a `with` block.

    Called between two steps, it saves if a minute has passed or a signal has come in. After SIGINT (Ctrl-C) it raises
    KeyboardInterrupt, after SIGTERM SystemExit(143); after SIGUSR1 the work goes on. What comes in during the last
    save ends the block so too. Where another process was lost (`RankError`) the block saves before it ends. A second
    SIGINT or SIGTERM does not wait for the step to end. Signals are left alone where Python cannot handle them (outside
    the main thread), and without a path.

    Of several processes one writes, and a signal to any of them counts for all; so all call it after every step.

    A checkpoint that cannot be written, say on a full disk, does not end the work: it is warned about and tried
    again a minute later, and the older checkpoint stays as it was. Only at the end does it raise.

    Arguments:
        path: of the checkpoint; nothing is saved if None.
        state: gives the plain data to save.
        fingerprint: of what is under way, kept in the checkpoint.
        kind: what that is, a word.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        state: Callable[[], dict[str, Any]],
        *,
        fingerprint: str,
        kind: str = "training",
    ) -> None:
        self.path, self.state, self.fingerprint, self.kind = path, state, fingerprint, kind
        self._asked: signal.Signals | None = None
        self._handlers: dict[int, Any] = {}
        self._last = time.monotonic()

    def __enter__(self) -> Autosave:
        self._last = time.monotonic()
        if self.path is not None and threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._ask) for number in _SIGNALS if number is not None}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, RankError):  # the others are lost, and what was done must not be
            self.finish()
        for number in list(self._handlers):
            self._restore(number)
        if kind is None:  # what came in since the last step, the last save included
            self._end(self._agreed())

    def __call__(self) -> None:
        """Saves if it is time to, and ends the work if a signal asked for that."""
        asked = self._agreed()
        if asked is not None or time.monotonic() - self._last > _SECONDS:
            self._last = time.monotonic()
            try:
                self.finish()
            except OSError as error:
                warnings.warn(
                    f"the {self.kind} goes on without a new checkpoint: {error}", RuntimeWarning, stacklevel=2
                )
        self._end(asked)

    def finish(self) -> None:
        """Saves now.

        Raises:
            OSError: if the checkpoint cannot be written.
        """
        if self.path is not None and ranks().leads:
            save_checkpoint(self.path, self.state(), fingerprint=self.fingerprint, kind=self.kind)

    def _agreed(self) -> signal.Signals | None:
        """What was asked of any of the processes since the last time."""
        asked, self._asked = self._asked, None
        return _SIGNALS[int(ranks().highest(_SIGNALS.index(asked)))]

    @staticmethod
    def _end(asked: signal.Signals | None) -> None:
        if asked == signal.SIGINT:
            raise KeyboardInterrupt
        if asked == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked not in _ENDING:  # what asks for the end is not forgotten over what asks for less
            self._asked = signal.Signals(number)
        if number in _ENDING:
            self._restore(number)

    def _restore(self, number: int) -> None:
        handler = self._handlers.pop(number, None)
        if handler is not None:
            signal.signal(number, handler)
