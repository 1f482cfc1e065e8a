"""Where the time of a training goes: flow, coordinates, energy and optimiser, and how each grows with the molecule.

    OMP_NUM_THREADS=1 python benchmarks/cost.py

One thread and one core, not compiled. Draws and densities are those of the default flow, with gradients of its
parameters. The parts take turns, and a cost is the median over turns of processor time, which does not count what else
the machine does. Microseconds a sample are seconds a million samples. Writes benchmarks/results/cost.json and prints a
table.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from coordinates import measure
from machine import about

import boltzgen as bg
from boltzgen.training.learner import Learner

MOLECULES = ["alanine_dipeptide", "alanine_tetrapeptide", "alanine_hexapeptide"]
PARTS = ["draws", "coordinates", "energy", "optimiser", "step of reverse KL", "densities", "step of forward KL"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--batch", type=int, default=512, help="samples a step")
parser.add_argument("--turns", type=int, default=10)
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cost.json")


def parts(molecule: bg.Molecule, batch: int) -> dict[str, Callable[[], object]]:
    """Calls that take a batch through each part, with gradient, and through whole steps."""
    generator = bg.BoltzmannGenerator(molecule, seed=0)
    flow, target, coordinates = generator.flow, generator.target, generator.coordinates
    energy = molecule.energy(generator.temperature)
    learner, noise = Learner(flow), torch.Generator().manual_seed(0)
    with torch.no_grad():
        y = flow.sample(batch, seed=0)[0]
        x = coordinates(y)[0]
    sizes = [p for p in flow.parameters() if p.requires_grad]

    def through(call: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(call(leaf := at.clone().requires_grad_()), leaf)

    def step(loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: learner.step(loss(), 1e-6, decay=0.999)

    def drawn() -> torch.Tensor:
        z, log_q = flow.rsample(batch, generator=noise)
        return z.sum() + log_q.sum()

    def gradient(loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(loss(), sizes, allow_unused=True)

    calls = [
        gradient(drawn),
        through(lambda y: sum(part.sum() for part in coordinates(y)), y),
        through(lambda x: energy.energy(x).clamp(max=1e6).sum(), x),
        step(lambda: sum(p.sum() for p in sizes)),
        step(lambda: bg.reverse_kl(flow, target, batch, soften=20.0, generator=noise)),
        gradient(lambda: flow.log_prob(y).sum()),
        step(lambda: bg.forward_kl(flow, y)),
    ]
    return dict(zip(PARTS, calls, strict=True))


def main() -> None:
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    print("µs a sample\n" + f"{'atoms':>7}  " + "  ".join(PARTS))
    for name in MOLECULES:
        molecule = bg.Molecule.load(name)
        methods = {part: (call, options.batch) for part, call in parts(molecule, options.batch).items()}
        found = measure(methods, options.turns)
        rows.append({"molecule": name, "atoms": molecule.n_atoms, "microseconds": found})
        print(f"{molecule.n_atoms:7}  " + "  ".join(f"{found[p]:{len(p)}.1f}" for p in PARTS), flush=True)
    result = {
        "batch": options.batch,
        "dtype": "float32",
        "threads": 1,
        "rows": rows,
        **about(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
