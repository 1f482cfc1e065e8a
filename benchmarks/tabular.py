"""Records and tables, for those that write RESULTS.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def record(name: str) -> Any:
    """A record, or None if it was not made."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def pm(estimate: Any) -> str:
    return "" if estimate is None else f"{estimate['value']:.3f} ± {estimate['standard_error']:.3f}"
