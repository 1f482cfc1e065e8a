"""`torch.compile` where it pays and only after a trial: a compiled path is never the only path."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ..errors import InputError
from ..files import write_atomically
from ..processes import ranks

if TYPE_CHECKING:
    from ..energies import Energy
    from ..flows import Flow

__all__ = ["Compilation", "Compile", "cache_folder", "compiled"]

Compile = Literal["auto", "always", "never"]

AGREED = b"agreed"
"""what a child that has found compiled code right says."""
_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def _unheard(message: str) -> None:
    """Says nothing."""


class Compilation:
    """What became of the wish to compile.

    Attributes:
        how: one line that says what was decided and why.
    """

    def __init__(self, pieces: list[tuple[nn.Module, str]], say: Callable[[str], None]) -> None:
        self.how = "eager"
        self._pieces, self._say = pieces, say
        self._trial: _Trial | None = None
        self._before: dict[str, str] | None = None

    def follow(self, answer: str | _Trial) -> None:
        """Compiles unless the answer is an objection; a trial is asked for its own by `look`."""
        if isinstance(answer, _Trial):
            self._trial, self.how = answer, "eager: compiled code was still being tried"
        elif answer:
            self.how = f"eager: {answer}"
        else:
            self._compile("compiled")

    def look(self) -> None:
        """Goes over to compiled code once a trial beside the work has found it right; for calls between steps."""
        if self._trial is not None and (objection := self._trial.outcome()) is not None:
            seconds, self._trial = self._trial.seconds, None
            if objection:
                self.how = f"eager: {objection}"
            else:
                self._say("taking up compiled code, which takes a minute")
                self._compile(f"compiled after {seconds:.0f} s")

    def close(self) -> None:
        """Makes the methods the eager ones again, and ends a trial that goes on."""
        if self._trial is not None:
            self._trial.end()
        for module, name in self._pieces:
            module.__dict__.pop(name, None)
        if self._before is not None:
            os.environ.pop(_CACHE, None)
            os.environ.update(self._before)

    def _compile(self, how: str) -> None:
        self._before = {_CACHE: os.environ[_CACHE]} if _CACHE in os.environ else {}
        os.environ[_CACHE] = _kernels()
        for module, name in self._pieces:
            # set on the instance, where it shadows the class's method
            module.__dict__[name] = torch.compile(getattr(module, name), dynamic=False)
        self.how = how


@contextmanager
def compiled(
    flow: Flow,
    target: Energy,
    *,
    rows: tuple[int, int],
    compile: Compile = "auto",
    patience: float = 420.0,
    meanwhile: bool = False,
    also: Sequence[Flow] = (),
    say: Callable[[str], None] = _unheard,
) -> Iterator[Compilation]:
    """Within it the hot methods of flow and target run through `torch.compile`, if that can be trusted.

    Classes name their hot methods in `compiled_methods`; each is compiled by itself (a graph that fused coordinates
    and energy was seen to corrupt the heap, torch 2.13 on CPU). "auto" compiles if there is a C++ compiler, if it
    pays, and if a child process that tries it first survives and agrees with eager in value and gradient. Otherwise
    everything stays eager. On exit the methods are the eager ones again.

    Arguments:
        flow, target: what will be trained on what.
        rows: rows of the batches of reverse and forward Kullback-Leibler divergence, of this process.
        compile: "auto", "always" (no trial) or "never".
        patience: seconds that the trial may take, 0 if the work is too short to earn back the compilation; only "auto"
            asks.
        meanwhile: whether the work begins at once, eagerly, while the trial goes on beside it; the work then calls
            `look` now and again. Not for one of several processes, which must change over together.
        also: flows of the same layers, to be compiled as well.
        say: told what takes minutes: a trial that is waited for, and taking up what was compiled beside the work.

    Yields:
        What was decided, or still is to be.
    """
    if compile not in ("auto", "always", "never"):
        raise InputError(f'compile must be "auto", "always" or "never"; got {compile!r}: choose one')
    asked = partial(_answer, flow, target, rows, compile=compile, patience=patience)
    compilation = Compilation(hot_methods(flow, target, *also), say)
    try:
        compilation.follow(asked() if meanwhile else _joint(lambda: _waited_for(asked(), say)))
        yield compilation
    finally:
        compilation.close()


def hot_methods(*flows_and_energies: nn.Module) -> list[tuple[nn.Module, str]]:
    """(module, method name) of everything that says it is worth compiling, the marginals of flows included."""
    from ..flows import Flow

    marginals = [one.marginal for one in flows_and_energies if isinstance(one, Flow)]
    modules = [m for one in (*flows_and_energies, *marginals) if one is not None for m in one.modules()]
    return [(m, name) for m in modules for name in getattr(type(m), "compiled_methods", ())]


def cache_folder() -> Path:
    """Where compiled code is kept between runs: `boltzgen/` in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "boltzgen" / "compiled"


def _kernels() -> str:
    """The folder of compiled kernels: the user's choice, but not the temporary one that torch names when it is used."""
    given = os.environ.get(_CACHE, "")
    by_torch = Path(given).parent == Path(tempfile.gettempdir()) and Path(given).name.startswith("torchinductor_")
    return str(cache_folder()) if by_torch or not given else given


def _joint(objection: Callable[[], str]) -> str:
    """Why none of the processes compiles. The first tries alone: on one machine the others find its trial done."""
    team = ranks()
    reason = objection() if team.leads else ""
    team.highest(0.0)  # the others wait
    if not team.leads:
        reason = objection()
    if team.highest(float(bool(reason))) and not reason:
        return "another process does not compile"
    return reason


def _answer(flow: Flow, target: Energy, rows: tuple[int, int], *, compile: Compile, patience: float) -> str | _Trial:
    """Why not to compile, empty if nothing speaks against it; or a trial, now begun, that will tell."""
    if compile == "never":
        return "asked for"
    if compile == "always":
        return ""
    if not patience:
        return "the run is too short for compilation to pay"
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "c++", "clang++") if name):
        return "no C++ compiler was found (install g++ to use torch.compile)"
    try:
        job = pickle.dumps((flow, target, rows, torch.get_num_threads()))
    except Exception as error:
        return f"flow or target cannot be sent to a trial process ({type(error).__name__})"
    stamp = cache_folder() / f"{_same_code(flow, target, rows)}.agreed"
    try:
        return "" if stamp.exists() else _Trial(job, stamp, patience)
    except OSError as error:
        return f"a trial process cannot be started ({error.strerror})"


def _waited_for(answer: str | _Trial, say: Callable[[str], None]) -> str:
    """The objection, if there is one, after what takes minutes."""
    if isinstance(answer, str):
        return answer
    try:
        say("compiling, and trying what was compiled, which takes minutes")
        objection = answer.outcome(wait=True)
        assert objection is not None
        return objection
    finally:
        answer.end()


def _same_code(flow: Flow, target: Energy, rows: tuple[int, int]) -> str:
    """A name for the code that would be compiled, which the weights of the flow do not change."""
    releases = [str(torch.__version__)]
    with suppress(importlib.metadata.PackageNotFoundError):
        releases.append(importlib.metadata.version("boltzgen-flows"))
    place = str(next(flow.buffers()).device), torch.get_num_threads()
    what = (releases, place, rows, flow.architecture, flow.marginal is None, target.fingerprint)
    return hashlib.sha256(repr(what).encode()).hexdigest()


class _Trial:
    """A child process that runs `trial.py`; a stamp says afterwards that this code has been found right."""

    def __init__(self, job: bytes, stamp: Path, patience: float) -> None:
        self._stamp, self._patience, self._begin = stamp, patience, time.monotonic()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "boltzgen.training.trial", str(os.getpid()), repr(patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, _CACHE: _kernels(), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            start_new_session=True,  # a group of its own: signals to ours end no compiler in the middle of a file
        )
        self._said = self._errors = b""
        self._attendant = threading.Thread(target=self._attend, args=(job,), daemon=True)
        self._attendant.start()

    def _attend(self, job: bytes) -> None:
        try:
            self._said, self._errors = self._child.communicate(job)
        finally:
            self._child.wait()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def outcome(self, *, wait: bool = False) -> str | None:
        """What speaks against compiled code, empty if nothing does; None while that is open, unless one waits."""
        self._attendant.join(max(0.0, self._patience - self.seconds) if wait else 0.0)
        if self._attendant.is_alive():
            if not wait and self.seconds < self._patience:
                return None
            self.end()
            return f"the trial of compiled code did not end within {self._patience:.0f} s"
        code, lines = self._child.returncode, self._errors.decode(errors="replace").strip().splitlines()
        if code or AGREED not in self._said.split():
            last = next((line for line in reversed(lines) if "Error" in line), (lines or ["no message"])[-1])
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return f"the trial of compiled code failed ({how}: {last[:200]})"
        with suppress(OSError):  # without a cache the next run tries again
            write_atomically(self._stamp, b"")
        return ""

    def end(self) -> None:
        """Ends the child if it has not ended by itself, but no compiler: half a file would be kept."""
        self._child.kill()
