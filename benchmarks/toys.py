"""Targets whose answers are known, from their energy alone: the default training, and how far it is from the truth.

    OMP_NUM_THREADS=1 python benchmarks/toys.py --minutes 2 --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/toys.py --targets gmm40 --minutes 4
    OMP_NUM_THREADS=1 python benchmarks/toys.py --targets double_well -n 3000000

The flow is the default one but for those in `FLOWS`. Effective share of fresh draws, unclipped; error of log Z and of
F_b - F_a where exact values are known; KL(p || q) of 20 000 exact draws of the target where there are such, in which
whatever the flow lost shows. DW4 is learned on the chart of its shapes; of clusters there are the mean energy and
the virial E_p[x·∇u], which is the number of dimensions, with their errors.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from machine import about

import boltzgen as bg
from boltzgen.coordinates import PlanarQuartet
from boltzgen.energies.toys import DW4, MuellerBrown

TARGETS = {
    "double_well": bg.toys.DoubleWell,
    "mueller_brown_0.1": lambda: MuellerBrown(0.1),
    "mueller_brown_0.15": lambda: MuellerBrown(0.15),
    "gmm40": lambda: bg.toys.load("gmm40"),
    "many_well": lambda: bg.toys.load("many_well"),
    "dw4": lambda: bg.Pullback(DW4(), PlanarQuartet()),
    "lj13": lambda: bg.toys.load("lj13", pairs_counted=1),
    "lj13_twice": lambda: bg.toys.load("lj13", pairs_counted=2),
}

FLOWS = {"gmm40": {"layers": 2, "bins": 48, "frequencies": 8, "scale": 20.0}}
"""Arguments of `coupling_flow` where they are not the defaults."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--minutes", type=float, default=2.0, help="of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("-n", type=int, default=300_000, help="draws of the evaluation")
    parser.add_argument("--flow", type=json.loads, help="arguments of coupling_flow as JSON (default: those of FLOWS)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "toys.json")
    options = parser.parse_args()
    record = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.targets:
        record[name] = [row(name, seed, options) for seed in options.seeds]
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def row(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    target = TARGETS[name]()
    structure = FLOWS.get(name, {}) if options.flow is None else options.flow
    flow = bg.coupling_flow(target.event_shape.numel(), seed=seed, **structure)
    generator = bg.BoltzmannGenerator(target, flow=flow, seed=seed)
    history = generator.train(minutes=options.minutes, progress=False)
    samples = generator.sample(options.n, seed=1000 + seed)
    log_z = bg.log_partition(samples.log_w)
    found: dict[str, Any] = {
        "seed": seed,
        "minutes": options.minutes,
        "flow": structure,
        "draws": options.n,
        "ess_fraction": bg.effective_sample_size(samples.log_w) / len(samples),
        "pareto_k": bg.pareto_k(samples.log_w),
        "log_z": [log_z.value, log_z.standard_error],
        "evaluations": history.evaluations,
        "seconds": history.seconds,
        **about(),
    }
    if hasattr(target, "log_partition"):
        found["log_z_error"] = log_z.value - target.log_partition()
        few = bg.log_partition(samples.log_w[:2000])
        found["log_z_error_2000"] = few.value - target.log_partition()
    if hasattr(target, "free_energy_difference"):
        change = bg.free_energy_difference(samples.log_w, target.in_a(samples.x), target.in_b(samples.x))
        found["free_energy_error"] = [change.value - target.free_energy_difference(), change.standard_error]
    if hasattr(target, "sample"):
        known = generator.weigh(target.sample(20_000, seed=seed))
        gap = known.log_w.mean() - target.log_partition()
        found["forward_kl"] = [float(gap), float(known.log_w.std()) / math.sqrt(len(known))]
    if isinstance(target, bg.Pullback):
        found |= moments(target, samples)
    if name == "gmm40":
        centres = target.locs
        nearest = torch.cdist(samples.x.double(), centres.double()).argmin(1)
        found["modes"] = int((torch.bincount(nearest, minlength=40) > 0).sum())
    kl = f", KL(p || q) {found['forward_kl'][0]:.4f}" if "forward_kl" in found else ""
    error = f", log Z off by {found['log_z_error']:+.4f}" if "log_z_error" in found else ""
    print(
        f"{name:<20} seed {seed}: {100 * found['ess_fraction']:.2f} %, k {found['pareto_k']:.2f}{error}{kl}", flush=True
    )
    return found


def moments(target: bg.Pullback, samples: bg.Samples) -> dict[str, list[float]]:
    """Mean energy and virial, with their errors, of a cluster of particles."""
    x = target.bijection(samples.x.double())[0].requires_grad_()
    u = target.inner.energy(x)
    (gradient,) = torch.autograd.grad(u.sum(), x)
    virial = (x.detach() * gradient).sum(1)
    estimates = {"mean_energy": u.detach(), "virial": virial}
    found = {key: bg.expectation(samples.log_w, values) for key, values in estimates.items()}
    return {key: [estimate.value, estimate.standard_error] for key, estimate in found.items()}


if __name__ == "__main__":
    main()
