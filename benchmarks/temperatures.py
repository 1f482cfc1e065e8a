"""One flow for every temperature of a molecule, from its energy alone: what it is worth at each of them.

    OMP_NUM_THREADS=1 python benchmarks/temperatures.py butane --minutes 5
    OMP_NUM_THREADS=1 python benchmarks/temperatures.py alanine_dipeptide --minutes 10 --temperatures 300 600 1200

Writes benchmarks/results/SYSTEM_temperatures.json, leaves seeds alone that it holds, and prints a table: effective
share of fresh draws, unclipped, and log Z(T) beside what the draws of the temperature above say about it, as far as
these reach. Each temperature has noise of its own, so that the two are independent.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

from machine import about

import boltzgen as bg
from boltzgen.files import write_atomically
from boltzgen.generator import HOTTER
from boltzgen.reporting import default_estimates
from boltzgen.reweighting import at_temperature


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", help="name of a molecule that comes with boltzgen, or a folder with a system.toml")
    parser.add_argument("--minutes", type=float, help="of training")
    parser.add_argument("--steps", type=int, help="of training, instead of minutes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[300.0, 400.0, 600.0, 900.0, 1200.0])
    parser.add_argument("--flow", type=json.loads, default={}, help="arguments of molecular_flow as JSON")
    parser.add_argument("-n", type=int, default=50_000, help="draws of the evaluation at each temperature")
    parser.add_argument("--out", type=Path, help="(default: benchmarks/results/SYSTEM_temperatures.json)")
    options = parser.parse_args()
    out = options.out or Path(__file__).parent / "results" / f"{Path(options.system).name}_temperatures.json"
    record = json.loads(out.read_text()) if out.exists() else []
    for seed in options.seeds:
        if any(one["seed"] == seed for one in record):
            print(f"seed {seed}: in {out} already")
            continue
        record.append(row(seed, options))
        write_atomically(out, (json.dumps(record, indent=1) + "\n").encode())


def row(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    molecule = bg.Molecule.load(options.system)
    cold = molecule.default_temperature
    hot = HOTTER * cold
    coordinates = bg.InternalCoordinates(molecule)
    target = bg.Pullback(molecule.energy(cold), coordinates)
    scales = coordinates.harmonic_scales(hot)
    flow = bg.molecular_flow(coordinates.circular, *scales, temperature=hot, seed=seed, **options.flow)
    began = time.process_time()
    history = bg.anneal(flow, target, hot=hot, seed=seed, steps=options.steps, minutes=options.minutes)
    found: dict[str, Any] = {
        "seed": seed,
        "flow": options.flow,
        "steps": len(history.losses),
        "seconds": history.seconds,
        "processor_seconds": time.process_time() - began,
        "evaluations": history.evaluations,
        "training_samples": history.training_samples,
        "rounds": [[round(r.temperature), round(r.ess, 3)] for r in history.rounds[::10]],
        "temperatures": [],
        **about("openmm"),
    }
    spent = f"{history.seconds:.0f} s ({found['processor_seconds']:.0f} s of processor time)"
    print(f"seed {seed}: {found['steps']} steps, {sum(history.evaluations.values()):.3g} evaluations, {spent}")
    above = None
    for temperature in sorted(options.temperatures, reverse=True):
        samples = bg.draw(flow.at(temperature), target.at(temperature), options.n, seed=1000 * int(temperature) + seed)
        log_z = bg.log_partition(samples.log_w)
        one: dict[str, Any] = {
            "temperature": temperature,
            "ess_fraction": bg.effective_sample_size(samples.log_w) / len(samples),
            "pareto_k": bg.pareto_k(samples.log_w),
            "log_z": [log_z.value, log_z.standard_error],
        }
        print(f"{temperature:6.0f} K  ESS {100 * one['ess_fraction']:5.1f} %  k {one['pareto_k']:5.2f}", end="")
        print(f"  log Z {log_z.value:.4f} ± {log_z.standard_error:.4f}", end="")
        if above is not None:
            there = bg.log_partition(at_temperature(above.log_w, above.potential, above.temperature, temperature))
            error = math.hypot(log_z.standard_error, there.standard_error)
            one["log_z_from_above"] = [there.value, there.standard_error, there.ess / len(samples)]
            print(f"  less that from above {log_z.value - there.value:+.4f} ± {error:.4f}", end="")
            print(f" (ESS {100 * there.ess / len(samples):.1f} %)", end="")
        print(flush=True)
        one["estimates"] = {
            name: {"value": e.value, "standard_error": e.standard_error, "unit": unit}
            for name, (e, unit) in default_estimates(samples).items()
        }
        above = samples
        found["temperatures"].append(one)
    return found


if __name__ == "__main__":
    main()
