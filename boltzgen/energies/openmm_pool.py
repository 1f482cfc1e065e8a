"""Processes that share the frames of a batch, each with an OpenMM Context of its own; lost ones are replaced once."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import weakref
from typing import Any

import numpy as np

from ..errors import EnergyError
from . import openmm_context

__all__ = ["Pool"]


class Pool:
    """`Frames` in several processes: the same answers, bit for bit, in a share of the time.

    The processes are fresh interpreters that run nothing but `openmm_context`, so a script needs no
    `if __name__ == "__main__"`. They start with the first batch, keep nothing between batches, end when this
    object does, and end by themselves if this process is killed.

    Arguments:
        workers: number of processes.
        settings: the arguments of `Frames`.
    """

    def __init__(self, workers: int, **settings: Any) -> None:
        self._workers = workers
        self._settings = settings
        self._processes: list[subprocess.Popen[bytes]] = []
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def evaluate(self, x: np.ndarray, *, forces: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """As `Frames.evaluate`.

        Raises:
            EnergyError: if a worker cannot do its work, or if one is lost twice during this call.
        """
        try:
            try:
                return self._evaluate(x, forces)
            except _LostError:
                self.close()
                return self._evaluate(x, forces)
        except _LostError as lost:
            self.close()
            raise EnergyError(
                f"the worker processes must stay alive; got {lost}, twice for the same batch: look for the reason "
                "above (memory, a crash in OpenMM), or use workers=0"
            ) from None
        except BaseException:
            self.close()  # an answer may be under way, and must not be taken for that to the next question
            raise

    def close(self) -> None:
        """End of the processes; the next batch starts new ones."""
        if self._finalizer is not None:
            self._finalizer()
        self._processes = []

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that were started."""
        return [process.pid for process in self._processes]

    def _evaluate(self, x: np.ndarray, forces: bool) -> tuple[np.ndarray, np.ndarray | None]:
        if not self._processes:
            self._start()
        shares = np.array_split(x, min(self._workers, max(len(x), 1)))
        results = self._ask([{"x": share, "forces": forces} for share in shares])
        energies, shares_of_forces = zip(*results, strict=True)
        return np.concatenate(energies), np.concatenate(shares_of_forces) if forces else None

    def _start(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-P", openmm_context.__file__]  # -P: this folder's modules are not to be found
        self._finalizer = weakref.finalize(self, _end, self._processes, os.getpid())
        for _ in range(self._workers):
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            )
        self._ask([self._settings] * self._workers)

    def _ask(self, requests: list[dict[str, Any]]) -> list[Any]:
        """One request to each process, all at work at once, and their answers."""
        asked = list(zip(self._processes, requests, strict=False))
        answers = []
        try:
            for process, request in asked:
                pickle.dump(request, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)  # type: ignore[arg-type]
                process.stdin.flush()  # type: ignore[union-attr]
            for process, _ in asked:
                answers.append(pickle.load(process.stdout))  # type: ignore[arg-type]
        except (OSError, EOFError, pickle.UnpicklingError):
            raise _LostError(f"worker {process.pid} gone with exit status {_status(process)}") from None
        for answer in answers:
            if isinstance(answer, str) and answer != "ready":
                raise EnergyError(f"OpenMM must be able to evaluate this System; got {answer}: try workers=0")
        return answers


class _LostError(Exception):
    """A worker process ended while it was needed."""


def _status(process: subprocess.Popen[bytes]) -> str:
    try:
        return str(process.wait(1.0))
    except subprocess.TimeoutExpired:
        return "unknown"


def _end(processes: list[subprocess.Popen[bytes]], owner: int) -> None:
    if os.getpid() != owner:  # a fork's copy: the processes are its parent's
        return
    for process in processes:
        process.kill()  # nothing is lost: workers keep nothing
    for process in processes:
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        process.wait()
