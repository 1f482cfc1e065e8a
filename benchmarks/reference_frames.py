"""Frames of a bundled molecule at its temperature by replica exchange, kept for evaluations and to learn from.

    OMP_NUM_THREADS=1 python benchmarks/reference_frames.py alanine_dipeptide --minutes 10 --out reference_a.npz

Independent ladders of temperatures, all in one batch, of Metropolis-corrected trajectories: no flow, and no time-step
error. The file is rewritten every two minutes; called again with the same file, the simulation goes on where it stood,
for as many minutes more. It holds x (rounds, walkers, atoms, 3) in nm, u in kT and log_w (rounds, walkers): of alanine
dipeptide, frames are those of a known bias that levels phi, and count exp(log_w); of other molecules all count alike.
That is for evaluations. To learn from, --unbiased frames of short trajectories are better, since all of them count:
--unbiased --steps 15. Walkers are independent of each other, frames of one walker are not. All evaluations are counted,
those of every temperature and of the equilibration too.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alanine_dipeptide_reference import TORSIONS, Biased, bias, jackknife, torsions_of
from machine import about
from torch import Tensor

import boltzgen as bg
from boltzgen.energies.energy import Energy
from boltzgen.files import write_atomically
from boltzgen.sampling.dynamics import State, replica_exchange
from boltzgen.units import kT

CHUNK, SAVE_SECONDS = 20, 120.0
MASS = 12.0
"""dalton, of every atom: masses do not enter the distribution."""


@dataclass
class Frames:
    """What a file holds.

    Attributes:
        x, u, log_w: (rounds, walkers, atoms, 3) in nm, (rounds, walkers) in kT and relative; float32, float64, float64.
        about: system, temperature, evaluations, seconds and how the frames were made.
    """

    x: np.ndarray
    u: np.ndarray
    log_w: np.ndarray
    about: dict[str, Any]

    def equal_weights(self, walkers: slice = slice(None), seed: int = 0) -> tuple[Tensor, Tensor, np.ndarray]:
        """x (m, atoms, 3), u (m,) and walkers (m,) of frames that count alike, in random order.

        Systematic resampling to as many as the weights are worth, so that few come twice.
        """
        log_w = self.log_w[:, walkers]
        w = np.exp(log_w - log_w.max()).ravel()
        number = np.broadcast_to(np.arange(log_w.shape[1]), log_w.shape).ravel()
        random = np.random.default_rng(seed)
        m = int(w.sum() ** 2 / (w * w).sum())
        marks = (np.arange(m) + random.random()) / m * w.sum()
        rows = random.permutation(np.searchsorted(np.cumsum(w), marks).clip(max=len(w) - 1))
        x = self.x[:, walkers].reshape(-1, *self.x.shape[2:])[rows]
        return torch.from_numpy(x), torch.from_numpy(self.u[:, walkers].ravel()[rows]), number[rows]


def load(path: Path) -> Frames:
    with np.load(path, allow_pickle=False) as file:
        return Frames(file["x"], file["u"], file["log_w"], json.loads(str(file["about"])))


def save(path: Path, frames: Frames) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=frames.x, u=frames.u, log_w=frames.log_w, about=json.dumps(frames.about))
    write_atomically(path, buffer.getvalue())


def levelled(molecule: bg.Molecule, force_field: Energy, start: Tensor) -> Energy:
    """The energy with a bias along phi and without D, if the molecule is alanine dipeptide in whatever force field."""
    if molecule.atom_labels != bg.Molecule.load("alanine_dipeptide").atom_labels:
        return force_field
    return Biased(force_field, start, [molecule.torsions[name] for name in TORSIONS])


def mean_energy(u: np.ndarray, log_w: np.ndarray) -> dict[str, float]:
    """⟨u⟩ in kT, with the error between walkers: two halves that differ by more have not settled."""
    w = np.exp(log_w - log_w.max())
    return jackknife(lambda sums: sums[0] / sums[1], np.stack([(w * u).sum(0), w.sum(0)], 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", help="name of a bundled molecule")
    parser.add_argument("--out", type=Path, required=True, help="file of the frames (.npz); it is large")
    parser.add_argument("--minutes", type=float, default=10.0, help="from now on")
    parser.add_argument("--frames", type=int, default=1_000_000, help="at most, of all walkers together")
    parser.add_argument("--walkers", type=int, default=128)
    parser.add_argument("--temperatures", type=int, default=5)
    parser.add_argument("--hottest", type=float, default=3.0, help="temperature, in units of the lowest")
    parser.add_argument("--steps", type=int, default=40, help="steps of a trajectory")
    parser.add_argument("--thin", type=int, default=1, help="trajectories between frames")
    parser.add_argument("--equilibration", type=int, default=400, help="trajectories before the first frame")
    parser.add_argument(
        "--forget", type=int, default=0, help="first rounds of the file to drop: it had not settled yet"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unbiased", action="store_true", help="no bias: more of the frames count, few of rare wells")
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()

    torch.set_num_threads(1)
    molecule = bg.Molecule.load(options.system)
    lowest = molecule.default_temperature
    force_field, start = molecule.energy(lowest), torch.tensor(molecule.positions, dtype=torch.float32)
    energy = force_field if options.unbiased else levelled(molecule, force_field, start)
    if not options.no_compile:
        energy._energy = torch.compile(energy._energy, dynamic=False)
    ladder = np.geomspace(lowest, options.hottest * lowest, options.temperatures).tolist()
    settings = {
        "masses": MASS / kT(lowest), "temperatures": ladder, "walkers": options.walkers, "steps": options.steps,
        "step_size": 0.0028, "seed": options.seed, "thin": options.thin,
    }  # fmt: skip
    named = {"system": options.system, "settings": settings, "biased": energy is not force_field}

    state_file = options.out.with_suffix(".state")
    kept: list[Frames] = []
    before = {"gradient_evaluations": 0, "seconds": 0.0}
    begin = saved = time.monotonic()
    if options.out.exists():
        one = load(options.out)
        before = one.about
        kept = [Frames(*(part[options.forget :] for part in (one.x, one.u, one.log_w)), before)]
        if json.loads(json.dumps(named)) != {name: before[name] for name in named}:
            parser.error(f"{options.out} must be of the same simulation; got {before['settings']}: pass another file")
        state = State(**torch.load(state_file, weights_only=True))
    else:
        print(f"equilibration: {options.equilibration} trajectories of {options.walkers} x {ladder}", flush=True)
        made = max(options.equilibration, CHUNK * options.thin)
        first = replica_exchange(energy, start, rounds=CHUNK * options.thin, equilibration=made, **settings)
        state = first.state

    def record() -> Frames:
        x, u, log_w = (np.concatenate([getattr(part, name) for part in kept]) for name in ("x", "u", "log_w"))
        w = np.exp(log_w - log_w.max())
        about_them = {
            **named, "temperature": lowest, "rounds": len(x), "frames": int(log_w.size),
            "weighted_share": float(w.sum() ** 2 / (w * w).sum() / w.size),
            "acceptance": run.acceptance.tolist(), "swaps": run.swaps.tolist(),
            "round_trips": int(state.round_trips.sum()),
            "mean_energy_of_halves": [mean_energy(u[k], log_w[k]) for k in np.array_split(np.arange(len(u)), 2)],
            "gradient_evaluations": before["gradient_evaluations"] + energy.evaluations.gradient,
            "seconds": before["seconds"] + time.monotonic() - begin,
            **about("openmm"),
        }  # fmt: skip
        kept[:] = [Frames(x, u, log_w, about_them)]
        return kept[0]

    run = None
    while True:
        run = replica_exchange(energy, start, rounds=CHUNK * options.thin, resume=state, **settings)
        state = run.state
        u = run.u[options.thin - 1 :: options.thin, 0]
        shift = bias(torsions_of(run.x, energy.torsions)).double() if isinstance(energy, Biased) else torch.zeros(())
        kept.append(Frames(run.x.numpy(), (u - shift).numpy(), shift.expand_as(u).numpy().copy(), {}))
        enough = sum(part.log_w.size for part in kept) >= options.frames
        ends = enough or time.monotonic() - begin > 60 * options.minutes
        if ends or time.monotonic() - saved > SAVE_SECONDS:
            saved, frames = time.monotonic(), record()
            buffer = io.BytesIO()
            torch.save(vars(state), buffer)
            write_atomically(state_file, buffer.getvalue())
            save(options.out, frames)
            shown = {k: frames.about[k] for k in ("frames", "weighted_share", "mean_energy_of_halves")}
            print(f"{frames.about['seconds']:6.0f} s", shown, flush=True)
        if ends:
            break

    some = frames.x.reshape(-1, *start.shape)[:: max(1, frames.log_w.size // 2000)]
    again = molecule.energy(lowest, backend="torch").energy(torch.from_numpy(some).double()).detach().numpy()
    off = float(np.abs(again - frames.u.ravel()[:: max(1, frames.log_w.size // 2000)]).max())
    print(f"energies kept differ from those in double precision by {off:.1e} kT at most")
    if not off < 1e-2 * math.sqrt(len(start)):
        raise SystemExit("they must agree: run with --no-compile")


if __name__ == "__main__":
    main()
