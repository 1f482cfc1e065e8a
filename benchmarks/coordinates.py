"""Positions from internal coordinates, with gradient: their cost against the energy's, and its growth with atoms.

    OMP_NUM_THREADS=1 python benchmarks/coordinates.py

Ace-(Ala)n-Nme in AMBER ff14SB with OBC2, a chain, whose tree is as deep as that of any molecule of its size. One thread
and one core; the methods take turns, and a cost is the median over turns of processor time, which does not count what
else the machine does. Compiled code is timed for the smaller molecules: larger ones take minutes to compile. Writes
benchmarks/results/coordinates.json and prints a table.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from build_systems import OBC2, grown, topology_of
from force_field_speed import in_torch
from machine import about
from openmm import app
from torch import Tensor

from boltzgen import InternalCoordinates, Molecule

RESIDUES = [1, 3, 5, 8, 20, 45, 98]
PAIRS = 4_000_000  # of atoms, at a time: more do not fit into memory

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--batch", type=int, default=512, help="configurations per call")
parser.add_argument("--turns", type=int, default=10)
parser.add_argument("--compiled", type=int, default=100, help="atoms up to which compiled code is timed")
parser.add_argument("--quick", action="store_true", help="two molecules, not compiled, three turns")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coordinates.json")


def peptide(n: int) -> Molecule:
    topology = topology_of(" ".join(["ACE", *["ALA"] * n, "NME"]))
    system = app.ForceField(*OBC2).createSystem(topology, constraints=None, rigidWater=False)
    return Molecule.from_openmm(system, topology, grown(topology, seed=0), name=f"Ace-(Ala){n}-Nme")


def scalar(coordinates: InternalCoordinates) -> Callable[[Tensor], Tensor]:
    """Of y, with a gradient through positions and log_det."""

    def both(y: Tensor) -> Tensor:
        x, log_det = coordinates._forward(y, None)
        return x.sum((1, 2)) + log_det

    return both


def measure(methods: dict[str, tuple[Callable[[], object], int]], turns: int) -> dict[str, float]:
    """Median microseconds per configuration."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(turns + 2):
        for name, (call, configurations) in methods.items():
            call()  # what the one before has left in the caches is not this one's cost
            start = time.process_time()
            call()
            if turn > 1:
                times[name].append((time.process_time() - start) / configurations * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    print("µs per configuration, value and gradient\n  atoms   coordinates   per atom   energy   coordinates / energy")
    for n in RESIDUES[:2] if options.quick else RESIDUES:
        molecule = peptide(n)
        coordinates, energy = InternalCoordinates(molecule), molecule.energy(300.0, backend="torch")
        noise = 0.01 * torch.randn(options.batch, 3 * molecule.n_atoms - 6, generator=torch.Generator().manual_seed(0))
        y = coordinates.reference.float() + noise
        x = coordinates(y)[0][: max(1, PAIRS // molecule.n_atoms**2)]
        kinds = {"eager": (scalar(coordinates), energy._energy)}
        if molecule.n_atoms <= options.compiled and not options.quick:
            torch.compiler.reset()
            kinds["compiled"] = tuple(torch.compile(f, dynamic=False) for f in kinds["eager"])
        methods = {}
        for kind, (placement, potential) in kinds.items():
            methods[f"coordinates, {kind}"] = (in_torch(placement, y), len(y))
            methods[f"energy, {kind}"] = (in_torch(potential, x), len(x))
        found = measure(methods, 3 if options.quick else options.turns)
        for kind in kinds:
            costs = [found[f"{what}, {kind}"] for what in ("coordinates", "energy")]
            row = {"atoms": molecule.n_atoms, "kind": kind, "coordinates": costs[0], "energy": costs[1]}
            row |= {"per_atom": costs[0] / molecule.n_atoms, "share_of_energy": costs[0] / costs[1]}
            rows.append(row)
            print(
                f"  {row['atoms']:5} {costs[0]:13.2f} {row['per_atom']:10.3f} {costs[1]:8.1f} "
                f"{row['share_of_energy']:10.3f}   {kind}",
                flush=True,
            )
    eager = [row for row in rows if row["kind"] == "eager"]
    growth = math.log(eager[-1]["coordinates"] / eager[0]["coordinates"]) / math.log(
        eager[-1]["atoms"] / eager[0]["atoms"]
    )
    print(f"cost grows as atoms to the power {growth:.2f} from {eager[0]['atoms']} to {eager[-1]['atoms']} atoms")
    result = {
        "batch": options.batch,
        "dtype": "float32",
        "threads": 1,
        "rows": rows,
        "exponent": growth,
        **about(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
