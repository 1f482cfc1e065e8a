"""Energy and gradient against the size of the molecule and of the batch: the force field in torch, OpenMM in a loop.

    OMP_NUM_THREADS=1 python benchmarks/force_field_sizes.py

Ace-(Ala)n-Nme in AMBER ff14SB with OBC2, all pairs, one thread and one core; the methods take turns. Frames per call
are as many as the table says, fewer where 4·10⁶ pairs are passed at once. Compiled code is timed up to 110 atoms:
larger molecules take minutes to compile. Writes benchmarks/results/force_field_sizes.json and prints a table.
"""

import argparse
import json
import math
import os
import platform
from pathlib import Path

import openmm
import torch
from build_systems import OBC2
from coordinates import peptide
from force_field_speed import in_openmm, in_torch, measure, processor
from openmm import app

from boltzgen.energies import ForceFieldEnergy

RESIDUES = [1, 4, 9, 29, 99]
BATCHES = [64, 1024, 8192]
PAIRS = 4_000_000
COMPILED = 110  # atoms

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--turns", type=int, default=7)
parser.add_argument("--quick", action="store_true", help="two molecules, batches of 64, not compiled, two turns")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "force_field_sizes.json")


def main() -> None:
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    turns = 2 if options.quick else options.turns
    rows = []
    print(
        "µs per energy and gradient, float32 unless named; in brackets, how many times as fast as OpenMM's fastest loop"
    )
    for n in RESIDUES[:2] if options.quick else RESIDUES:
        molecule = peptide(n)
        atoms, pairs = molecule.n_atoms, math.comb(molecule.n_atoms, 2)
        system = app.ForceField(*OBC2).createSystem(molecule.topology, constraints=None, rigidWater=False)
        energy = ForceFieldEnergy(system, 300.0, positions=molecule.positions)
        noise = torch.randn(max(BATCHES), atoms, 3, generator=torch.Generator().manual_seed(0))
        x = torch.tensor(molecule.positions, dtype=torch.float32) + 0.002 * noise
        methods = {}
        for batch in BATCHES[:1] if options.quick else BATCHES:
            some = x[: max(16, min(batch, PAIRS // pairs))]
            if len(some) == batch or batch == BATCHES[0]:
                methods[f"torch, {len(some)} frames"] = (in_torch(energy._energy, some), len(some))
        some = x[: max(16, min(1024, PAIRS // pairs))]
        methods[f"torch, {len(some)} frames, float64"] = (in_torch(energy._energy, some.double()), len(some))
        if atoms <= COMPILED and not options.quick:
            torch.compiler.reset()
            compiled = torch.compile(energy._energy, dynamic=False)
            methods["torch, 1024 frames, compiled"] = (in_torch(compiled, x[:1024]), 1024)
        loop = x[: max(2, 2048 // atoms)].double().numpy()
        for name in ("Reference", "CPU"):
            methods[f"OpenMM {name}"] = (in_openmm(system, name, loop), len(loop))
        found = measure(methods, turns)
        fastest = min(found[name]["median"] for name in found if name.startswith("OpenMM"))
        print(f"\n{atoms} atoms, {pairs} pairs")
        for name, times in found.items():
            print(f"  {name:32} {times['median']:10.1f}  ({fastest / times['median']:.1f} x)", flush=True)
            rows.append({"atoms": atoms, "pairs": pairs, "method": name, **times, "ratio": fastest / times["median"]})
    result = {
        "threads": 1,
        "rows": rows,
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "versions": {"torch": torch.__version__, "openmm": openmm.__version__, "python": platform.python_version()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
