"""Numbers that a module computes with, kept in both precisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

__all__ = ["Parameters"]

_SUFFIX = {torch.float32: "_float32", torch.float64: "_float64"}


class Parameters(nn.Module):
    """A module whose real parameters are held in float64 and, rounded, in float32.

    Its evaluation runs in the precision of what it is given, at no cost per call, and moving the module to another
    dtype changes nothing.
    """

    def constants(self, **values: ArrayLike) -> None:
        """Register real parameters, for `read`, or integer ones, which become attributes."""
        for name, value in values.items():
            array = torch.from_numpy(np.ascontiguousarray(value))
            if array.is_floating_point():
                for dtype, suffix in _SUFFIX.items():
                    self.register_buffer(name + suffix, array.to(dtype), persistent=False)
            else:
                self.register_buffer(name, array.long(), persistent=False)

    def read(self, dtype: torch.dtype, *names: str) -> list[Tensor]:
        """Real parameters in one precision, in the order of their names."""
        return [cast(Tensor, getattr(self, name + _SUFFIX[dtype])) for name in names]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(lambda t: t.to(fn(t).device), recurse)  # type: ignore[no-untyped-call]
        return self
