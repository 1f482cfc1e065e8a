"""Molecular dynamics: how much of it one core and all cores do in an hour, and whether all ways of doing it agree.

    OMP_NUM_THREADS=1 python benchmarks/dynamics.py --minutes 12

Alanine dipeptide at 300 K. All atoms weigh 12 Da, which does not enter the distribution, so that a step of 2 fs is
safe. Speeds are those of one process on a core of its own, and the sum of as many at once as there are cores.
Populations are those of alpha_R (phi < 0, psi in (-120, 60) degrees) among the frames at phi < 0; the error is that
between walkers. phi > 0 is not entered by plain dynamics in such a time: see alanine_dipeptide_reference.py.
Speeds need an idle machine, populations do not: `--parts` measures one of them, and leaves the other in the record.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import about

import boltzgen as bg
from boltzgen.processes import processors
from boltzgen.sampling import replica_exchange
from boltzgen.units import kT

STEP, FRICTION, MASS = 2e-3, 2.0, 12.0
WALKERS, COPIES, LADDER, TRAJECTORY, EXCHANGE_STEP = 1024, 64, [300.0, 395.0, 520.0, 684.0, 900.0], 40, 2.8e-3
WAYS = {  # few and many steps or rounds, and the picoseconds of all walkers in one of them
    "batched Langevin dynamics, 1024 walkers, compiled": (20, 100, WALKERS * STEP),
    "OpenMM, Reference platform, one walker": (200, 2000, STEP),
    "OpenMM, CPU platform, one walker, one thread": (200, 2000, STEP),
    "batched replica exchange, 64 x 5, compiled": (1, 4, COPIES * len(LADDER) * TRAJECTORY * EXCHANGE_STEP),
}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--minutes", type=float, default=12.0, help="for the populations by each engine")
parser.add_argument("--turns", type=int, default=3)
parser.add_argument("--parts", nargs="+", choices=["speed", "populations"], default=["speed", "populations"])
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "dynamics.json")
parser.add_argument("--way", help=argparse.SUPPRESS)
parser.add_argument("--core", type=int, help=argparse.SUPPRESS)


class Simulations:
    """Every way of simulating the molecule."""

    def __init__(self) -> None:
        self.molecule = bg.Molecule.load("alanine_dipeptide")
        self.start = torch.tensor(self.molecule.minimized().positions, dtype=torch.float32)
        self.compiled = self.molecule.energy(300.0, backend="torch")
        self.compiled._energy = torch.compile(self.compiled._energy, dynamic=False)

    def langevin(self, n: int, energy: Any = None, walkers: int = WALKERS, **options: Any) -> Any:
        return bg.simulate(
            energy or self.compiled, self.start, MASS / kT(300.0), walkers=walkers, steps=n,
            step_size=STEP, friction=FRICTION, seed=1, **{"thin": n} | options,
        )  # fmt: skip

    def openmm(self, n: int, platform: str, walkers: int = 1, **options: Any) -> Any:
        energy = bg.OpenMMEnergy(self.molecule.system, 300.0, platform=platform)
        return self.langevin(n, energy, walkers, engine="openmm", **options)

    def exchange(self, n: int, **options: Any) -> Any:
        return replica_exchange(
            self.compiled, self.start, MASS / kT(300.0), LADDER,
            walkers=COPIES, rounds=n, steps=TRAJECTORY, step_size=EXCHANGE_STEP, seed=1, **options,
        )  # fmt: skip

    def run(self, way: str) -> Callable[[int], Any]:
        if way.startswith("OpenMM"):
            return lambda n: self.openmm(n, "CPU" if "CPU" in way else "Reference")
        return self.exchange if "exchange" in way else self.langevin


def rates(way: str, turns: int) -> list[float]:
    """ns an hour, turn by turn, the start of a run left out."""
    run, (few, many, each) = Simulations().run(way), WAYS[way]
    run(few)
    found = []
    for _ in range(turns):
        seconds = []
        for n in (few, many):
            begin = time.perf_counter()
            run(n)
            seconds.append(time.perf_counter() - begin)
        found.append(3.6 * (many - few) * each / (seconds[1] - seconds[0]))
    return found


def at_once(way: str, processes: int, turns: int) -> float:
    """ns an hour of so many processes together, each with a thread and a core of its own."""
    command = [sys.executable, __file__, "--way", way, "--turns", str(turns), "--core"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([*command, str(core)], stdout=subprocess.PIPE, text=True, env=environment)
        for core in range(processes)
    ]
    return sum(statistics.median(json.loads(process.communicate()[0])) for process in started)


def population(name: str, simulations: Simulations, minutes: float) -> dict[str, float]:
    """Share of alpha_R among the frames at phi < 0, of a run of so many minutes."""
    run, walkers, chunk, each = {
        "torch": (lambda **o: simulations.langevin(500, thin=50, **o), WALKERS, 500, STEP),
        "openmm": (lambda **o: simulations.openmm(20_000, "CPU", 8, thin=2000, **o), 8, 20_000, STEP),
        "replica exchange": (
            lambda **o: simulations.exchange(20, **o), COPIES, 20, len(LADDER) * TRAJECTORY * EXCHANGE_STEP
        ),
    }[name]  # fmt: skip
    begin, shares, done = time.monotonic(), [], 0
    state = simulations.exchange(20, equilibration=100).state if name == "replica exchange" else None
    while not shares or time.monotonic() - begin < 60 * minutes:
        found = run(resume=state)
        state, done = found.state, done + chunk
        if time.monotonic() - begin < 6 * minutes:  # a tenth to equilibrate
            continue
        samples = found.samples(simulations.molecule)
        phi, psi = (samples.torsion(torsion).view(-1, walkers) for torsion in ("phi", "psi"))
        inside = (phi < 0) & ((psi + math.pi / 6).abs() < math.pi / 2)
        shares.append((inside.double().sum(0), (phi < 0).double().sum(0)))
    top, bottom = (torch.stack(column).sum(0) for column in zip(*shares, strict=True))
    share = float(top.sum() / bottom.sum())
    error = float((top - share * bottom).std() / bottom.mean() / math.sqrt(walkers))
    return {"alpha_R": share, "standard_error": error, "walkers": walkers, "ns": walkers * done * each / 1000}


def main() -> None:
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.way:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[options.core]})
        print(json.dumps(rates(options.way, options.turns)))
        return
    record = json.loads(options.out.read_text()) if options.out.exists() else {}
    for part in options.parts:
        record |= PARTS[part](options) | {f"{part}_on": about("openmm")}
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def speed(options: argparse.Namespace) -> dict[str, Any]:
    cores, found = processors(), {}
    for way in WAYS:
        alone, together = (at_once(way, n, options.turns) for n in (1, cores))
        found[way] = {"ns_per_hour": alone, "ns_per_hour_all_cores": together}
        print(f"{way:<52} {alone:8.1f} ns an hour, {together:8.1f} on {cores} cores", flush=True)
    return {"speed": found, "cores": cores}


def populations(options: argparse.Namespace) -> dict[str, Any]:
    simulations = Simulations()
    found = {}
    for name in ("torch", "openmm", "replica exchange"):
        found[name] = population(name, simulations, options.minutes)
        print("{}: alpha_R {alpha_R:.4f} ± {standard_error:.4f} of phi < 0, {ns:.1f} ns".format(name, **found[name]))
    sigmas = {}
    for name in ("torch", "replica exchange"):
        error = math.hypot(found[name]["standard_error"], found["openmm"]["standard_error"])
        sigmas[name] = (found[name]["alpha_R"] - found["openmm"]["alpha_R"]) / error
        print(f"{name} against OpenMM: {sigmas[name]:.1f} standard errors")
    return {"populations": found, "standard_errors_from_openmm": sigmas, "minutes": options.minutes}


PARTS = {"speed": speed, "populations": populations}


if __name__ == "__main__":
    main()
