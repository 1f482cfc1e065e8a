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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from ..errors import InputError
from ..files import write_atomically
from ..processes import ranks

if TYPE_CHECKING:
    from ..energies import Energy
    from ..flows import Flow

__all__ = ["Compile", "cache_folder", "compiled"]

Compile = Literal["auto", "always", "never"]

_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def _unheard(message: str) -> None:
    """Says nothing."""


@contextmanager
def compiled(
    flow: Flow,
    target: Energy,
    *,
    rows: tuple[int, int],
    compile: Compile = "auto",
    patience: float = 420.0,
    also: Sequence[Flow] = (),
    say: Callable[[str], None] = _unheard,
) -> Iterator[str]:
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
        also: flows of the same layers, to be compiled as well.
        say: told when a trial begins, which takes minutes.

    Yields:
        One line that says what was decided and why.
    """
    if compile not in ("auto", "always", "never"):
        raise InputError(f'compile must be "auto", "always" or "never"; got {compile!r}: choose one')
    reason = _joint_objection(flow, target, rows, compile=compile, patience=patience, say=say)
    if reason:
        yield f"eager: {reason}"
        return
    pieces, kept = hot_methods(flow, target, *also), os.environ.get(_CACHE)
    os.environ[_CACHE] = _kernels()
    try:
        for module, name in pieces:
            # set on the instance, where it shadows the class's method
            module.__dict__[name] = torch.compile(getattr(module, name), dynamic=False)
        yield "compiled"
    finally:
        for module, name in pieces:
            module.__dict__.pop(name, None)
        if kept is None:
            os.environ.pop(_CACHE, None)
        else:
            os.environ[_CACHE] = kept


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


def _joint_objection(
    flow: Flow, target: Energy, rows: tuple[int, int], *, compile: Compile, patience: float, say: Callable[[str], None]
) -> str:
    """Why none of the processes compiles. The first tries alone: on one machine the others find its trial done."""
    team = ranks()
    reason = _objection(flow, target, rows, compile=compile, patience=patience, say=say) if team.leads else ""
    team.highest(0.0)  # the others wait
    if not team.leads:
        reason = _objection(flow, target, rows, compile=compile, patience=patience, say=say)
    if team.highest(float(bool(reason))) and not reason:
        return "another process does not compile"
    return reason


def _objection(
    flow: Flow, target: Energy, rows: tuple[int, int], *, compile: Compile, patience: float, say: Callable[[str], None]
) -> str:
    """Why not to compile; empty if nothing speaks against it."""
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
    return _trial(job, cache_folder() / f"{_same_code(flow, target, rows)}.agreed", patience, say)


def _same_code(flow: Flow, target: Energy, rows: tuple[int, int]) -> str:
    """A name for the code that would be compiled, which the weights of the flow do not change."""
    releases = [str(torch.__version__)]
    with suppress(importlib.metadata.PackageNotFoundError):
        releases.append(importlib.metadata.version("boltzgen-flows"))
    place = str(next(flow.buffers()).device), torch.get_num_threads()
    what = (releases, place, rows, flow.architecture, flow.marginal is None, target.fingerprint)
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _trial(job: bytes, stamp: Path, patience: float, say: Callable[[str], None]) -> str:
    """Runs the trial of `trial.py` in a child process, unless its stamp says that it has agreed before."""
    if stamp.exists():
        return ""
    say("compiling, and trying what was compiled, which takes minutes")
    try:
        child = subprocess.run(
            [sys.executable, "-m", "boltzgen.training.trial"],
            input=job,
            capture_output=True,
            timeout=patience,
            env={**os.environ, _CACHE: _kernels(), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the trial of compiled code did not end within {patience:.0f} s"
    if child.returncode != 0:
        last = (child.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        return f"the trial of compiled code failed ({how}: {last[:200]})"
    with suppress(OSError):  # without a cache the next run tries again
        write_atomically(stamp, b"")
    return ""


def load_job(data: bytes) -> Any:
    """The (flow, target, rows, threads) that a parent sent; only ever called on bytes from our own parent's pipe."""
    return pickle.loads(data)
