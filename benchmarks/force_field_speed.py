"""Energy and gradient of alanine dipeptide: the force field in torch against a loop over frames in OpenMM.

    OMP_NUM_THREADS=1 python benchmarks/force_field_speed.py

One thread, and one core: OpenMM's CPU platform hands each frame to a thread of its own, which takes several times as
long when that thread wakes on another core. The methods take turns, so that what else the machine does falls on all of
them alike; ratios are of medians. "Auto" is the energy that `molecule.energy` chooses, in small batches and large ones
and in both precisions; the other rows in torch are of large batches in float32. Writes
benchmarks/results/force_field_speed.json and prints a table.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import torch
from machine import about
from openmm import app
from torch import Tensor

from boltzgen.energies import ForceFieldEnergy
from boltzgen.energies.hybrid import system_energy
from boltzgen.molecule import Molecule

FEW = 64  # frames of a small batch
FORMS = {
    "amber96 + OBC1, CustomGBForce": ("amber96.xml", "implicit/obc1.xml"),
    "amber96 + OBC2, GBSAOBCForce": ("amber96.xml", "amber96_obc.xml"),
    "amber96, vacuum": ("amber96.xml",),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--batch", type=int, default=1024, help="frames per call in torch")
parser.add_argument("--loop", type=int, default=128, help="frames per turn in OpenMM")
parser.add_argument("--turns", type=int, default=30)
parser.add_argument("--quick", action="store_true", help="one form, not compiled, three turns")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "force_field_speed.json")


def in_torch(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    def call() -> object:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(function(leaf).sum(), leaf)

    return call


def in_openmm(system: openmm.System, name: str, x: np.ndarray) -> Callable[[], object]:
    engine = openmm.Platform.getPlatformByName(name)
    properties = {"Threads": "1"} if name == "CPU" else {}
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), engine, properties)

    def call() -> object:
        for frame in x:
            context.setPositions(frame)
            state = context.getState(energy=True, forces=True)
            found = state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value
        return found

    return call


def measure(methods: dict[str, tuple[Callable[[], object], int]], turns: int) -> dict[str, dict[str, float]]:
    """Microseconds per frame."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(turns + 2):
        for name, (call, frames) in methods.items():
            start = time.perf_counter()
            call()
            if turn > 1:
                times[name].append((time.perf_counter() - start) / frames * 1e6)
    return {name: {"median": statistics.median(t), "minimum": min(t)} for name, t in times.items()}


def main() -> None:
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    molecule = Molecule.load("alanine_dipeptide")
    generator = torch.Generator().manual_seed(0)
    noise = 0.005 * torch.randn(options.batch, molecule.n_atoms, 3, generator=generator)
    x = torch.tensor(molecule.positions, dtype=torch.float32) + noise
    platforms = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    rows = []
    for form, files in list(FORMS.items())[: 1 if options.quick else None]:
        system = app.ForceField(*files).createSystem(molecule.topology, constraints=None, rigidWater=False)
        energy = ForceFieldEnergy(system, 300.0, positions=molecule.positions)
        methods = {"torch, eager": (in_torch(energy._energy, x), len(x))}
        if not options.quick:
            torch.compiler.reset()
            compiled = torch.compile(energy._energy, dynamic=False)
            methods["torch, compiled"] = (in_torch(compiled, x), len(x))
        auto = system_energy(system, 300.0, molecule.positions)
        for n in (FEW, len(x)):
            for dtype in (torch.float32, torch.float64):
                name = f"auto, {n} frames, {str(dtype).removeprefix('torch.')}"
                methods[name] = (in_torch(auto.energy, x[:n].to(dtype)), n)
        loop = x[: options.loop].double().numpy()
        for name in platforms:
            methods[f"OpenMM {name}"] = (in_openmm(system, name, loop), len(loop))
        found = measure(methods, 3 if options.quick else options.turns)
        fastest = min((name for name in found if name.startswith("OpenMM")), key=lambda name: found[name]["median"])
        print(f"\n{form}, µs per energy and gradient")
        for name, times in found.items():
            ratio = found[fastest]["median"] / times["median"]
            print(f"  {name:25} median {times['median']:8.2f}   minimum {times['minimum']:8.2f}   {ratio:6.1f} x")
            rows.append({"form": form, "method": name, **times, "times_the_fastest_openmm": ratio})
    result = {
        "batch": len(x),
        "dtype": "float32",
        "threads": 1,
        "rows": rows,
        **about("openmm"),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
