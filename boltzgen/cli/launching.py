"""The threads and processes of a command: `--threads`, and `--processes`, started by torch's own launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..processes import processors
from .printing import say

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["AUTO", "THREADS", "fastest", "launch", "launched", "limit_threads"]

AUTO = "auto"
THREADS = 1024
"""of one process at most: with very many torch crashes."""
_TRIED_MINUTES = 0.25


def limit_threads(n: int) -> None:
    """The number of threads this process works with; child processes get it too where torch is not loaded yet."""
    os.environ.setdefault("OMP_NUM_THREADS", str(n))
    import torch

    torch.set_num_threads(n)


def launched() -> bool:
    """Whether this process is one of several that a launcher started, `torchrun` or `launch`."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch(arguments: Sequence[str], processes: int, *, silent_in: str | None = None) -> int:
    """Runs `boltzgen` with the arguments in several processes that share its work; gives the exit code.

    It is that of the process that failed first; 1 if a signal ended that one, which is then lost to the others; 128 and
    the number of a signal that this process was sent. What this process does at a signal is afterwards what it was.

    Arguments:
        arguments: the command and its options.
        processes: how many.
        silent_in: a folder for what they print, if not the terminal.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):  # the processes speak for themselves
            logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        run_id=str(os.getpid()),
        logs_specs=None if silent_in is None else DefaultLogsSpecs(log_dir=silent_in, redirects=Std.ALL),
    )
    try:
        with _handlers_kept():
            elastic_launch(config, sys.executable)("-m", "boltzgen", *arguments)
    except ChildFailedError as error:
        first = min(error.failures.values(), key=lambda failure: failure.timestamp)
        return max(first.exitcode, 1)  # below zero after a signal
    except SignalException as stop:
        return 128 + int(stop.sigval)
    return 0


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Puts back the handlers of signals that torch's launcher leaves in place of them."""
    there = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
    kept = {number: signal.getsignal(number) for number in there}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in kept.items():
                signal.signal(number, handler)


def fastest(settings: Settings) -> int:
    """With how many processes this machine trains fastest: one, or as many as keep its processors busy; both are tried.

    A process has the threads that the settings say, not compiled. One process with more of them is not tried.
    """
    from ..checkpoint import load_checkpoint
    from ..training import History

    names = ("forcefield", "temperature", "hold", "threads", "device")
    given = {f"--{name}": getattr(settings, name) for name in names}
    options = [str(part) for name, value in given.items() if value is not None for part in (name, *_parts(value))]
    rates = {}
    run = ["train", settings.system, *options, "--minutes", str(_TRIED_MINUTES), "--no-compile"]
    for processes in sorted({1, max(1, processors() // settings.threads)}):
        with tempfile.TemporaryDirectory() as folder:
            code = launch([*run, "--out", f"{folder}/run"], processes, silent_in=folder)
            if code == 0:
                history = load_checkpoint(Path(folder) / "run" / "generator.pt", kind="generator")["history"]
                rates[processes] = History.from_state(history).training_samples / history["seconds"]
        if code == 128 + signal.SIGINT:
            raise KeyboardInterrupt
        if code == 128 + signal.SIGTERM:
            raise SystemExit(code)
    best = max(rates, key=lambda processes: rates[processes], default=1)
    tried = ", ".join(f"{rate:.0f} with {processes}" for processes, rate in rates.items()) or "none tried with success"
    say(
        f"training samples per second by number of processes, threads of each {settings.threads}: {tried}; going on "
        f"with {best}"
    )
    return best


def _parts(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
