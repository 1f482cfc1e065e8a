"""Reference values of alanine dipeptide at 300 K by replica exchange: no flow, and no time-step error.

    OMP_NUM_THREADS=1 python benchmarks/alanine_dipeptide_reference.py --minutes 45

64 independent ladders of 7 temperatures, 300-1200 K, sampled by Metropolis-corrected trajectories on the compiled force
field, restricted to the L enantiomer (u = +inf for D: never accepted, so the restriction is exact). Hydrogens weigh as
much as carbons: masses do not enter the distribution. Errors are those of the mean over the 64 ladders. The peptide
bonds are free; frames with a cis bond are counted, and the values without them are given as well.

The result file is rewritten every few minutes; "finished" says whether it is the last.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from boltzgen.energies.energy import Energy
from boltzgen.molecule import Molecule
from boltzgen.sampling.dynamics import replica_exchange
from boltzgen.units import kT

TEMPERATURE = 300.0
TORSIONS = ("phi", "psi", "omega_1", "omega_2")
CENTRE, NEIGHBOURS = 8, (6, 14, 10)  # C-alpha; N, C, C-beta


class OneEnantiomer(Energy):
    """The energy where C-alpha is handed as in the reference structure, +inf elsewhere."""

    def __init__(self, energy: Energy, reference: Tensor) -> None:
        super().__init__(energy.event_shape, energy.temperature)
        self.inner, self.sign = energy, self.volume(reference[None]).sign()

    def _energy(self, x: Tensor) -> Tensor:
        return torch.where(self.volume(x) * self.sign > 0, self.inner._energy(x), torch.inf)

    @staticmethod
    def volume(x: Tensor) -> Tensor:
        a, b, c = (x[:, i] - x[:, CENTRE] for i in NEIGHBOURS)
        return (torch.linalg.cross(a, b) * c).sum(-1)


def dihedral(x: Tensor, atoms: tuple[int, int, int, int]) -> Tensor:
    """Torsion in (-pi, pi], IUPAC sign, of x (..., n_atoms, 3)."""
    i, j, k, m = (x[..., a, :].double() for a in atoms)
    b1, b2, b3 = j - i, k - j, m - k
    n1, n2 = torch.linalg.cross(b1, b2), torch.linalg.cross(b2, b3)
    return torch.atan2((b1 * n2).sum(-1) * b2.norm(dim=-1), (n1 * n2).sum(-1))


def mean(values: np.ndarray) -> dict[str, float]:
    """Mean over rounds (axis 0) and walkers (axis 1), its error from the walkers."""
    columns = values.mean(0)
    return {"value": float(columns.mean()), "standard_error": float(columns.std(ddof=1) / math.sqrt(len(columns)))}


def jackknife(statistic, columns: np.ndarray) -> dict[str, float]:
    """Value and delete-one-walker error of a statistic of sums over walkers, columns (W, ...)."""
    n, total = len(columns), columns.sum(0)
    left_out = np.array([statistic(total - column) for column in columns])
    error = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    return {"value": float(statistic(total)), "standard_error": error}


def difference(counts: np.ndarray) -> float:
    """F(phi > 0) - F(phi < 0) in kT from (draws with phi < 0, draws with phi > 0)."""
    return -math.log(counts[1] / counts[0]) if counts.min() > 0 else math.nan


def values(u: np.ndarray, torsions: np.ndarray) -> dict:
    """Estimates at 300 K from energies in kJ/mol (frames, W) and torsions (frames, W, 4)."""
    phi, cis = torsions[..., 0], (np.abs(torsions[..., 2:]) < math.pi / 2).any(-1)
    trans = ~cis
    counts = lambda keep: np.stack([(keep & (phi < 0)).sum(0), (keep & (phi > 0)).sum(0)], -1)  # noqa: E731
    return {
        "delta_f_phi": jackknife(difference, counts(np.ones_like(cis))) | {"unit": "kT"},
        "delta_f_phi_trans": jackknife(difference, counts(trans)) | {"unit": "kT"},
        "mean_potential_energy_trans": jackknife(
            lambda s: s[0] / s[1], np.stack([(u * trans).sum(0), trans.sum(0)], -1).astype(float)
        )
        | {"unit": "kJ/mol"},
        "cis_fraction": mean(cis.astype(float)),
        "phi_transitions": int((np.diff(np.sign(phi), axis=0) != 0).sum()),
    }


def write(path: Path, record: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.write(json.dumps(record, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--walkers", type=int, default=64)
    parser.add_argument("--hottest", type=float, default=1200.0)
    parser.add_argument("--temperatures", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="steps per trajectory")
    parser.add_argument("--thin", type=int, default=4, help="rounds between frames of which torsions are taken")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--frames", type=Path, help="where to keep every 20th frame at 300 K (.npz)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "alanine_dipeptide_reference.json"
    )
    options = parser.parse_args()

    begin = time.monotonic()
    molecule = Molecule.load("alanine_dipeptide")
    force_field = molecule.energy(TEMPERATURE)
    if not options.no_compile:
        force_field._energy = torch.compile(force_field._energy, dynamic=False)
    start = torch.tensor(molecule.positions, dtype=torch.float32)
    energy = OneEnantiomer(force_field, start)
    ladder = np.geomspace(TEMPERATURE, options.hottest, options.temperatures).tolist()
    settings = {
        "masses": 12.0 / kT(TEMPERATURE),
        "temperatures": ladder,
        "walkers": options.walkers,
        "steps": options.steps,
        "step_size": 0.0025,
        "seed": options.seed,
        "thin": options.thin,
    }

    chunk = 50 * options.thin
    equilibration = replica_exchange(energy, start, rounds=chunk, equilibration=chunk, **settings)
    state, adapted = equilibration.state, time.monotonic() - begin
    u, torsions, frames, acceptance, swaps, rounds, saved = [], [], [], [], [], 0, begin
    discarded = None
    while (elapsed := time.monotonic() - begin) < 60 * options.minutes:
        run = replica_exchange(energy, start, rounds=chunk, resume=state, **settings)
        state = run.state
        if discarded is None:  # equilibrate for a tenth of the time at least
            if elapsed > 6 * options.minutes:
                discarded = int(state.round_trips.sum())
            continue
        rounds += chunk
        u.append(run.u.numpy() * kT(TEMPERATURE))
        torsions.append(torch.stack([dihedral(run.x, molecule.torsions[name]) for name in TORSIONS], -1).numpy())
        frames.append(run.x[:: max(1, 20 // options.thin)].numpy())
        acceptance.append(run.acceptance)
        swaps.append(run.swaps)
        if time.monotonic() - saved > 180 or time.monotonic() - begin > 60 * options.minutes:
            saved = time.monotonic()
            all_u, all_torsions = np.concatenate(u), np.concatenate(torsions)
            frames_u = all_u[options.thin - 1 :: options.thin, 0]
            half = len(all_torsions) // 2
            record = {
                "system": "alanine_dipeptide",
                "temperature": TEMPERATURE,
                "finished": saved - begin > 60 * options.minutes,
                "mean_potential_energy": mean(all_u[:, 0]) | {"unit": "kJ/mol"},
                **values(frames_u, all_torsions),
                "halves": [values(frames_u[s], all_torsions[s]) for s in (slice(half), slice(half, None))],
                "round_trips": int(state.round_trips.sum()) - discarded,
                "rounds": rounds,
                "ladder": [round(t, 1) for t in ladder],
                "mean_potential_energy_of_ladder": [mean(all_u[:, k])["value"] for k in range(len(ladder))],
                "acceptance": torch.stack(acceptance).mean(0).tolist(),
                "swaps": torch.stack(swaps).mean(0).tolist(),
                "step_size": state.step.tolist(),
                "walkers": options.walkers,
                "steps": options.steps,
                "seed": options.seed,
                "gradient_evaluations": energy.evaluations.gradient,
                "seconds": saved - begin,
                "seconds_adapting": adapted,
            }
            write(options.out, record)
            if options.frames:
                np.savez(options.frames, x=np.concatenate(frames), u=all_u[:, 0], torsions=all_torsions)
            shown = {k: record[k] for k in ("mean_potential_energy", "delta_f_phi", "cis_fraction", "phi_transitions")}
            print(f"{saved - begin:6.0f} s  {rounds} rounds, {record['round_trips']} round trips", shown, flush=True)


if __name__ == "__main__":
    main()
