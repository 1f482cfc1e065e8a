"""The records in benchmarks/results as tables: writes benchmarks/RESULTS.md.

    python benchmarks/tables.py

Every number comes from a record, except those of other programs that a paper published. A record names what it was
measured on; the script that makes it, how.
"""

from __future__ import annotations

from growth import draw
from tabular import HERE, percent, record, table
from training_tables import (
    TRAININGS,
    ablations,
    beside_frames,
    beside_the_published,
    growth,
    temperatures,
    trainings,
)

INTRODUCTION = """# What was measured

Made by `python benchmarks/tables.py` from the records in [results](results); each names the machine, and the script in
this folder that made it says how: [one command for each row](README.md). What was tried on the way is in the
[notebook](NOTEBOOK.md).
"""
AIMS = {"normflows": (2.5, 4), "zuko": (4, 7)}  # times as fast, eager and compiled


def main() -> None:
    draw(TRAININGS)
    (HERE / "RESULTS.md").write_text(page(), encoding="utf-8")


def page() -> str:
    return "\n".join([INTRODUCTION, *(text for section in SECTIONS if (text := section()))])


def force_field() -> str:
    found = record("force_field_speed")
    if not found:
        return ""
    rows = (
        [row["form"], row["method"], f"{row['median']:.1f}", f"{row['times_the_fastest_openmm']:.1f}"]
        for row in found["rows"]
    )
    return (
        "## Energy and gradient of alanine dipeptide\n\n"
        f"`benchmarks/force_field_speed.py`: one thread, {found['batch']} frames a call.\n\n"
        + table(["force field", "method", "µs per frame", "times OpenMM's fastest loop"], rows)
    )


def sizes() -> str:
    found = record("force_field_sizes")
    if not found:
        return ""
    atoms = sorted({row["atoms"] for row in found["rows"]})
    methods = list(dict.fromkeys(row["method"] for row in found["rows"]))
    cells = {(row["method"], row["atoms"]): row for row in found["rows"]}

    def cell(method: str, n: int) -> str:
        row = cells.get((method, n))
        if row is None:
            return ""
        text = (
            f"{row['median']:.1f} ({row['ratio']:.1f})"
            if row["median"] < 100
            else f"{row['median']:.0f} ({row['ratio']:.1f})"
        )
        return text + (f", {row['times_one_thread']:.2f}" if "times_one_thread" in row else "")

    def memory(precision: str) -> str:
        rows = ((n, cells.get((f"torch eager, 64, {precision}, 1 thread", n))) for n in atoms)
        return ", ".join(f"{n}: {row['bytes_at_height'] / 1e3:.0f}" for n, row in rows if row)

    growth = ([method, ", ".join(f"{k:.2f}" for k in found["growth"].get(method, []))] for method in methods)
    return (
        "## Energy and gradient against the size of the molecule\n\n"
        "`benchmarks/force_field_sizes.py`: Ace-(Ala)n-Nme in ff14SB with OBC2, all pairs; µs per frame, in brackets\n"
        "how many times as fast as OpenMM's fastest loop of one thread, and after a comma how many times as fast as\n"
        "one thread of the same; above 2 it is noise: something else took one thread's time.\n"
        f"Taken by an energy and its gradient at their height, kB a frame, by atoms: in\n"
        f"float32 {memory('float32')}; in float64 {memory('float64')}.\n\n"
        + table(["method, frames a call", *(f"{n} atoms" for n in atoms)],
                ([method, *(cell(method, n) for n in atoms)] for method in methods))
        + "\nHow the time grows: k of atoms^k from each of these sizes to the next.\n\n"
        + table(["method, frames a call", "k"], growth)
    )  # fmt: skip


def dynamics() -> str:
    found = record("dynamics")
    if not found:
        return ""
    head, rows = ["simulation", "ns an hour, one core"], []
    every = any("ns_per_hour_all_cores" in row for row in found["speed"].values())
    for way, row in found["speed"].items():
        cells = [way, f"{row['ns_per_hour']:.0f}"]
        rows.append([*cells, f"{row['ns_per_hour_all_cores']:.0f}"] if every else cells)
    text = "## Simulations of alanine dipeptide\n\n`benchmarks/dynamics.py`\n\n"
    text += table([*head, "all cores"] if every else head, rows)
    if "standard_errors_from_openmm" in found:
        engines = found["populations"].items()
        shares = ", ".join(f"{engine} {one['alpha_R']:.4f} ± {one['standard_error']:.4f}" for engine, one in engines)
        off = ", ".join(f"{engine} {sigma:.1f}" for engine, sigma in found["standard_errors_from_openmm"].items())
        text += (
            f"\nShare of alpha_R among the frames at phi < 0: {shares}. Standard errors from OpenMM: {off}. The\n"
            "basin at phi > 0 is not entered by plain dynamics in such a time, by neither engine.\n"
        )
    return text


def coordinates() -> str:
    found = record("coordinates")
    if not found:
        return ""
    compared = [row for row in found["rows"] if row.get("energy")]
    rows = (
        [
            row["atoms"],
            row["kind"],
            f"{row['coordinates']:.1f}",
            f"{row['energy']:.1f}",
            f"{row['share_of_energy']:.2f}",
        ]
        for row in compared
    )
    eager, *compiled = (
        f"{row['share_of_energy']:.2f} at {row['atoms']} atoms"
        for kind in ("eager", "compiled")
        for row in compared
        if row["kind"] == kind and (kind == "compiled" or row["atoms"] == 22)
    )
    reading = (
        "The aim was at most a third of the compiled energy's time for alanine dipeptide, of 22 atoms. With both eager "
        f"it\nis {eager}; with both under torch.compile {', '.join(compiled)}.\n"
    )
    head = ["atoms", "kind", "µs per frame", "energy, µs", "share of the energy"]
    title = "## Internal to Cartesian coordinates, with gradient\n\n`benchmarks/coordinates.py`\n\n"
    return title + table(head, rows) + "\n" + reading


def toys() -> str:
    found = record("toys")
    if not found:
        return ""
    rows = []
    for name, seeds in found.items():
        for seed in seeds:
            change = seed.get("free_energy_error")
            rows.append(
                [
                    name, seed["seed"], seed["minutes"], f"{sum(seed['evaluations'].values()):.2g}",
                    f"{100 * seed['ess_fraction']:.2f}", f"{seed['pareto_k']:.2f}",
                    f"{seed['log_z_error']:+.4f} ± {seed['log_z'][1]:.4f}" if "log_z_error" in seed else "",
                    "" if change is None else f"{change[0]:+.4f} ± {change[1]:.4f}",
                    f"{seed['forward_kl'][0]:.4f} ± {seed['forward_kl'][1]:.4f}" if "forward_kl" in seed else "",
                    seed.get("modes", ""),
                ]
            )  # fmt: skip
    return "## Targets with exact answers\n\n`benchmarks/toys.py`\n\n" + table(
        [
            "target",
            "seed",
            "minutes",
            "evaluations",
            "ESS %",
            "k",
            "error of log Z",
            "error of ΔF",
            "KL(p ‖ q)",
            "modes",
        ],
        rows,
    )


def particles() -> str:
    rows = [
        [
            name.replace("_", " "), seed["seed"], f"{seed['evaluations']:.2g}", f"{seed['training_samples']:.2g}",
            seed["draws"], f"{(seed['seconds'] + seed['seconds_of_frames']) / 60:.0f}", percent(seed["ess_fraction"]),
            percent(seed["ess_fraction_clipped"]), f"{seed['pareto_k']:.2f}", f"{seed['eubo_gap']:.2f}",
            *(f"{value:.2f} ± {error:.2f}" for value, error in (seed["mean_energy"], seed["mean_energy_of_frames"])),
        ]
        for name, seeds in (record("particles") or {}).items()
        for seed in seeds
    ]  # fmt: skip
    if not rows:
        return ""
    heading = "## Thirteen Lennard-Jones particles\n\n`benchmarks/particles.py`, from frames of replica exchange\n\n"
    return heading + table(
        ["target", "seed", "evaluations", "training samples", "draws", "minutes", "ESS %", "clipped", "k", "EUBO gap",
         "⟨u⟩", "⟨u⟩ of the frames"],
        rows,
    )  # fmt: skip


def calibration() -> str:
    found = record("calibration")
    if not found:
        return ""
    names = list(dict.fromkeys(name for row in found["rows"] for name in row["coverage"]))
    rows = (
        [
            row["target"].replace("_", " "),
            percent(row["effective_share"]),
            *(percent(row["coverage"][n]) if n in row["coverage"] else "" for n in names),
        ]
        for row in found["rows"]
    )
    return (
        "## Coverage of 95 % intervals\n\n"
        f"`benchmarks/calibration.py`: {found['replicas']} replicas of {found['n']} draws; %.\n\n"
        + table(["target", "ESS %", *names], rows)
    )


def refinement() -> str:
    found = record("refinement")
    if not found:
        return ""
    rows = (
        [
            row["method"],
            *(
                f"{row[name]['times_smaller_error']:.2f} ({row[name]['sigmas_off']:+.1f} σ)" if name in row else ""
                for name in found["exact"]
            ),
        ]
        for row in found["methods"]
    )
    return (
        "## Refinement of a poor flow\n\n"
        f"`benchmarks/refinement.py`: many well, {found['evaluations']} evaluations each; how many times smaller\n"
        "the error bar is than that of plain reweighting, and how far the value is from the exact one.\n\n"
        + table(["method", *found["exact"]], rows)
    )


def flows() -> str:
    found = record("flows")
    if not found:
        return ""
    mine, floor = (found["rows"][name]["microseconds"] for name in ("boltzgen", "matrix products alone"))
    compiled = found["rows"].get("boltzgen, compiled", {}).get("microseconds", {})
    rows = []
    for name, row in found["rows"].items():
        aims = next((aims for other, aims in AIMS.items() if name.startswith(other)), None)
        for task, time in row["microseconds"].items():
            ratios = [time["median"] / ours[task]["median"] if ours else None for ours in (mine, compiled)]
            cells = [against(*pair) for pair in zip(ratios, aims, strict=True)] if aims else ["", ""]
            limit = f"{time['median'] / floor[task]['median']:.1f}"
            kept = row.get("kilobytes_kept_per_sample") if task == "draw with gradient" else None
            rows.append([name, task, f"{time['median']:.0f}", *cells, limit, f"{kept:.0f}" if kept else ""])
    aims = ", ".join(f"{eager} and {fast} times as fast as {name}" for name, (eager, fast) in AIMS.items())
    return (
        "## Spline couplings against other libraries\n\n"
        f"`benchmarks/flows.py`: {found['dimensions']} dimensions, {found['circular']} circular, "
        f"{found['couplings']} couplings,\n"
        f"batch {found['batch']}, one thread. The aim, eager and compiled: {aims}.\n"
        "Times the matrix products of boltzgen's networks alone is the most that a flow with these can ever reach.\n"
        "Memory is what autograd keeps of a draw until its gradient is taken.\n\n"
        + table(
            [
                "library",
                "task",
                "µs per sample",
                "times boltzgen",
                "times it compiled",
                "times products alone",
                "kB kept",
            ],
            rows,
        )
    )


def against(ratio: float | None, aim: float) -> str:
    """A ratio beside what it was to be."""
    return "" if ratio is None else f"{ratio:.2f}, {'hit' if ratio >= aim else 'miss'} ({aim})"


def cost() -> str:
    found = record("cost")
    if not found:
        return ""
    parts = list(found["rows"][0]["microseconds"])
    rows = ([row["atoms"], *(f"{row['microseconds'][part]:.0f}" for part in parts)] for row in found["rows"])
    return (
        "## Where the time of a training goes\n\n"
        f"`benchmarks/cost.py`: the default flow, batch {found['batch']}, one thread, not compiled; seconds a million\n"
        "training samples.\n\n" + table(["atoms", *parts], rows)
    )


def parallel() -> str:
    found = record("parallel")
    if not found:
        return ""
    tasks = {
        "forward": "forward KL, 1024 rows",
        "reverse": "reverse KL, 512 rows",
        "forward_large": "forward KL, 8192 rows",
        "reverse_large": "reverse KL, 4096 rows",
        "anneal": "annealing",
        "draw": "draws",
    }
    rows = ([row["name"], *(f"{row['ratio'][task]:.2f}" for task in tasks)] for row in found["rows"])
    return (
        "## Several processes\n\n`benchmarks/parallel.py`: times as fast as one process, not compiled. Those apart do\n"
        "their share each and never wait; of annealings each does one of its own.\n\n"
        + table(["", *tasks.values()], rows)
    )


SECTIONS = (
    trainings, beside_frames, beside_the_published, temperatures, ablations, growth, toys, particles, force_field,
    sizes, dynamics, coordinates, flows, cost, parallel, calibration, refinement,
)  # fmt: skip

if __name__ == "__main__":
    main()
