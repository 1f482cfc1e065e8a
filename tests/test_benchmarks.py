"""What is said of measurements is what the records hold."""

import importlib.util
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_tables_are_those_of_the_records():
    spec = importlib.util.spec_from_file_location("tables", BENCHMARKS / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8") == tables.page(), "run benchmarks/tables.py"
