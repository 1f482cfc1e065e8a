"""What is said of measurements is what the records hold."""

import importlib.util
import json
import math
from pathlib import Path

from boltzgen.molecule import find

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_tables_are_those_of_the_records(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # for what it shares with other scripts
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


def test_a_poor_flow_that_learns_on_has_errors_three_times_smaller():
    """By weights, by independence Metropolis, by annealed importance sampling and by SMC, at equal evaluations."""
    found = json.loads((BENCHMARKS / "results" / "refinement.json").read_text())
    rows = {row["method"]: row for row in found["methods"]}
    assert 0.03 < rows["as it is, reweighting"]["effective_share_or_acceptance"] < 0.05
    for row in rows.values():
        assert row["energies"] + row["gradients"] <= 1.002 * found["evaluations"]  # whole blocks of draws
        assert all(abs(row[name]["sigmas_off"]) <= 3 for name in found["exact"])
    for method in ("reweighting", "independence Metropolis"):
        assert all(rows[f"adapted, {method}"][name]["times_smaller_error"] >= 3 for name in found["exact"])
    for method in ("annealed", "SMC"):
        row = rows[f"adapted, then {method}, 30 % kept, 1 stage"]
        assert all(row[name]["times_smaller_error"] >= 3 for name in found["exact"])


def test_intervals_cover_the_truth_in_every_row_that_was_recorded():
    """From 93 to 97 % up to the noise of the replicas, but for what grows with lognormal weights of few draws."""
    found = json.loads((BENCHMARKS / "results" / "calibration.json").read_text())
    noise = 3 * math.sqrt(0.05 * 0.95 / found["replicas"])
    assert found["replicas"] >= 2000
    *rows, twin = found["rows"]
    for row in rows:
        hard = ("U(T)", "C(T)", "change") if "lognormal" in row["target"] and row["effective_share"] <= 0.05 else ()
        assert all(0.95 - noise - 0.01 <= v <= 0.97 + noise for k, v in row["coverage"].items() if k not in hard), row
        assert all(row["coverage"][k] >= 0.85 for k in hard), row
    assert twin["coverage"]["mean"] < 0.5
