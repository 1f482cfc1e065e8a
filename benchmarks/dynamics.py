"""Molecular dynamics: how much of it a core does in an hour, and whether batched and OpenMM's own agree.

    OMP_NUM_THREADS=1 python benchmarks/dynamics.py --minutes 20

Alanine dipeptide at 300 K. All atoms weigh 12 Da, which does not enter the distribution, so that a step of 2 fs is
safe. Populations are those of alpha_R (phi < 0, psi in (-120, 60) degrees) among the frames at phi < 0; the error is
that between walkers. phi > 0 is not entered in such a time: replica exchange, the flow, or both are for that.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from pathlib import Path

import torch

import boltzgen as bg
from boltzgen.sampling import replica_exchange
from boltzgen.units import kT

STEP, FRICTION, MASS = 2e-3, 2.0, 12.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="for the populations by each engine")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "dynamics.json")
    options = parser.parse_args()
    molecule = bg.Molecule.load("alanine_dipeptide")
    start = torch.tensor(molecule.minimized().positions, dtype=torch.float32)
    masses = MASS / kT(300.0)
    settings = {"step_size": STEP, "friction": FRICTION, "seed": 1}

    compiled = molecule.energy(300.0, backend="torch")
    compiled._energy = torch.compile(compiled._energy, dynamic=False)
    by_openmm = {name: bg.OpenMMEnergy(molecule.system, 300.0, platform=name) for name in ("Reference", "CPU")}

    def torch_steps(n: int) -> None:
        bg.simulate(compiled, start, masses, walkers=1024, steps=n, thin=n, **settings)

    def openmm_steps(name: str, n: int) -> None:
        bg.simulate(by_openmm[name], start, masses, walkers=1, steps=n, thin=n, engine="openmm", **settings)

    def exchange(n: int) -> None:
        replica_exchange(
            compiled, start, masses, [300.0, 395.0, 520.0, 684.0, 900.0],
            walkers=64, rounds=n, steps=40, step_size=2.8e-3, seed=1,
        )  # fmt: skip

    ways = {
        "batched Langevin dynamics, 1024 walkers, compiled": (torch_steps, 20, 100, 1024 * STEP),
        "OpenMM, Reference platform, one walker": (lambda n: openmm_steps("Reference", n), 200, 2000, STEP),
        "OpenMM, CPU platform, one walker, one thread": (lambda n: openmm_steps("CPU", n), 200, 2000, STEP),
        "batched replica exchange, 64 x 5, compiled": (exchange, 1, 4, 64 * 5 * 40 * 2.8e-3),
    }
    speed = {}
    for name, (run, few, many, each) in ways.items():
        run(few)
        rates = []
        for _ in range(3):
            seconds = []
            for n in (few, many):
                begin = time.perf_counter()
                run(n)
                seconds.append(time.perf_counter() - begin)
            rates.append(
                (many - few) * each / (seconds[1] - seconds[0])
            )  # ps of all walkers a second, without the start
        speed[name] = {"ns_per_hour": 3.6 * statistics.median(rates), "runs": [3.6 * r for r in rates]}
        print(f"{name:<55} {speed[name]['ns_per_hour']:8.1f} ns an hour", flush=True)

    populations = {}
    for name, energy, walkers, engine in (
        ("torch", compiled, 1024, "torch"),
        ("openmm", by_openmm["CPU"], 8, "openmm"),
    ):
        begin, state, shares, steps = time.monotonic(), None, [], 0
        chunk = 500 if engine == "torch" else 20_000
        while (elapsed := time.monotonic() - begin) < 60 * options.minutes:
            run = bg.simulate(
                energy,
                start,
                masses,
                walkers=walkers,
                steps=chunk,
                thin=chunk // 10,
                engine=engine,
                resume=state,
                **settings,
            )
            state, steps = run.state, steps + chunk
            if elapsed < 6 * options.minutes:  # a tenth to equilibrate
                continue
            samples = run.samples(molecule)
            phi, psi = samples.torsion("phi").view(-1, walkers), samples.torsion("psi").view(-1, walkers)
            inside = (phi < 0) & ((psi + math.pi / 6).abs() < math.pi / 2)
            shares.append((inside.double().sum(0), (phi < 0).double().sum(0)))
        top, bottom = (torch.stack(column).sum(0) for column in zip(*shares, strict=True))
        share = float(top.sum() / bottom.sum())
        error = float((top - share * bottom).std() / bottom.mean() / math.sqrt(walkers))
        populations[name] = {
            "alpha_R": share,
            "standard_error": error,
            "walkers": walkers,
            "ns": walkers * steps * STEP / 1000,
        }
        print(
            f"{name}: alpha_R {share:.4f} ± {error:.4f} of phi < 0, {populations[name]['ns']:.1f} ns in all", flush=True
        )
    record = {
        "speed": speed,
        "populations": populations,
        "minutes": options.minutes,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
