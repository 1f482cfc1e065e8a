"""Thirteen Lennard-Jones particles: a flow with their symmetries, matched to frames of replica exchange.

    OMP_NUM_THREADS=1 python benchmarks/particles.py lj13 --frames LJ13.npz
    OMP_NUM_THREADS=1 python benchmarks/particles.py lj13_twice --frames LJ13_TWICE.npz

The two conventions are two targets, and never in one row. Frames are made first if the file is not there: ladders of
Metropolis-corrected trajectories from one structure, all evaluations counted. Half of the walkers teach
(`flow_matching`), the others are compared with: their mean energy with that of the weighted draws, and the evidence
upper bound E_p[log w] with log Z, which lies far above where the flow lacks something. What the steps of the
integration do to weights is told as well: the root mean square by which log q differs from that in four times as many.
Writes results/particles.json; seeds that are in it are left alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import about
from references import between
from torch import Tensor

import boltzgen as bg
from boltzgen.files import atomically, write_atomically
from boltzgen.flows import Continuous, Flow, Normal, ParticleVelocity
from boltzgen.molecule import find
from boltzgen.reweighting import clipped_effective_sample_size
from boltzgen.sampling.dynamics import replica_exchange

LADDERS = {"lj13": (2.0, 4), "lj13_twice": (2.2, 5)}
"""hottest temperature, and how many."""
REACH, STEPS = 5.0, 15
"""of the velocity's Gaussians; of the integration from 0 to 1."""
BATCH, RATE = 256, 3e-3
CHECKED = 300
"""draws whose log q is compared with that in four times as many steps."""


def frames(name: str, rounds: int, walkers: int, seed: int = 1) -> dict[str, np.ndarray]:
    """x (rounds, walkers, 36) and u (rounds, walkers) at temperature 1, and what they cost."""
    system = find(name)
    energy = system.energy()
    hottest, count = LADDERS[name]
    begin = time.monotonic()
    run = replica_exchange(
        energy, torch.tensor(system.check_point, dtype=torch.float64), 1.0, np.geomspace(1.0, hottest, count).tolist(),
        walkers=walkers, rounds=rounds, equilibration=rounds // 2, steps=15, step_size=0.03, seed=seed,
    )  # fmt: skip
    return {
        "x": run.x.numpy().astype(np.float32),
        "u": run.u[:, 0].numpy(),
        "evaluations": np.array(energy.evaluations.total),
        "seconds": np.array(time.monotonic() - begin),
    }


def mean_energy(u: np.ndarray) -> list[float]:
    """⟨u⟩ and its error between walkers, which know nothing of each other."""
    return list(between(torch.from_numpy(u)).values())


def flow_of(target: bg.Pullback, scale: float, seed: int) -> Flow:
    """Along `ParticleVelocity`, from the normal law, in RK4 steps of 1/STEPS."""
    velocity = ParticleVelocity(
        target.inner.basis, reach=REACH, scale=scale, generator=torch.Generator().manual_seed(seed)
    )
    return Flow(Normal(velocity.dim, scale=scale), Continuous(velocity.dim, velocity, steps=STEPS))


def with_steps(flow: Flow, steps: int) -> Flow:
    """The flow along the same velocity in so many steps."""
    return Flow(flow.base, Continuous(flow.event_shape[0], flow.bijection.velocity, steps=steps))


def recorded(path: Path) -> dict[str, list[dict[str, Any]]]:
    return json.loads(path.read_text()) if path.exists() else {}


def row(name: str, seed: int, made: dict[str, np.ndarray], options: argparse.Namespace) -> dict[str, Any]:
    target, x = find(name).energy(), torch.from_numpy(made["x"])
    half = x.shape[1] // 2
    taught, held = x[:, :half].flatten(0, 1), x[:, half:].flatten(0, 1)
    flow, begin = flow_of(target, float(taught.std()), seed), time.monotonic()

    def objective(q: Flow) -> Tensor:
        return bg.flow_matching(q, taught[torch.randint(len(taught), (BATCH,))])

    bg.train(
        flow, objective, steps=options.steps, learning_rate=RATE, decay=0.998, seed=seed, progress=options.progress
    )
    seconds = time.monotonic() - begin
    samples = bg.draw(flow, target, options.n, seed=1000 + seed)
    some = torch.randperm(len(held), generator=torch.Generator().manual_seed(seed))[: options.n // 5]
    known = bg.weigh(flow, target, held[some])
    finer = with_steps(flow, 4 * STEPS).log_prob(samples.x[:CHECKED]).detach()
    log_z, energy = bg.log_partition(samples.log_w), bg.expectation(samples.log_w, samples.u)
    return {
        "seed": seed,
        "steps": options.steps,
        "frames": len(taught),
        "training_samples": options.steps * BATCH,
        "evaluations": int(made["evaluations"]),
        "seconds": seconds,
        "seconds_of_frames": float(made["seconds"]),
        "draws": options.n,
        "ess_fraction": bg.effective_sample_size(samples.log_w) / options.n,
        "ess_fraction_clipped": clipped_effective_sample_size(samples.log_w) / options.n,
        "pareto_k": bg.pareto_k(samples.log_w),
        "log_z": [log_z.value, log_z.standard_error],
        "mean_energy": [energy.value, energy.standard_error],
        "mean_energy_of_frames": mean_energy(made["u"][:, half:]),
        "log_q_off": float((finer - samples.log_q[:CHECKED]).square().mean().sqrt()),
        "eubo_gap": float(known.log_w.mean()) - log_z.value,
        **about(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=LADDERS)
    parser.add_argument("--frames", type=Path, required=True, help="file of the frames (.npz), made if it is not there")
    parser.add_argument("--rounds", type=int, default=400, help="of replica exchange, after half as many")
    parser.add_argument("--walkers", type=int, default=200)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("-n", type=int, default=20_000, help="draws of the evaluation")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "particles.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.frames.exists():
        made = frames(options.name, options.rounds, options.walkers)
        with atomically(options.frames) as path:
            np.savez(path, **made)
    with np.load(options.frames, allow_pickle=False) as file:
        made = dict(file)
    halves = [mean_energy(part) for part in np.array_split(made["u"], 2)]
    print("mean energy of the frames' halves:", *(f"{value:.3f} ± {error:.3f}" for value, error in halves), flush=True)
    for seed in options.seeds:
        before = recorded(options.out).get(options.name, [])
        if any((one["steps"], one["draws"]) != (options.steps, options.n) for one in before):
            parser.error(f"{options.out} must be of {options.steps} steps and {options.n} draws: pass another --out")
        if any(one["seed"] == seed for one in before):
            print(f"seed {seed}: in {options.out} already")
            continue
        found = row(options.name, seed, made, options)
        print(
            f"seed {seed}: ESS {100 * found['ess_fraction']:.1f} % (clipped "
            f"{100 * found['ess_fraction_clipped']:.1f} %), k {found['pareto_k']:.2f}, log Z {found['log_z'][0]:.3f} ± "
            f"{found['log_z'][1]:.3f}, mean energy {found['mean_energy'][0]:.3f} ± {found['mean_energy'][1]:.3f}, "
            f"EUBO gap {found['eubo_gap']:.3f}, {found['seconds']:.0f} s",
            flush=True,
        )
        record = recorded(options.out)  # again, since the other target may have been written meanwhile
        record.setdefault(options.name, []).append(found)
        write_atomically(options.out, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
