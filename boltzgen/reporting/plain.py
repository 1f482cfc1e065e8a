"""Numbers as plain data: what is not finite is None, since JSON knows no infinity."""

from __future__ import annotations

import math
from typing import Any

from ..reweighting import Estimate

__all__ = ["finite", "plain_estimate"]


def finite(value: float) -> float | None:
    """The number, or None if it is not finite."""
    return float(value) if math.isfinite(value) else None


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
