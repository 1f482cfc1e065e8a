"""What a simulation leaves behind on its way, and where it stands: together in a checkpoint, if it is to survive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..autosave import Autosave
from ..checkpoint import load_if_there
from ..errors import InputError
from ..processes import ranks

__all__ = ["Recording"]


class Recording:
    """Columns of observations of a simulation, a row after each of its steps or rounds that is observed.

    Attributes:
        done: steps or rounds so far, those of equilibration included.
        state: plain data from which the simulation goes on; None if nothing was saved.

    Arguments:
        checkpoint: where to keep it; nowhere if None. What is there already is taken up.
        about: gives plain data that tell this simulation from others; not asked without a checkpoint.
        resume: another state to go on from, if there is no checkpoint.

    Raises:
        InputError: if there are both.
        CheckpointError: if the checkpoint is damaged or of another simulation.
    """

    def __init__(
        self, checkpoint: str | os.PathLike[str] | None, about: Callable[[], object], resume: object = None
    ) -> None:
        if checkpoint is not None and resume is not None:
            raise InputError("a simulation must go on from its checkpoint or from resume; got both: leave one out")
        self.checkpoint = checkpoint
        self.fingerprint = "" if checkpoint is None else hashlib.sha256(repr(about()).encode()).hexdigest()
        self.done = 0
        self.state: dict[str, Any] | None = None
        self._rows: dict[str, list[Tensor]] = {}
        saved = None
        if checkpoint is not None:
            load = partial(load_if_there, checkpoint, fingerprint=self.fingerprint, kind="simulation")
            saved = ranks().first(load)
        if saved is not None:
            self.done, self.state = saved["done"], saved["state"]
            self._rows = {name: list(column.unbind()) for name, column in saved["columns"].items()}

    def add(self, **row: Tensor) -> None:
        """What was observed, into the columns of these names."""
        for name, value in row.items():
            self._rows.setdefault(name, []).append(value.detach().to("cpu", copy=True))  # not a view of more

    def column(self, name: str) -> Tensor:
        """All that was observed under this name, (n, …), in main memory."""
        return torch.stack(self._rows[name])

    @contextmanager
    def kept(self, state: Callable[[], dict[str, Any]]) -> Iterator[Callable[[], None]]:
        """For the time of a block, a call that keeps the checkpoint up to date (`Autosave`); at its end it is.

        Arguments:
            state: gives where the simulation stands, as plain data.
        """
        begun = self.done if self.state is not None else -1

        def everything() -> dict[str, Any]:
            return {"done": self.done, "state": state(), "columns": {name: self.column(name) for name in self._rows}}

        if self.checkpoint is None:  # nobody waits for other processes
            yield lambda: None
            return
        with Autosave(self.checkpoint, everything, fingerprint=self.fingerprint, kind="simulation") as autosave:
            yield autosave
            if self.done != begun:
                autosave.finish()
