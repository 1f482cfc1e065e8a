"""Numbers as plain data: what is not finite is None, since JSON knows no infinity."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from ..reweighting import Estimate

__all__ = ["as_json", "finite", "plain_estimate", "rounded"]


def as_json(value: Any) -> Any:
    """Data as JSON knows them: numbers and arrays of numpy as Python's, paths and all else as text."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return finite(float(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return [as_json(inner) for inner in value]
    return os.fsdecode(value) if isinstance(value, os.PathLike) else str(value)


def finite(value: float) -> float | None:
    """The number, or None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def rounded(values: npt.ArrayLike) -> list[Any]:
    """An array to six digits, more than a picture shows, as nested lists; None for what is not finite.

    Example:
        >>> rounded([[1 / 3, 0.0], [float("nan"), 12345678.0]])
        [[0.333333, 0.0], [None, 12345700.0]]
    """
    array = np.asarray(values, dtype=float)
    if array.ndim > 1:
        return [rounded(row) for row in array]
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in array.tolist()]


def plain_estimate(estimate: Estimate, unit: str) -> dict[str, Any]:
    """{value, standard_error, unit, interval, reliable, why} of an estimate."""
    return {
        "value": finite(estimate.value),
        "standard_error": finite(estimate.standard_error),
        "unit": unit,
        "interval": [finite(limit) for limit in estimate.interval],
        "reliable": bool(estimate.reliable),
        "why": estimate.why,
    }
