"""Reference values of alanine dipeptide at 300 K by replica exchange: no flow, and no time-step error.

    OMP_NUM_THREADS=1 python benchmarks/alanine_dipeptide_reference.py --minutes 45

64 independent ladders of 5 temperatures, 300-900 K, sampled by Metropolis-corrected trajectories on the compiled force
field. Hydrogens weigh as much as carbons: masses do not enter the distribution. Three things keep it exact and cheap:

* D is excluded by u = +inf, which is never accepted: an exact restriction to the L enantiomer;
* a known bias levels the free energy along phi and lowers the barrier to cis peptide bonds, in every replica, and a
  frame counts exp(bias). Without it phi > 0, which holds some 0.3 % of the weight, is entered so rarely that the
  estimates drift for hours while the error bars, blind to what no walker has met yet, look fine;
* errors are those between the 64 ladders (delete-one jackknife), which know nothing of each other.

Populations are those of three basins: alpha_L is phi > 0, alpha_R the rest where psi lies in (-120, 60) degrees, beta
what is left; the profile along phi has 24 bins. Frames with a cis bond are counted, and the values without them are
given as well. "quarters" shows whether the run has settled. The result file is rewritten every few minutes; "finished"
says whether it is the last.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from boltzgen.coordinates import dihedral
from boltzgen.energies.energy import Energy
from boltzgen.files import write_atomically
from boltzgen.molecule import Molecule
from boltzgen.sampling.dynamics import replica_exchange
from boltzgen.units import kT

TEMPERATURE = 300.0
TORSIONS = ("phi", "psi", "omega_1", "omega_2")
BINS = np.linspace(-math.pi, math.pi, 25)  # of the profile along phi
CENTRE, NEIGHBOURS = 8, (6, 14, 10)  # C-alpha; N, C, C-beta


# free energy along phi in kT, every 15 degrees from -180: a guess, which decides the speed and not the answer
PHI = np.array(
    [3.8, 1.5, 0, 0.3, 1, 1.8, 1.4, 0.6, 0.8, 2.3, 5.5, 8, 9, 8, 6.5, 5.3, 5.2, 6, 8.5, 10, 10.5, 10, 8, 5.5]
)
WAVES = [
    (k, w * c.real, -w * c.imag) for k, c in enumerate(np.fft.rfft(PHI)[:7].tolist()) for w in [(2 - (k == 0)) / 24]
]


class Biased(Energy):
    """The energy plus a bias where C-alpha is handed as in the reference structure, +inf elsewhere."""

    def __init__(self, energy: Energy, reference: Tensor, torsions: list[tuple[int, int, int, int]]) -> None:
        super().__init__(energy.event_shape, energy.temperature)
        self.inner, self.torsions, self.sign = energy, torsions, self.volume(reference[None]).sign()

    def _energy(self, x: Tensor) -> Tensor:
        u = self.inner._energy(x) + bias(torsions_of(x, self.torsions))
        return torch.where(self.volume(x) * self.sign > 0, u, torch.inf)

    @staticmethod
    def volume(x: Tensor) -> Tensor:
        a, b, c = (x[:, i] - x[:, CENTRE] for i in NEIGHBOURS)
        return (torch.linalg.cross(a, b) * c).sum(-1)


def bias(torsions: Tensor) -> Tensor:
    """Bias in kT at 300 K of phi, psi, omega_1, omega_2 (..., 4)."""
    t, omega = torsions[..., 0] + math.pi, torsions[..., 2:]
    along_phi = sum(a * torch.cos(k * t) + b * torch.sin(k * t) for k, a, b in WAVES)
    along_omega = 16 * omega.sin() ** 4 + 4 * (1 + omega.cos()) / 2
    return -0.9 * along_phi - along_omega.sum(-1)


def torsions_of(x: Tensor, torsions: list[tuple[int, int, int, int]]) -> Tensor:
    """phi, psi, omega_1, omega_2 of x (..., n_atoms, 3), (..., 4)."""
    flat = x.flatten(end_dim=-3)
    return torch.stack([dihedral(flat, atoms) for atoms in torsions], -1).view(*x.shape[:-2], len(torsions))


def jackknife(statistic, columns: np.ndarray) -> dict:
    """Value and delete-one-walker error of a statistic of sums over walkers, columns (W, ...)."""
    n, total = len(columns), columns.sum(0)
    left_out = np.array([statistic(total - column) for column in columns])
    error = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    return {"value": float(statistic(total)), "standard_error": error}


def estimates(u: np.ndarray, torsions: np.ndarray) -> dict:
    """Values at 300 K from biased energies in kJ/mol, (frames, W), and torsions, (frames, W, 4)."""
    phi, cis = torsions[..., 0], (np.abs(torsions[..., 2:]) < math.pi / 2).any(-1)
    shift = bias(torch.from_numpy(torsions)).numpy()
    u, w = u - shift * kT(TEMPERATURE), np.exp(shift)

    def ratio(numerator: np.ndarray, denominator: np.ndarray, transform=lambda r: r) -> dict:
        columns = np.stack([(w * numerator).sum(0), (w * denominator).sum(0)], -1)
        return jackknife(lambda s: transform(s[0] / s[1]), columns)

    def to_free_energy(r: float) -> float:
        return -math.log(r) if r > 0 else math.inf

    found = {}
    for name, kept in (("", np.ones_like(cis)), ("_trans", ~cis)):
        found["mean_potential_energy" + name] = ratio(u * kept, kept) | {"unit": "kJ/mol"}
        found["delta_f_phi" + name] = ratio(kept & (phi > 0), kept & (phi < 0), to_free_energy) | {"unit": "kT"}
    right_handed = (phi < 0) & (np.abs(torsions[..., 1] + math.pi / 6) < math.pi / 2)
    basins = {"alpha_R": right_handed, "beta": (phi < 0) & ~right_handed, "alpha_L": phi > 0}
    return found | {
        "populations": {name: ratio(inside, np.ones_like(cis)) for name, inside in basins.items()},
        "profile_phi": [  # -ln of the probability of each bin, in kT
            ratio((phi >= left) & (phi < right), np.ones_like(cis), to_free_energy) for left, right in pairwise(BINS)
        ],
        "cis_fraction": ratio(cis, np.ones_like(cis)),
        "phi_transitions": int((np.diff(np.sign(phi), axis=0) != 0).sum()),
        "cis_transitions": int(np.diff(cis, axis=0).sum()),
        "frames": phi.size,
        "weighted_share_of_frames": float(w.sum() ** 2 / (w * w).sum() / w.size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--walkers", type=int, default=64)
    parser.add_argument("--hottest", type=float, default=900.0)
    parser.add_argument("--temperatures", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="steps per trajectory")
    parser.add_argument("--thin", type=int, default=1, help="rounds between frames of which torsions are taken")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--frames", type=Path, help="where to keep every 10th frame at 300 K (.npz)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "alanine_dipeptide_reference.json"
    )
    options = parser.parse_args()

    begin = time.monotonic()
    molecule = Molecule.load("alanine_dipeptide")
    force_field = molecule.energy(TEMPERATURE)
    start = torch.tensor(molecule.positions, dtype=torch.float32)
    energy = Biased(force_field, start, [molecule.torsions[name] for name in TORSIONS])
    if not options.no_compile:
        energy._energy = torch.compile(energy._energy, dynamic=False)
    ladder = np.geomspace(TEMPERATURE, options.hottest, options.temperatures).tolist()
    settings = {
        "masses": 12.0 / kT(TEMPERATURE),
        "temperatures": ladder,
        "walkers": options.walkers,
        "steps": options.steps,
        "step_size": 0.0028,
        "seed": options.seed,
        "thin": options.thin,
    }

    chunk = 20 * options.thin  # rounds between looks at the clock
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
        torsions.append(torsions_of(run.x, energy.torsions).numpy())
        frames.append(run.x[:: max(1, 10 // options.thin)].numpy())
        acceptance.append(run.acceptance)
        swaps.append(run.swaps)
        if time.monotonic() - saved > 180 or time.monotonic() - begin > 60 * options.minutes:
            saved = time.monotonic()
            all_u, all_torsions = np.concatenate(u), np.concatenate(torsions)
            frames_u = all_u[options.thin - 1 :: options.thin, 0]
            quarters = np.array_split(np.arange(len(all_torsions)), 4)
            record = {
                "system": "alanine_dipeptide",
                "temperature": TEMPERATURE,
                "finished": saved - begin > 60 * options.minutes,
                **estimates(frames_u, all_torsions),
                "quarters": [estimates(frames_u[k], all_torsions[k]) for k in quarters],
                "round_trips": int(state.round_trips.sum()) - discarded,
                "rounds": rounds,
                "ladder": [round(t, 1) for t in ladder],
                "mean_biased_energy_of_ladder": all_u.mean((0, 2)).tolist(),
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
            write_atomically(options.out, (json.dumps(record, indent=1) + "\n").encode())
            if options.frames:
                np.savez(options.frames, x=np.concatenate(frames), u=all_u[:, 0], torsions=all_torsions)
            shown = {k: record[k] for k in ("mean_potential_energy", "delta_f_phi", "cis_fraction", "phi_transitions")}
            print(f"{saved - begin:6.0f} s  {rounds} rounds, {record['round_trips']} round trips", shown, flush=True)


if __name__ == "__main__":
    main()
