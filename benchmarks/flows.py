"""A spline coupling flow of the size of a dipeptide: boltzgen against normflows and zuko, µs per sample.

    OMP_NUM_THREADS=1 python benchmarks/flows.py

60 dimensions of which 19 are angles, 12 couplings, 8 bins, networks of two hidden layers of 256, batches of 1024,
float32, processor time of one thread on one core. The libraries take turns, so that what else the machine does falls on
all of them alike; ratios are of medians. A row of its own has the matrix products alone that the networks of boltzgen's
flow cannot do without, forwards and backwards: nothing in float32 with these networks can be faster. A library that is
not installed is left out. What a user of each would write is not quite the same flow: normflows' network has a residual
block, hence a third layer of 256, and it also transforms the dimensions given, by constants; zuko does not mix linear
and circular splines in one layer, so that its angles are linear dimensions, and it has two ways to a coupling, a layer
of its own and its autoregressive layer in two passes (`NSF(passes=2)`).
Writes benchmarks/results/flows.json and prints a table.
"""

import argparse
import importlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import about
from torch import Tensor

import boltzgen as bg

DIM, ANGLES, LAYERS, BINS, HIDDEN = 60, 19, 12, 8, 256
CIRCULAR = [i % 3 == 2 for i in range(DIM)]
CIRCULAR[59] = False  # 19 of them
FLOOR = "matrix products alone"
TASKS = ("draw with gradient", "density with gradient", "draw")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--batch", type=int, default=1024)
parser.add_argument("--turns", type=int, default=15)
parser.add_argument(
    "--no-compile", action="store_true", help="leave out the compiled row, which takes minutes to build"
)
parser.add_argument("--quick", action="store_true", help="three turns, not compiled")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "flows.json")

Push = Callable[[int], tuple[Tensor, Tensor]]
Pull = Callable[[Tensor], Tensor]


def ours() -> tuple[torch.nn.Module, Push, Pull]:
    flow = bg.coupling_flow(DIM, layers=LAYERS, transform="spline", hidden=(HIDDEN, HIDDEN), circular=CIRCULAR)
    return flow, flow.rsample, flow.log_prob


def ours_compiled() -> tuple[torch.nn.Module, Push, Pull]:
    flow, _, _ = ours()
    push = torch.compile(flow._push, dynamic=False)
    pull = torch.compile(flow._pull, dynamic=False)
    return flow, lambda n: push(flow.base.sample(n), None), lambda x: pull(x, None)


def of_normflows() -> tuple[torch.nn.Module, Push, Pull]:
    nf = importlib.import_module("normflows")
    angles = [i for i in range(DIM) if CIRCULAR[i]]
    bound = torch.where(torch.tensor(CIRCULAR), math.pi, 5.0)
    layers = [
        nf.flows.CircularCoupledRationalQuadraticSpline(
            DIM, 1, HIDDEN, angles, num_bins=BINS, tail_bound=bound, reverse_mask=bool(k % 2)
        )
        for k in range(LAYERS)
    ]
    flow = nf.NormalizingFlow(
        nf.distributions.UniformGaussian(DIM, angles, torch.where(bound > 4, 1.0, 2 * bound)), layers
    )
    return flow, flow.sample, flow.log_prob


def of_zuko_in_passes() -> tuple[torch.nn.Module, Push, Pull]:
    zuko = importlib.import_module("zuko")
    flow = zuko.flows.NSF(DIM, transforms=LAYERS, bins=BINS, passes=2, hidden_features=(HIDDEN, HIDDEN))
    return flow, lambda n: flow().rsample_and_log_prob((n,)), lambda x: flow().log_prob(x)


def of_zuko() -> tuple[torch.nn.Module, Push, Pull]:
    zuko = importlib.import_module("zuko")
    layers = [
        zuko.flows.GeneralCouplingTransform(
            DIM,
            mask=torch.arange(DIM) % 2 == k % 2,
            univariate=zuko.transforms.MonotonicRQSTransform,
            shapes=[(BINS,), (BINS,), (BINS - 1,)],
            hidden_features=(HIDDEN, HIDDEN),
        )
        for k in range(LAYERS)
    ]
    base = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(DIM), torch.ones(DIM), buffer=True
    )
    flow = zuko.lazy.Flow(layers, base)
    return flow, lambda n: flow().rsample_and_log_prob((n,)), lambda x: flow().log_prob(x)


def matrix_products(flow: torch.nn.Module, n: int) -> dict[str, Callable[[], Any]]:
    """What no implementation of these networks can leave out: y = W x; for a gradient also Wᵀ g and g xᵀ."""
    weights = [p.detach() for p in flow.parameters() if p.ndim == 2]
    inputs, outputs = [torch.randn(w.shape[1], n) for w in weights], [torch.randn(w.shape[0], n) for w in weights]

    def draw() -> None:
        for w, x in zip(weights, inputs, strict=True):
            w @ x

    def with_gradient() -> None:
        draw()
        for w, x, g in zip(weights, inputs, outputs, strict=True):
            w.T @ g
            g @ x.T

    return dict(zip(TASKS, (with_gradient, with_gradient, draw), strict=True))


def calls(flow: torch.nn.Module, push: Push, pull: Pull, x: Tensor) -> dict[str, Callable[[], Any]]:
    parameters = [p for p in flow.parameters() if p.requires_grad]

    def draw_with_gradient() -> object:
        y, log_q = push(len(x))
        return torch.autograd.grad((y.square().sum(-1) + log_q).mean(), parameters, allow_unused=True)

    def density_with_gradient() -> object:
        return torch.autograd.grad(-pull(x).mean(), parameters, allow_unused=True)

    @torch.no_grad()
    def draw() -> object:
        return push(len(x))

    return dict(zip(TASKS, (draw_with_gradient, density_with_gradient, draw), strict=True))


def kept_for_backward(push: Push, n: int) -> float:
    """Kilobytes per sample that autograd keeps between forward and backward, each tensor counted once."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        x, log_q = push(n)
    total = sum(sizes.values())
    del x, log_q
    return total / n / 1e3


def measure(methods: dict[str, dict[str, Callable[[], Any]]], n: int, turns: int) -> dict[str, dict[str, list[float]]]:
    times: dict[str, dict[str, list[float]]] = {name: {task: [] for task in TASKS} for name in methods}
    for turn in range(turns + 2):
        for name, tasks in methods.items():
            for task, call in tasks.items():
                start = time.process_time()
                call()
                if turn > 1:
                    times[name][task].append((time.process_time() - start) / n * 1e6)
    return times


def main() -> None:
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.manual_seed(0)
    builders = {
        "boltzgen": ours,
        "boltzgen, compiled": ours_compiled,
        "normflows": of_normflows,
        "zuko": of_zuko,
        "zuko, two passes": of_zuko_in_passes,
    }
    if options.quick or options.no_compile:
        del builders["boltzgen, compiled"]
    normal, angle = torch.randn(options.batch, DIM), math.pi * (2 * torch.rand(options.batch, DIM) - 1)
    x = torch.where(torch.tensor(CIRCULAR), angle, normal)
    methods, rows = {}, {}
    for name, build in builders.items():
        try:
            flow, push, pull = build()
        except ImportError:
            print(f"{name} is not installed: left out")
            continue
        methods[name] = calls(flow, push, pull, x)
        rows[name] = {"parameters": sum(p.numel() for p in flow.parameters())}
        if "compiled" not in name:
            rows[name]["kilobytes_kept_per_sample"] = kept_for_backward(push, options.batch)
        if name == "boltzgen":
            methods[FLOOR] = matrix_products(flow, options.batch)
            rows[FLOOR] = {"parameters": sum(p.numel() for p in flow.parameters() if p.ndim == 2)}
    times = measure(methods, options.batch, 3 if options.quick else options.turns)
    for name, row in rows.items():
        row["microseconds"] = {
            task: {"median": statistics.median(t), "minimum": min(t)} for task, t in times[name].items()
        }
    print(f"{'µs per sample, median':24}" + "".join(f"{task:>24}" for task in TASKS) + "   parameters   kB kept")
    for name, row in rows.items():
        medians = [row["microseconds"][task]["median"] for task in TASKS]
        kept = row.get("kilobytes_kept_per_sample")
        print(
            f"{name:24}"
            + "".join(f"{m:24.1f}" for m in medians)
            + f"{row['parameters']:13}"
            + (f"{kept:10.0f}" if kept else "")
        )
    for name in rows:
        for other in ("normflows", "zuko", "zuko, two passes", FLOOR):
            if name.startswith("boltzgen") and other in rows:
                ratios = {
                    task: rows[other]["microseconds"][task]["median"] / rows[name]["microseconds"][task]["median"]
                    for task in TASKS
                }
                rows[name][f"times_as_fast_as_{other}"] = ratios
                print(f"{name} over {other}: " + ", ".join(f"{task} {r:.1f} x" for task, r in ratios.items()))
    result = {
        "dimensions": DIM,
        "circular": ANGLES,
        "couplings": LAYERS,
        "bins": BINS,
        "hidden": [HIDDEN, HIDDEN],
        "batch": options.batch,
        "dtype": "float32",
        "threads": 1,
        "clock": "processor time",
        "rows": rows,
        **about(*(name for name in ("normflows", "zuko") if name in rows)),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
