"""What is said of measurements is what the records hold."""

import importlib.util
import json
import math
from pathlib import Path

from boltzgen.molecule import find

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_tables_are_those_of_the_records():
    spec = importlib.util.spec_from_file_location("tables", BENCHMARKS / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8") == tables.page(), "run benchmarks/tables.py"


def test_no_simulation_is_further_from_openmm_than_chance():
    found = json.loads((BENCHMARKS / "results" / "dynamics.json").read_text())
    assert set(found["standard_errors_from_openmm"]) == {"torch", "replica exchange"}
    assert all(abs(sigma) <= 3 for sigma in found["standard_errors_from_openmm"].values())
    exchanged, reference = found["populations"]["replica exchange"], find("alanine_dipeptide").reference
    alpha, beta = (reference[f"population_{basin}"] for basin in ("alpha_R", "beta"))
    share = alpha["value"] / (alpha["value"] + beta["value"])
    assert abs(exchanged["alpha_R"] - share) <= 3 * math.hypot(exchanged["standard_error"], alpha["standard_error"])
