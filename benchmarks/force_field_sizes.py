"""Energy and gradient against the size of the molecule and of the batch: the force field in torch, OpenMM in a loop.

    python benchmarks/force_field_sizes.py

Ace-(Ala)n-Nme in AMBER ff14SB with OBC2 and all pairs. Three processes measure: two of one thread, each on a core of
its own, and one with as many threads as there are cores, which need an idle machine: OpenMP's threads wait for each
other at every operation. The methods take turns, so that what else the machine does falls on all of them alike; ratios
are of medians. What takes longer than --seconds for one call is left out: 8192 frames of a thousand atoms, evaluated
a few at a time, would take a quarter of an hour. So is compiled code beyond --compiled atoms:
it takes the longer to compile, the larger its pieces are.

OpenMM works in double precision (Reference) or mostly in single (CPU), one frame after the other. "Pool" is
`OpenMMEnergy(workers=cores)`; "2 processes" is both processes of one thread at work at once. "Auto" is the energy that
`Molecule.energy` chooses, whichever it is.

Results are kept molecule by molecule in benchmarks/results/force_field_sizes.json; a run that was interrupted goes on
with what is missing, and --only with some words of the names measures no others: it may be done in parts. OpenMM's
loops are measured in each part, for its ratios. A fresh run needs another --out, or the old file removed.
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
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from coordinates import peptide
from force_field_speed import in_openmm, in_torch
from machine import processor, versions

from boltzgen.energies import ForceFieldEnergy, OpenMMEnergy
from boltzgen.files import write_atomically
from boltzgen.processes import processors

RESIDUES = [1, 4, 9, 29, 99]  # 22, 52, 102, 302 and 1002 atoms
BATCHES = [64, 1024, 8192]
COMPILED = 110  # atoms
LASTING = 0.25  # seconds of a turn: a single call of some milliseconds would be that of a core that wakes up
STEADY = 1024  # frames per call of what is also measured in processes

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--turns", type=int, default=5)
parser.add_argument("--seconds", type=float, default=20.0, help="longest call that is made")
parser.add_argument("--residues", type=int, nargs="+", default=RESIDUES, help="numbers of residues")
parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of what to measure")
parser.add_argument("--compiled", type=int, default=COMPILED, help="largest molecule that is compiled, in atoms")
parser.add_argument("--quick", action="store_true", help="two molecules, batches of 64, not compiled, two turns")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "force_field_sizes.json")
parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)

Method = tuple[str, int, str]  # "eager", "compiled", "auto", "Reference", "CPU" or "pool"; frames in a call; dtype


# -- in the processes that measure


class Calls:
    """Each method on one molecule, ready to be called."""

    def __init__(self, n: int) -> None:
        self.molecule = peptide(n)
        self.energy = ForceFieldEnergy(self.molecule.system, 300.0, positions=self.molecule.positions, check=False)
        self.compiled = torch.compile(self.energy._energy, dynamic=False)
        self.ready: dict[Method, Callable[[], object]] = {}

    def frames(self, n: int, dtype: str) -> torch.Tensor:
        noise = torch.randn(n, self.molecule.n_atoms, 3, generator=torch.Generator().manual_seed(0))
        return (torch.tensor(self.molecule.positions) + 0.002 * noise).to(getattr(torch, dtype))

    def make(self, method: Method) -> Callable[[], object]:
        kind, n, dtype = method
        x = self.frames(n, dtype)
        if kind in ("Reference", "CPU"):
            return in_openmm(self.molecule.system, kind, x.double().numpy())
        if kind == "pool":
            return in_torch(OpenMMEnergy(self.molecule.system, 300.0, workers=processors()).energy, x)
        if kind == "auto":
            return in_torch(self.molecule.energy(300.0)._energy, x)
        return in_torch(self.compiled if kind == "compiled" else self.energy._energy, x)

    def seconds(self, method: Method) -> float:
        """Of one call, the mean of as many as last a while; a first one, in which all is built, comes before them."""
        if method not in self.ready:
            self.ready[method] = self.make(method)
            self.ready[method]()
        calls, begin = 0, time.perf_counter()
        while (seconds := time.perf_counter() - begin) < LASTING or not calls:
            self.ready[method]()
            calls += 1
        return seconds / calls

    def peak(self, dtype: str) -> float:
        """Bytes per frame that an energy and its gradient take at their height."""
        call = in_torch(self.energy._reduced, self.frames(16, dtype))
        call()
        with torch.profiler.profile(profile_memory=True) as record:
            call()
        events = record.profiler.kineto_results.events()
        sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
        return max(accumulate(sizes)) / 16


def work() -> None:
    """Does what lines of JSON on standard input ask for: [what, argument]."""
    calls: Any = None
    for line in sys.stdin:
        what, argument = json.loads(line)
        if what == "molecule":
            torch.compiler.reset()
            calls = Calls(argument)
            answer: Any = calls.molecule.n_atoms
        elif what == "peak":
            answer = calls.peak(argument)
        else:
            answer = calls.seconds(tuple(argument))
        print(json.dumps(answer), flush=True)


# -- in the process that leads


class Worker:
    """A process that measures, with so many threads, on one core or on all."""

    def __init__(self, threads: int, core: int | None) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", str(-1 if core is None else core)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, what: str, argument: Any) -> None:
        print(json.dumps([what, argument]), file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit("a process that measures has ended: see above")
        return json.loads(line)

    def seconds(self, method: Method) -> float:
        self.ask("seconds", method)
        return float(self.answer())


def measure_molecule(
    n: int, known: dict[str, dict[str, Any]], workers: list[Worker], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of one molecule that are asked for and not known yet, beside those of OpenMM's loops."""
    one, other, every = workers
    for worker in workers:
        worker.ask("molecule", n)
    atoms, *_ = [worker.answer() for worker in workers]
    loop = max(2, 2048 // atoms)

    def alone(worker: Worker, method: Method) -> Callable[[], float]:
        return lambda: worker.seconds(method) / method[1]

    def together(method: Method) -> Callable[[], float]:
        def call() -> float:
            for worker in (one, other):
                worker.ask("seconds", method)
            return max(one.answer(), other.answer()) / (2 * method[1])

        return call

    found: dict[str, tuple[Method, Callable[[], float]]] = {}

    def add(where: str, method: Method, call: Callable[[], float]) -> None:
        """Takes a method in that is asked for and not known, unless a call of it takes too long."""
        loops = where.startswith("OpenMM") and where.endswith("1 thread")
        if not loops and (where in known or not any(part in where for part in options.only)):
            return
        kind, batch, dtype = method
        if kind in ("eager", "compiled") and batch > 64:
            each = one.seconds(("eager", 16, dtype)) / 16  # the same in a large batch; compiled code takes a quarter
            if each * batch * (0.25 if kind == "compiled" else 1.0) > options.seconds:
                return
        print(f"  {where}: first call", end="\r", flush=True)
        call()
        found[where] = method, call

    for kind in ("Reference", "CPU"):
        add(f"OpenMM {kind}, 1 thread", (kind, loop, "float64"), alone(one, (kind, loop, "float64")))
    cores = processors()
    pool = ("pool", 32 * cores if atoms < 500 else 4 * cores, "float64")
    add(f"OpenMM pool, {cores} processes", pool, alone(every, pool))
    add("auto, 64, float32, 1 thread", ("auto", 64, "float32"), alone(one, ("auto", 64, "float32")))
    kinds = ("eager", "compiled") if atoms <= options.compiled and not options.quick else ("eager",)
    for dtype in ("float32", "float64"):
        for batch in BATCHES[:1] if options.quick else BATCHES:
            for kind in kinds:
                method, name = (kind, batch, dtype), f"torch {kind}, {batch}, {dtype}"
                add(f"{name}, 1 thread", method, alone(one, method))
                add(f"{name}, {cores} threads", method, alone(every, method))
                if batch == STEADY or options.quick:
                    add(f"{name}, 2 processes", method, together(method))
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(2 if options.quick else options.turns):
        for name, (_, call) in found.items():
            times[name].append(1e6 * call())
    medians = {name: statistics.median(t) for name, t in times.items()}
    fastest = min(value for name, value in medians.items() if name.endswith("1 thread") and name.startswith("OpenMM"))
    peaks = {}
    for dtype in ("float32", "float64"):
        one.ask("peak", dtype)
        peaks[dtype] = one.answer()
    rows = []
    print(f"\n{atoms} atoms; at the height of a gradient {peaks['float32'] / 1e6:.3f} MB per frame in float32, "
          f"{peaks['float64'] / 1e6:.3f} in float64")  # fmt: skip
    for name, ((kind, batch, dtype), _) in found.items():
        row = {
            "atoms": atoms, "residues": n, "method": name, "frames": batch,
            "median": medians[name], "minimum": min(times[name]), "ratio": fastest / medians[name],
        }  # fmt: skip
        if kind == "eager":
            row["bytes_at_height"] = peaks[dtype]
        single = name.rpartition(", ")[0] + ", 1 thread"
        alone_takes = medians.get(single, known.get(single, {}).get("median"))
        if name != single and alone_takes:
            row["times_one_thread"] = alone_takes / medians[name]
        scaling = f", {row['times_one_thread']:.2f} x one thread" if "times_one_thread" in row else ""
        print(f"  {name:46} {medians[name]:12.1f} µs  ({row['ratio']:.1f} x OpenMM's loop{scaling})", flush=True)
        rows.append(row)
    return rows


def growth(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The power of the number of atoms by which each method grows, from one molecule to the next."""
    by_method: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(rows, key=lambda row: row["atoms"]):
        by_method.setdefault(row["method"], []).append((row["atoms"], row["median"]))
    return {
        name: [math.log(b[1] / a[1]) / math.log(b[0] / a[0]) for a, b in pairwise(points)]
        for name, points in by_method.items()
        if len(points) > 2
    }


def main() -> None:
    options = parser.parse_args()
    if options.worker is not None:
        if options.worker >= 0 and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[options.worker]})
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        work()
        return
    ours = {
        "cores": processors(),
        "processor": processor(),
        "versions": versions("openmm"),
    }
    record: dict[str, Any] = {"machine": ours, "loads": [], "rows": []}
    if options.out.exists():
        record = json.loads(options.out.read_text())
        if record.get("machine") != ours:
            raise SystemExit(
                f"{options.out} was made elsewhere or by other versions: remove it, or choose another --out"
            )
    print("µs per energy and gradient of one frame; ratios to OpenMM's fastest loop of one thread")
    workers = [Worker(1, 0), Worker(1, min(1, processors() - 1)), Worker(processors(), None)]
    for n in options.residues[:2] if options.quick else options.residues:
        load = os.getloadavg()[0]
        known = {row["method"]: row for row in record["rows"] if row["residues"] == n}
        rows = measure_molecule(n, known, workers, options)
        known = {row["method"]: row for row in rows} | known  # what was measured first stays
        record["rows"] = [row for row in record["rows"] if row["residues"] != n] + list(known.values())
        record["loads"].append([n, load])  # of the machine, when this molecule's turn began
        record["growth"] = growth(record["rows"])
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, (json.dumps(record, indent=1) + "\n").encode())
    for worker in workers:
        worker.process.stdin.close()  # type: ignore[union-attr]
        worker.process.wait()
    print("\npower of the number of atoms, from one molecule to the next")
    for name, powers in record.get("growth", {}).items():
        print(f"  {name:46} {'  '.join(f'{p:.2f}' for p in powers)}")


if __name__ == "__main__":
    main()
