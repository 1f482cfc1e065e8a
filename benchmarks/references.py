"""Reference values of bundled systems by replica exchange: no flow, and no time-step error.

    OMP_NUM_THREADS=1 python benchmarks/references.py dw4 --minutes 4 --walkers 256

Independent ladders of temperatures, all in one batch, sampled by Metropolis-corrected trajectories. All atoms weigh
the same: masses do not enter the distribution. The first fifth of the time is left out. Errors are those between the
ladders, which know nothing of each other. "halves" shows whether the run has settled, "round_trips" how often a
configuration has gone from the lowest temperature to the highest and back.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from boltzgen.coordinates import InternalCoordinates, dihedral
from boltzgen.energies.energy import Energy
from boltzgen.files import write_atomically
from boltzgen.molecule import Molecule, find
from boltzgen.sampling.dynamics import replica_exchange
from boltzgen.units import kT

Observables = Callable[[Tensor, Tensor], dict[str, tuple[Tensor, str]]]
LADDERS = {"dw4": (8.0, 6), "butane": (3.0, 5), "alanine_tetrapeptide": (8 / 3, 8)}
"""hottest temperature over the lowest, and how many."""


def of_dw4(x: Tensor, u: Tensor) -> dict[str, tuple[Tensor, str]]:
    return {"mean_reduced_energy": (u, "kT")}


def of_butane(x: Tensor, u: Tensor) -> dict[str, tuple[Tensor, str]]:
    phi = torsion(Molecule.load("butane"), "phi", x)
    return {
        "mean_potential_energy": (u * kT(300.0), "kJ/mol"),
        "population_trans": (phi.abs() > 2 * math.pi / 3, ""),
        "share_of_gauche_plus": ((phi > 0) & (phi < 2 * math.pi / 3), ""),
    }


def of_tetrapeptide(x: Tensor, u: Tensor) -> dict[str, tuple[Tensor, str]]:
    molecule = Molecule.load("alanine_tetrapeptide")
    found = {"mean_potential_energy": (u * kT(300.0), "kJ/mol")}
    for name in (name for name in molecule.torsions if name.startswith("phi")):
        found[f"population_{name}_positive"] = (torsion(molecule, name, x) > 0, "")
    cis = [torsion(molecule, name, x).abs() < math.pi / 2 for name in molecule.torsions if name.startswith("omega")]
    inside = InternalCoordinates(molecule).inverse(x.double().flatten(0, 1))[1].isfinite().view(u.shape)
    return found | {"cis": (torch.stack(cis).any(0), ""), "inside_the_chart": (inside, "")}


OBSERVABLES: dict[str, Observables] = {"dw4": of_dw4, "butane": of_butane, "alanine_tetrapeptide": of_tetrapeptide}


def torsion(molecule: Molecule, name: str, x: Tensor) -> Tensor:
    """Of x (rounds, walkers, atoms, 3), (rounds, walkers)."""
    return dihedral(x.flatten(0, 1), molecule.torsions[name]).view(x.shape[:2])


def between(columns: Tensor) -> dict[str, float]:
    """Mean over walkers, each of which is asked alone, and its error; columns are (rounds, walkers)."""
    means = columns.double().mean(0)
    return {"value": float(means.mean()), "standard_error": float(means.std() / math.sqrt(len(means)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=OBSERVABLES)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--walkers", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="results/NAME_reference.json if not given")
    options = parser.parse_args()

    system = find(options.name)
    energy: Energy
    if system.toy is None:
        molecule = system.molecule()
        energy, start = molecule.energy(300.0, backend="torch"), torch.tensor(molecule.positions).float()
        energy._energy = torch.compile(energy._energy, dynamic=False)
        motion = {"masses": 12.0 / kT(300.0), "steps": 40, "step_size": 0.003}
    else:
        energy, start = system.energy(), torch.tensor(system.check_point, dtype=torch.float64)
        motion = {"masses": 1.0, "steps": 10, "step_size": 0.1}
    span, count = LADDERS[options.name]
    settings = {
        "temperatures": np.geomspace(energy.temperature, span * energy.temperature, count).tolist(),
        "walkers": options.walkers,
        "seed": options.seed,
        **motion,
    }
    state = replica_exchange(energy, start, rounds=20, equilibration=100, **settings).state
    begin = time.monotonic()
    discarded, x, u, acceptance, swaps = None, [], [], [], []
    while (elapsed := time.monotonic() - begin) < 60 * options.minutes:
        run = replica_exchange(energy, start, rounds=20, resume=state, **settings)
        state = run.state
        if elapsed < 12 * options.minutes:
            continue
        if discarded is None:
            discarded = int(state.round_trips.sum())
        x.append(run.x)
        u.append(run.u[:, 0])
        acceptance.append(run.acceptance)
        swaps.append(run.swaps)

    found = OBSERVABLES[options.name](torch.cat(x), torch.cat(u))
    half = len(torch.cat(u)) // 2
    record = {
        "system": options.name,
        "temperature": energy.temperature,
        "estimates": {name: between(v) | {"unit": unit} for name, (v, unit) in found.items()},
        "halves": {name: [between(v[:half]), between(v[half:])] for name, (v, _) in found.items()},
        "round_trips": int(state.round_trips.sum()) - (discarded or 0),
        "frames": len(torch.cat(u)) * options.walkers,
        "ladder": [round(t, 1) for t in settings["temperatures"]],
        "acceptance": torch.stack(acceptance).mean(0).tolist(),
        "swaps": torch.stack(swaps).mean(0).tolist(),
        "walkers": options.walkers,
        "steps": motion["steps"],
        "seed": options.seed,
        "gradient_evaluations": energy.evaluations.gradient,
        "seconds": time.monotonic() - begin,
    }
    out = options.out or Path(__file__).parent / "results" / f"{options.name}_reference.json"
    write_atomically(out, (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps({key: record[key] for key in ("estimates", "halves", "round_trips", "swaps")}, indent=1))


if __name__ == "__main__":
    main()
