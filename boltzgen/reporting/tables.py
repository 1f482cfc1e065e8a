"""The tables of a report: plain results as rows of text, rounded to be read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = [
    "BASINS",
    "GEOMETRY",
    "SEEDS",
    "Table",
    "basins",
    "card",
    "extremes",
    "geometry",
    "headline",
    "label",
    "plus_minus",
    "python_commands",
    "reference_values",
    "seeds",
]

Results = Mapping[str, Any]

_LABELS = {
    "mean_potential_energy": "⟨U⟩, mean potential energy",
    "mean_reduced_energy": "⟨u⟩, mean reduced energy",
    "log_partition": "log Z, in the coordinates of the flow",
    "free_energy_difference_phi": "ΔF, φ < 0 → φ > 0",
}
_UNKNOWN = "not known"

BASINS = (
    "A basin is a combination of wells of the torsions; a well lies between two maxima of the smoothed profile. Its "
    "centre is the weighted mean direction. Errors are of the estimates; what a basin that was never drawn would hold, "
    "they cannot say."
)
SEEDS = (
    "Trainings from other seeds, each with draws and weights of its own: where one of them lost a well, their log Z or "
    "their free energies differ by more than their errors. What all of them lost stays unseen."
)
GEOMETRY = (
    "Mean and deviation with the weights; smallest and largest in any draw, whatever its weight. Odd: share of the "
    "weight of draws in which one of them is more than 20 % off the mean length, 40° off the mean angle, or closer "
    "than 0.14 nm (with hydrogen) or 0.24 nm. It should be next to nothing. Contacts are of atoms four bonds apart or "
    "more."
)


class Table(NamedTuple):
    """Rows of text below their heads; the columns in `numbers` are not to be broken."""

    head: list[str]
    rows: list[list[str]]
    numbers: set[int]


def label(name: str) -> str:
    """What people call an estimate."""
    return _LABELS.get(name, name)


def plus_minus(value: float | None, error: float | None) -> str:
    """value ± standard error, the error with two digits.

    Example:
        >>> plus_minus(-3.3801, 0.0123), plus_minus(1.5, None), plus_minus(None, None)
        ('-3.380 ± 0.012', '1.5 ± not known', 'not known')
    """
    if value is None:
        return _UNKNOWN
    form = _form(error)
    known = _UNKNOWN if error is None else f"{error:{form}}" if form.endswith("f") else f"{error:.2g}"
    return f"{value:{form}} ± {known}"


def headline(results: Results) -> Table:
    """A row for each estimate."""
    rows = [
        [
            label(name),
            f"{plus_minus(entry['value'], entry['standard_error'])} {entry['unit']}",
            _interval(entry["interval"], entry["standard_error"]),
            "yes" if entry["reliable"] else f"no: {entry['why']}",
        ]
        for name, entry in results["estimates"].items()
    ]
    return Table(["quantity", "value ± standard error", "95 % interval", "reliable"], rows, {1})


def reference_values(results: Results) -> Table:
    """A row for each estimate of which a reference value is known."""
    rows = []
    for name, known in results["reference"]["values"].items():
        own = results["estimates"][name]
        sigmas = _UNKNOWN if known["sigmas"] is None else f"{known['sigmas']:.2g}"
        values = (plus_minus(entry["value"], entry["standard_error"]) for entry in (own, known))
        rows.append([label(name), *(f"{value} {known['unit']}" for value in values), sigmas])
    return Table(["quantity", "this run", "reference", "standard errors apart"], rows, {1, 2, 3})


def seeds(results: Results) -> Table:
    """A row for each training, the own one first; empty if there is no other."""
    rows = []
    for k, one in enumerate(results["seeds"]):
        values = [
            f"{plus_minus(entry['value'], entry['standard_error'])} {entry['unit']}".rstrip()
            + ("" if entry["reliable"] else ", unreliable")
            for entry in one["estimates"].values()
        ]
        worth = f"{one['ess']:.0f} of {one['n']:,}, {100 * one['ess_fraction']:.1f} %"
        seed = _UNKNOWN if one["seed"] is None else str(one["seed"])
        rows.append(["this run" if k == 0 else f"other {k}", seed, worth, *values])
    names = [label(name) for name in results["seeds"][0]["estimates"]] if rows else []
    return Table(["training", "seed of the draws", "effective draws", *names], rows, {1})


def basins(results: Results) -> Table:
    """A row for each basin, and the sum of the others if not all are shown."""
    rows = []
    for one in results["basins"]:
        population, change = one["population"], one["free_energy"]
        limits = [f"{name} {low:.1f}° to {high:.1f}°" for name, (low, high) in one["limits"].items()]
        centre = [f"{name} {angle:.0f}°" for name, angle in one["centre"].items()]
        rows.append(
            [
                ", ".join(centre) or "all",
                ", ".join(limits) or "everywhere",
                plus_minus(population["value"], population["standard_error"]),
                "0" if change is None else plus_minus(change["value"], change["standard_error"]),
                f"{one['flow']:.3g}",
                "yes" if population["reliable"] else f"no: {population['why']}",
            ]
        )
    head = ["centre", "between", "population", "free energy (kT)", "share of the flow's draws", "reliable"]
    return Table(head, rows, {2, 3})


def geometry(results: Results) -> Table:
    """A row for each kind of bond, angle and contact."""
    rows = []
    for row in results["geometry"]:
        digits = 4 if row["unit"] == "nm" else 1
        mean, deviation, flow, low, high = (
            f"{row[key]:.{digits}f}" for key in ("mean", "deviation", "flow_mean", "smallest", "largest")
        )
        rows.append(
            [
                row["kind"],
                str(row["count"]),
                f"{mean} ± {deviation} {row['unit']}",
                flow,
                f"{low} to {high}",
                _odd(row["implausible"]),
            ]
        )
    head = ["kind", "number", "mean ± deviation", "mean of the flow", "smallest to largest", "odd"]
    return Table(head, rows, {0, 2, 3, 4, 5})


def extremes(results: Results) -> Table:
    """A row for each draw to look at."""
    rows = []
    for one in results["extremes"]:
        energy = f"{one['potential']:.1f} kJ/mol" if "potential" in one else f"{one['u']:.4g} kT"
        where = [f"{name} {angle:.0f}°" for name, angle in one.get("torsions", {}).items()]
        where += [f"{x:.4g}" for x in one.get("x", [])]
        share = "below 0.0001 %" if 0 < one["share"] < 1e-6 else f"{100 * one['share']:.3g} %"
        rows.append([one["why"], str(one["index"]), f"{one['log_w']:.2f}", share, energy, ", ".join(where)])
    head = ["why", "draw", "ln (w / mean w)", "share of the weight", "energy", "where"]
    return Table(head, rows, {1, 2, 3, 4})


def card(results: Results) -> Table:
    """How the run was made, line by line."""
    evaluations, seconds, made = results["evaluations"], results["seconds"], results["made"]
    unknown = "not recorded"
    lines = [
        ("system", results["system"] or unknown),
        *([("temperature", f"{results['temperature']:g} K")] if made["molecule"] else []),
        ("draws", f"{results['n']:,}, {made['failed']:,} of them without a finite energy"),
        ("effective draws", f"{results['ess']:.0f}, {100 * results['ess_fraction']:.1f} %"),
        ("seed of the draws", unknown if made["seed"] is None else str(made["seed"])),
        ("energy evaluations", unknown if evaluations["energy"] is None else f"{evaluations['energy']:,}"),
        ("and with gradient", unknown if evaluations["gradient"] is None else f"{evaluations['gradient']:,}"),
        ("wall-clock time", unknown if seconds is None else f"{seconds:.0f} s"),
        *((f"force: {name}", where) for name, _, where in (line.partition(": ") for line in made["forces"])),
        ("software of this report", _words(made["software"])),
        *((f"training: {key}", _words(value)) for key, value in results.get("provenance", {}).items()),
    ]
    return Table([], [[key, value] for key, value in lines], set())


def python_commands(results: Results) -> list[str]:
    """What draws the samples again in Python, if their seed is known."""
    seed = results["made"]["seed"]
    if seed is None:
        return []
    return [
        'generator = boltzgen.BoltzmannGenerator.load("the run folder, or the saved generator")',
        f"samples = generator.sample({results['n']}, seed={seed})",
        'boltzgen.write_report(samples, "report.html")',
    ]


def _odd(share: float) -> str:
    return "0" if share == 0 else "below 0.001 %" if share < 1e-5 else f"{100 * share:.2g} %"


def _form(error: float | None) -> str:
    """How a number with this error is written: the error with two digits."""
    if error is None or not 1e-9 < error < 1e9:
        return ".7g"
    return f".{max(0, 1 - math.floor(math.log10(error)))}f"


def _interval(limits: list[float | None], error: float | None) -> str:
    form = _form(error)
    low, high = (_UNKNOWN if limit is None else f"{limit:{form}}" for limit in limits)
    return f"{low} to {high}"


def _words(value: Any) -> str:
    """Plain data as people read them."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items() if item is not None)
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
