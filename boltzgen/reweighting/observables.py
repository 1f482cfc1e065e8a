"""What is asked of the draws, as numpy arrays with one row for each: observables and states."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from .weights import Array, as_array

__all__ = ["as_observable", "as_state"]


def as_observable(name: str, log_w: Array, f: Tensor | npt.ArrayLike, *, ndim: int = 1) -> Array:
    """f as float64 with `ndim` axes, one row per draw; zero where the weight is.

    Raises:
        InputError: unless f has that shape and is finite wherever the weight is positive.
    """
    values = _matching(name, log_w, f, ndim).astype(np.float64)
    positive = log_w > -np.inf
    bad = positive & ~np.isfinite(values).reshape(len(values), -1).all(1)
    if bad.any():
        raise InputError(
            f"{name} must be finite wherever the weight is positive; got {bad.sum()} NaN or infinite of {len(values)}: "
            "define the observable for these draws"
        )
    return np.where(positive.reshape(-1, *[1] * (ndim - 1)), values, 0.0)


def as_state(name: str, log_w: Array, mask: Tensor | npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """The booleans (n,) that say which draws lie in a state.

    Raises:
        InputError: unless they are that.
    """
    values = _matching(name, log_w, mask, 1)
    if values.dtype != np.bool_:
        raise InputError(
            f"{name} must be boolean, one entry per draw; got {values.dtype}: pass a comparison such as phi < 0"
        )
    return values


def _matching(name: str, log_w: Array, values: Tensor | npt.ArrayLike, ndim: int) -> npt.NDArray[Any]:
    rows = as_array(name, values, ndim)
    if len(rows) != len(log_w):
        raise InputError(
            f"{name} must have one entry per log-weight, {len(log_w)}; got {len(rows)}: pass matching draws"
        )
    return rows
