"""What every compiled force is: constants in both precisions and an energy in kJ/mol per frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .geometry import Frames

__all__ = ["Force"]

_SUFFIX = {torch.float32: "_float32", torch.float64: "_float64"}


class Force(nn.Module, ABC):
    """Potential energy U(x) of one OpenMM force over a batch of frames, in kJ/mol.

    A subclass registers its parameters with `constants` and writes `forward`. Parameters are read once, in
    float64, and kept rounded to float32 beside it: the evaluation runs in the precision of the frames, and
    `module.to(dtype)` moves them between devices without ever touching their values.
    """

    def constants(self, **values: ArrayLike) -> None:
        """Register parameters, one row per term: real ones in both precisions, integers as indices."""
        for name, value in values.items():
            array = torch.as_tensor(np.asarray(value))
            if not array.is_floating_point():
                self.register_buffer(name, array.long(), persistent=False)
                continue
            for dtype, suffix in _SUFFIX.items():
                self.register_buffer(name + suffix, array.to(dtype), persistent=False)

    def read(self, dtype: torch.dtype, *names: str) -> list[Tensor]:
        """The real parameters in one precision, in the order of their names."""
        suffix = _SUFFIX[dtype]
        return [cast(Tensor, getattr(self, name + suffix)) for name in names]

    @abstractmethod
    def forward(self, frames: Frames) -> Tensor:
        """U of each frame, (n,), in kJ/mol."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return super()._apply(lambda t: t.to(fn(t).device), recurse)  # devices move, precision stays
