"""The folder of a training or a simulation: what it is of, where, when and with what it ran, and how it goes."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, InputError
from .files import as_path, sweep, write_atomically

if TYPE_CHECKING:
    from .training import History

__all__ = ["PACKAGES", "RunFolder", "provenance"]

_FORMAT = {"format": "boltzgen run", "version": 1}
PACKAGES = (
    "boltzgen-flows", "torch", "numpy", "openmm", "mdtraj", "matplotlib", "pydantic", "tqdm", "filelock",
)  # fmt: skip
"""distributions of which a number depends on the version, or a run on the behaviour."""
_SECONDS = 5.0


def provenance() -> dict[str, Any]:
    """What a number owes its being to besides its arguments: the command, the versions, the machine, the hour."""
    versions = {"Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    machine = [f"{platform.system()} {platform.machine()}", _processor(), f"{os.cpu_count() or 1} processors", *_gpus()]
    return {
        "command": shlex.join([*_program(), *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "machine": ", ".join(machine),
        "versions": versions,
    }


class RunFolder:
    """The files of a training, or another kind of work, in one folder, for the process that holds it (`exclusive`).

    Called with the record of the training as often as one likes, it keeps `metrics.jsonl` up to date: a line of JSON
    every five seconds, whole as soon as it is there, so that it can be read meanwhile. After an interruption it goes
    on where the training does.

    Arguments:
        path: of the folder.
        about: plain data that say what is trained or simulated, kept in run.json.
        begun: called once run.json is written: from there on the folder alone can be gone on with.
        kind: of work, a word; a folder holds one.

    Attributes:
        training: checkpoint of the training under way.
        generator: what was trained.
        record: run.json, what `read` gives.
        metrics: metrics.jsonl.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        about: Mapping[str, Any] | None = None,
        begun: Callable[[], None] = lambda: None,
        *,
        kind: str = "training",
    ) -> None:
        self.path, self.about, self.begun, self.kind = as_path(path), dict(about or {}), begun, kind
        self.training, self.generator = self.path / "training.pt", self.path / "generator.pt"
        self.record, self.metrics = self.path / "run.json", self.path / "metrics.jsonl"
        self._begin: float | None = None
        self._before = self._last = 0.0
        self._seen = self._taken_up = self._samples = 0
        self._started = False
        self._earlier: bytes | None = None

    def __call__(self, history: History) -> None:
        """Notes how the training stands, if it is time to; the first time, that it began."""
        now = time.monotonic()
        if self._begin is None:
            self._begin = self._last = now
            self._before, self._seen = history.seconds, len(history.losses)
            self._taken_up, self._samples = self._seen, history.training_samples
            self.start()
            self._open()
            self.begun()
        elif now - self._last >= _SECONDS:
            self._note(history, now)
            self._last = now

    def finish(self, history: History) -> None:
        """Leaves run.json as it was before this start if nothing was left to train: it tells of what was trained."""
        if self._earlier is not None and len(history.losses) == self._taken_up:
            write_atomically(self.record, self._earlier)

    def read(self) -> dict[str, Any]:
        """What run.json holds: `about`, the "kind" of work, and under "starts" the `provenance` of every start.

        Raises:
            InputError: if the folder holds none.
            CheckpointError: if it is damaged.
        """
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
            if not isinstance(found, dict) or not isinstance(found.get("starts"), list):
                raise ValueError("something else")
        except OSError as error:
            raise InputError(
                f"{self.path} must be the folder of a {self.kind}; its {self.record.name} cannot be read "
                f"({error.strerror}): check the path"
            ) from None
        except ValueError as error:
            raise CheckpointError(
                f"{self.record} must be the record of a {self.kind}; got one that is damaged ({error}): remove it, or "
                "use another folder"
            ) from None
        version = {key: found.pop(key, None) for key in _FORMAT}
        if version != _FORMAT:
            raise CheckpointError(
                f"{self.record} must be of version {_FORMAT['version']}; got {version['version']!r}: use the release "
                "of boltzgen that wrote it"
            )
        return {"kind": "training"} | found

    def read_own(self) -> dict[str, Any]:
        """What `read` gives, if it is of the same kind of work.

        Raises:
            InputError: if it is of another, naming the command that goes on with that.
        """
        found = self.read()
        if found["kind"] != self.kind:
            command = found["starts"][-1]["command"] if found["starts"] else "the program that made it"
            raise InputError(
                f"{self.path} must be the folder of a {self.kind}; got that of a {found['kind']}, which goes on with "
                f"`{command}`: name another"
            )
        return found

    def require_own(self) -> None:
        """Refusal of a folder that belongs to something else, or whose run.json is damaged.

        Raises:
            InputError, CheckpointError: saying so.
        """
        if self.record.exists():
            self.read_own()

    def start(self) -> None:
        """Notes in run.json, the first time, that the work began: once it has taken up its checkpoint, not before."""
        if self._started:
            return
        starts = self.read_own()["starts"] if self.record.exists() else []
        self._started, self._earlier = True, self.record.read_bytes() if starts else None
        sweep(self.path)
        record = _FORMAT | {"kind": self.kind} | self.about | {"starts": [*starts, provenance()]}
        write_atomically(self.record, (json.dumps(record, indent=2) + "\n").encode())

    def _open(self) -> None:
        """Leaves of metrics.jsonl what the checkpoint knows of."""
        lines = self.metrics.read_text(encoding="utf-8", errors="replace").splitlines() if self.metrics.exists() else []
        kept = [line for line in lines if _steps(line) <= self._seen]
        write_atomically(self.metrics, "".join(f"{line}\n" for line in kept).encode())

    def _note(self, history: History, now: float) -> None:
        losses = [loss for loss in history.losses[self._seen :] if math.isfinite(loss)]
        last = history.rounds[-1] if history.rounds else None
        assert self._begin is not None
        line = {
            "seconds": round(self._before + now - self._begin, 1),
            "steps": len(history.losses),
            "loss": sum(losses) / len(losses) if losses else None,
            "training_samples": history.training_samples,
            "samples_per_second": round((history.training_samples - self._samples) / max(now - self._last, 1e-3), 1),
            "evaluations": history.evaluations,
            "rounds": len(history.rounds),
            "temperature": None if last is None else last.next_temperature,
            "ess_fraction": None if last is None else last.ess,
        }
        self._seen, self._samples = len(history.losses), history.training_samples
        with suppress(OSError), open(self.metrics, "a", encoding="utf-8") as file:  # a full disk ends no training
            file.write(json.dumps(line) + "\n")


def _steps(line: str) -> float:
    """How far a line of metrics had come; infinitely, if it was cut short."""
    try:
        return float(json.loads(line)["steps"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _program() -> list[str]:
    """How this program was called."""
    script = Path(sys.argv[0])
    return ["python", "-m", script.parent.name] if script.name == "__main__.py" else [script.name]


def _gpus() -> list[str]:
    """Names of the GPUs there are."""
    import torch

    return [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]


def _processor() -> str:
    """Its name, as far as the system tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
