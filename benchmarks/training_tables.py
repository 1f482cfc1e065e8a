"""The tables of trainings: what they cost, what their draws are worth, and what others published of the same target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from growth import FIGURE, curves, exponent
from tabular import HERE, percent, pm, record, table

TRAININGS = [  # record, molecule, what is special about it
    ("alanine_dipeptide", "alanine dipeptide A", "the default, rounds of a very heavy draw forgotten"),
    ("alanine_dipeptide_45min", "alanine dipeptide A", "the default, each torsion a coupling"),
    (
        "alanine_dipeptide_45min_one_round",
        "alanine dipeptide A",
        "one round for the torsions' law; comes with boltzgen",
    ),
    ("alanine_dipeptide_as_a_whole", "alanine dipeptide A", "as a whole, forces and weights by turns"),
    ("alanine_dipeptide_60min", "alanine dipeptide A", "the default, each torsion a coupling, compiled"),
    (
        "alanine_dipeptide_60min_one_layer",
        "alanine dipeptide A",
        "the default, noise of the score left out throughout, compiled",
    ),
    ("alanine_dipeptide_60min_seed_2", "alanine dipeptide A", "the default, compiled"),
    ("alanine_dipeptide_60min_no_decay", "alanine dipeptide A", "the default, compiled, without weight decay"),
    ("alanine_dipeptide_60min_6x128", "alanine dipeptide A", "as a whole, by turns, 6 × (128, 128)"),
    ("alanine_dipeptide_60min_6x128_floors", "alanine dipeptide A", "one round, floors, 6 × (128, 128)"),
    ("alanine_dipeptide_60min_6x128_memory", "alanine dipeptide A", "the default, 6 × (128, 128)"),
    ("alanine_dipeptide_forward_kl", "alanine dipeptide A", "forward KL on frames of replica exchange alone"),
    ("alanine_dipeptide_b", "alanine dipeptide B", "the default"),
    ("alanine_dipeptide_b_35min", "alanine dipeptide B", "the default, each torsion a coupling, eager"),
    ("alanine_tetrapeptide", "alanine tetrapeptide", "the default"),
    ("alanine_tetrapeptide_115min", "alanine tetrapeptide", "the default, compiled"),
    ("alanine_tetrapeptide_75min", "alanine tetrapeptide", "as a whole, forces and weights by turns"),
    ("alanine_hexapeptide", "alanine hexapeptide", "the default"),
    ("butane", "butane", "as a whole, forces and weights by turns"),
]
A, B = "alanine dipeptide A", "alanine dipeptide B"
TETRA, HEXA = "alanine tetrapeptide", "alanine hexapeptide"
NOW = ("the default", "forward")
"""how those begin that are put beside the published of A."""
PUBLISHED = [  # molecule, method, evaluations, EUBO − log Z, ESS %, energy-W2, torus-W2
    (A, "forward KL on simulation data", 5e9, 0.09, 82.14, None, None),
    (A, "reverse KL (collapses)", 2.56e8, None, 94.13, None, None),
    (A, "FAB", 2.13e8, 0.03, 94.80, None, None),
    (A, "TA-BG", 1e8, 0.022, 95.76, None, None),
    (A, "CMT", 1e8, 0.012, 97.69, None, None),
    (B, "ECNF++, from simulation data", None, None, 27.5, None, None),
    (B, "FALCON, from simulation data", None, None, None, 0.225, None),
    (B, "best of the Cartesian methods, from simulation data", None, None, None, None, 0.18),
    (TETRA, "FAB", None, None, 63.6, None, None),
    (TETRA, "TA-BG", 1e8, None, 65.8, None, None),
    (TETRA, "CMT", 1e8, None, 68.6, None, None),
    (HEXA, "FAB", None, None, 14.6, None, None),
    (HEXA, "TA-BG", 4e8, None, 18.2, None, None),
    (HEXA, "CMT", 4e8, None, 29.6, None, None),
]


def rows_of_records() -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Molecule, what is special, the record, and each of its rows."""
    for name, molecule, special in TRAININGS:
        found = record(name)
        for seed in found["seeds"] if found else ():
            yield molecule, special, found, seed


def evaluations_of(seed: dict[str, Any]) -> int:
    return sum(seed["training_evaluations"].values())


def trainings() -> str:
    rows: list[Sequence[object]] = []
    for molecule, special, _, seed in rows_of_records():
        estimates = seed["estimates"]
        rows.append(
            [
                molecule, special, seed["seed"],
                f"{seed['seconds'] / 60:.0f}", f"{evaluations_of(seed):.2g}", f"{seed['training_samples']:.2g}",
                percent(seed["ess_fraction"]), percent(seed["ess_fraction_clipped"]), f"{seed['pareto_k']:.2f}",
                pm(estimates.get("mean_potential_energy")), pm(estimates.get("free_energy_difference_phi")),
            ]
        )  # fmt: skip
    head = ["molecule", "training", "seed", "minutes", "evaluations", "training samples", "ESS %", "clipped %", "k",
            "⟨U⟩, kJ/mol", "F(φ > 0) − F(φ < 0), kT"]  # fmt: skip
    return (
        "## Training on the energy alone\n\n`benchmarks/training.py`, and `benchmarks/forward_kl.py` for the row from "
        "frames alone; its evaluations are\nthose of the replica exchange. All evaluations are counted, with gradient "
        f"or without; one core.\n\n{table(head, rows)}"
    )


def beside_frames() -> str:
    rows: list[Sequence[object]] = []
    for molecule, special, found, seed in rows_of_records():
        if "maps" not in seed.get("evidence", {}):
            continue
        e, maps = seed["evidence"], seed["evidence"]["maps"]
        errors = e["free_energy_error"].values()
        worst = max(errors, key=lambda one: abs(one["value"]) / one["standard_error"], default=None)
        distances = [three(e[name], "{:.3f}") for name in ("energy_w2", "torus_w2")]
        rows.append(
            [
                molecule, special, minutes(found, seed), seed["seed"], pm(e["eubo_gap"]), pm(worst),
                three({key[11:]: value for key, value in maps.items() if key.startswith("divergence")}, "{:.4f}"),
                three({key[10:]: value for key, value in maps.items() if key.startswith("variation")}, "{:.4f}"),
                *distances, f"{maps['n']:.2g}, {e['torus_w2']['n']:.2g}", e["verdict"],
            ]
        )  # fmt: skip
    if not rows:
        return ""
    head = ["molecule", "training", "minutes", "seed", "EUBO − log Z", "error of ΔF(φ), kT", "KL of the (φ, ψ) maps",
            "total variation", "energy-W2, kT", "torus-W2", "draws of maps and distances", "verdict"]  # fmt: skip
    return (
        "## The same beside frames of the target\n\n"
        "`benchmarks/evaluate.py`, with frames of `benchmarks/reference_frames.py`; what is what says\n"
        "`benchmarks/evidence.py`. Of maps and distances: of the draws as they are, reweighted, and in brackets the\n"
        "noise, other frames of the target in the place of the draws; energies count up to 1e6 kT. The error of ΔF\n"
        "of several φ is the worst.\n\n" + table(head, rows)
    )


def minutes(found: dict[str, Any], seed: dict[str, Any]) -> str:
    return f"{found.get('minutes') or seed['seconds'] / 60:.0f}"


def three(values: dict[str, float], form: str) -> str:
    raw, reweighted, noise = (form.format(values[name]) for name in ("raw", "reweighted", "noise"))
    return f"{raw}, {reweighted} ({noise})"


def beside_the_published() -> str:
    rows: list[Sequence[object]] = []
    for molecule in (A, B, TETRA, HEXA):
        for name, method, evaluations, gap, ess, energy_w2, torus_w2 in PUBLISHED:
            if name == molecule:
                cells = [number(evaluations, "{:.3g}"), number(gap, "{:.3g}"), number(ess, "{:.1f}")]
                distances = [number(energy_w2, "{:.3g}"), number(torus_w2, "{:.3g}")]
                rows.append([molecule, f"published: {method}", *cells[:2], "", cells[2], *distances])
        for name, special, found, seed in rows_of_records():
            if name == molecule and (name != A or special.startswith(NOW)):
                e = seed.get("evidence")
                rows.append(
                    [
                        molecule, f"{special}, {minutes(found, seed)} min, seed {seed['seed']}",
                        f"{evaluations_of(seed):.2g}", f"{e['eubo_gap']['value']:.3f}" if e else "",
                        percent(seed["ess_fraction"]), percent(seed["ess_fraction_clipped"]),
                        *(f"{e[k]['reweighted']:.3f} ({e[k]['noise']:.3f})" if e and k in e else ""
                          for k in ("energy_w2", "torus_w2")),
                    ]
                )  # fmt: skip
    head = ["molecule", "method", "evaluations", "EUBO − log Z", "ESS %", "clipped %", "energy-W2", "torus-W2"]
    return (
        "## Beside what was published of the same definition\n\n"
        "Definition A is AMBER ff96 with OBC1, B ff99SB-ILDN with OBC, both at 300 K. Published shares, but for\n"
        "those of B, are of 1e7 draws with the largest 1e-4 of the weights clipped, of flows trained on GPUs. Ours\n"
        "took one core; distances are of resampled draws, in brackets their noise.\n\n" + table(head, rows)
    )


def number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def temperatures() -> str:
    rows: list[Sequence[object]] = []
    for molecule in ("butane", "alanine_dipeptide"):
        for seed in record(f"{molecule}_temperatures") or ():
            for one in seed["temperatures"]:
                value, error = one["log_z"]
                above, above_error, _ = one.get("log_z_from_above", (None, None, None))
                beside = "" if above is None else f"{value - above:+.4f} ± {math.hypot(error, above_error):.4f}"
                rows.append(
                    [
                        molecule.replace("_", " "), seed["seed"], f"{sum(seed['evaluations'].values()):.2g}",
                        f"{one['temperature']:.0f}", percent(one["ess_fraction"]), f"{one['pareto_k']:.2f}", beside,
                    ]
                )  # fmt: skip
    if not rows:
        return ""
    head = ["molecule", "seed", "evaluations", "T, K", "ESS %", "k", "log Z less that from the temperature above"]
    return (
        "## One flow for every temperature\n\n`benchmarks/temperatures.py`: one training for all rows of a seed, draws "
        f"of each temperature with noise of their own.\n\n{table(head, rows)}"
    )


def ablations() -> str:
    found = record("ablations")
    if not found or "default" not in found:
        return ""
    equally = found["default"]["curve"][-1]["evaluations"]
    rows: list[Sequence[object]] = []
    for one in found.values():
        last, equal = one["curve"][-1], at_evaluations(one["curve"], equally)
        rows.append(
            [
                one["about"], f"{one['parameters']:.2g}", percent(last["ess_fraction"]),
                percent(last["ess_fraction_clipped"]), f"{last['evaluations']:.2g}", percent(equal[0]),
                percent(equal[1]), f"{one['pareto_k']:.2f}",
                "{:.2f} ± {:.2f}".format(*one["free_energy_difference_phi"]),
            ]
        )  # fmt: skip
    span = " or ".join(f"{m:g}" for m in sorted({one["minutes"] for one in found.values()}))
    head = ["variant", "parameters", "ESS %, equal time", "clipped %", "evaluations", "ESS %, equal evaluations",
            "clipped %", "k", "F(φ > 0) − F(φ < 0), kT"]  # fmt: skip
    return (
        "## What each choice of the default is worth\n\n"
        f"`benchmarks/ablations.py`: alanine dipeptide A, one seed, {span} minutes on one core, eager, when\n"
        "each torsion was a coupling and flows were forced down from 0.4 of the budget on. Equal\n"
        f"evaluations are the {equally:.2g} of the default: of a variant that made more, what its running average\n"
        "was worth by then, between marks by linear interpolation, while it may still be hot and its learning rate\n"
        "high; of one that made fewer, what it has at its end. One seed tells no rows apart that differ by few per\n"
        "cent.\n\n" + table(head, rows)
    )


def at_evaluations(curve: Sequence[dict[str, float]], n: int) -> list[float]:
    """Effective share, unclipped and clipped, after n evaluations, between two marks; of the last mark beyond it."""
    until = [one["evaluations"] for one in curve]
    return [float(np.interp(n, until, [one[k] for one in curve])) for k in ("ess_fraction", "ess_fraction_clipped")]


def growth() -> str:
    found = curves(TRAININGS)
    if not found or not FIGURE.exists():
        return ""
    rows = [
        [one.molecule, one.special, one.seed, f"{one.evaluations[-1]:.2g}", percent(one.ess[-1]), fitted]
        for one in found
        if (fitted := exponent(one)) is not None
    ]
    return (
        "## How the effective share grows with evaluations\n\n"
        f"![ESS against evaluations]({FIGURE.relative_to(HERE).as_posix()})\n\n"
        "Of the rounds at the target's temperature: the relative variance of the weights, 1/ESS − 1, of each round's\n"
        "own draws while the flow learns, and at the end that of fresh draws of the running average. It falls like\n"
        "evaluations to the power −k over the last nine tenths of them, by least squares; the learning rate\n"
        "falls meanwhile, so that another budget has another curve.\n\n"
        + table(["molecule", "training", "seed", "evaluations", "ESS %", "k"], rows)
    )
