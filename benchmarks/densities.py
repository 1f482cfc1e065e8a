"""Every family of flows on the same densities: forward divergence, parameters and the cost of each direction.

    OMP_NUM_THREADS=1 python benchmarks/densities.py

Five laws in two dimensions and one in six, all drawn and evaluated exactly, so that the forward divergence
KL(p‖q) = E_p[log p − log q] of 20 000 fresh draws is known up to its standard error. Every family learns each by
maximum likelihood in the same number of steps, of the same batches, at the same learning rate: small flows, a short
training, no search for the best settings of any. Gaussianization is not trained; it reads off 20 000 draws.
Costs are processor time of one thread. Every divergence has a bound, about a quarter above what was found once; one
that is exceeded fails the run, after all is written: benchmarks/results/densities.json, and densities.md beside it, the
table of what is in the former. The table alone, of what is on file:

    python benchmarks/densities.py --table
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import about
from torch import Tensor

import boltzgen as bg
from boltzgen.flows import (
    Composition,
    Continuous,
    Flow,
    GaussianMixture,
    Normal,
    Planar,
    Radial,
    gaussianization,
)

STEPS, BATCH = 150, 256

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=STEPS)
parser.add_argument("--batch", type=int, default=BATCH)
parser.add_argument("--quick", action="store_true", help="20 steps")
parser.add_argument("--family", help="train this one alone, by its name in the table, and keep the other rows on file")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "densities.json")

parser.add_argument("--table", action="store_true", help="train nothing: make the table of what is on file")

N_TEST, N_TIMED = 20_000, 4096
LOG_2PI = math.log(2 * math.pi)

Draw = Callable[[int], Tensor]
LogDensity = Callable[[Tensor], Tensor]


def log_normal(x: Tensor, mean: Tensor | float, scale: Tensor | float) -> Tensor:
    scale = torch.as_tensor(scale)
    return -0.5 * ((x - mean) / scale).square() - scale.log() - 0.5 * LOG_2PI


def polar(r: Tensor, theta: Tensor) -> Tensor:
    return torch.stack([r * theta.cos(), r * theta.sin()], 1)


def draw_crescents(n: int) -> Tensor:
    theta = 2 * math.pi * torch.rand(8 * n + 100)
    theta = theta[torch.rand(len(theta)) < (1 + 0.95 * (2 * theta).cos()) / 1.95][:n]
    return polar(2 + 0.25 * torch.randn(n), theta)


def crescents(x: Tensor) -> Tensor:
    r, theta = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    return log_normal(r, 2, 0.25) + (1 + 0.95 * (2 * theta).cos()).log() - LOG_2PI - r.log()


def draw_rings(n: int) -> Tensor:
    r = torch.where(torch.rand(n) < 0.4, 1.0, 2.5) + 0.15 * torch.randn(n)
    return polar(r, 2 * math.pi * torch.rand(n))


def rings(x: Tensor) -> Tensor:
    r = x.norm(dim=1)
    parts = [log_normal(r, 1, 0.15) + math.log(0.4), log_normal(r, 2.5, 0.15) + math.log(0.6)]
    return torch.stack(parts).logsumexp(0) - LOG_2PI - r.log()


CENTRES = polar(torch.full((8,), 2.5), math.pi / 4 * torch.arange(8))


def draw_eight_normals(n: int) -> Tensor:
    return CENTRES[torch.randint(8, (n,))] + 0.3 * torch.randn(n, 2)


def eight_normals(x: Tensor) -> Tensor:
    return log_normal(x[:, None], CENTRES, 0.3).sum(-1).logsumexp(1) - math.log(8)


def draw_wave(n: int) -> Tensor:
    x = 1.5 * torch.randn(n)
    return torch.stack([x, 2 * (2 * x).sin() + 0.3 * torch.randn(n)], 1)


def wave(x: Tensor) -> Tensor:
    return log_normal(x[:, 0], 0, 1.5) + log_normal(x[:, 1], 2 * (2 * x[:, 0]).sin(), 0.3)


def draw_chessboard(n: int) -> Tensor:
    column, row = torch.randint(4, (n,)), torch.randint(2, (n,))
    corner = torch.stack([column, 2 * row + column % 2], 1) - 2
    return corner + torch.rand(n, 2)


def chessboard(x: Tensor) -> Tensor:
    return torch.full((len(x),), -math.log(8))  # on its black fields, where all draws lie


def draw_funnel(n: int) -> Tensor:
    v = 1.5 * torch.randn(n, 1)
    return torch.cat([v, (v / 2).exp() * torch.randn(n, 5)], 1)


def funnel(x: Tensor) -> Tensor:
    return log_normal(x[:, 0], 0, 1.5) + log_normal(x[:, 1:], 0, (x[:, :1] / 2).exp()).sum(1)


DENSITIES: dict[str, tuple[int, Draw, LogDensity]] = {
    "crescents": (2, draw_crescents, crescents),
    "rings": (2, draw_rings, rings),
    "eight normals": (2, draw_eight_normals, eight_normals),
    "wave": (2, draw_wave, wave),
    "chessboard": (2, draw_chessboard, chessboard),
    "funnel, 6-D": (6, draw_funnel, funnel),
}

HIDDEN = (32, 32)


def mixture(d: int) -> Flow:
    means = 2 * torch.randn(8, d, generator=torch.Generator().manual_seed(0))
    couplings = bg.coupling_flow(d, transform="affine", layers=4, hidden=HIDDEN)
    return Flow(GaussianMixture(means, scales=0.5), couplings.bijection)


FAMILIES: dict[str, Callable[[int], Flow]] = {
    "NICE, additive couplings": lambda d: bg.coupling_flow(d, transform="additive", hidden=HIDDEN),
    "RealNVP, affine couplings": lambda d: bg.coupling_flow(d, transform="affine", hidden=HIDDEN),
    "spline couplings": lambda d: bg.coupling_flow(d, hidden=HIDDEN),
    "logistic couplings": lambda d: bg.coupling_flow(d, transform="logistic", layers=4, hidden=HIDDEN),
    "MAF, affine": lambda d: bg.maf(d, layers=6, hidden=HIDDEN),
    "MAF, splines": lambda d: bg.maf(d, transform="spline", hidden=HIDDEN),
    "IAF, splines": lambda d: bg.iaf(d, transform="spline", layers=2, hidden=HIDDEN),
    "planar, 16 layers": lambda d: Flow(Normal(d), Composition([Planar(d) for _ in range(16)])),
    "radial, 16 layers": lambda d: Flow(Normal(d), Composition([Radial(d) for _ in range(16)])),
    "continuous, 4 steps of RK4": lambda d: Flow(Normal(d), Continuous(d, hidden=HIDDEN, steps=4)),
    "mixture of 8, affine couplings": mixture,
}
GAUSSIANIZATION = "Gaussianization, 16 layers"
BOUNDS = {  # of KL(p‖q), of the densities in their order, after STEPS steps of BATCH draws
    "NICE, additive couplings": (2.0, 1.7, 3.2, 0.75, 1.3, 5.5),
    "RealNVP, affine couplings": (0.45, 1.0, 1.2, 0.45, 0.9, 0.03),
    "spline couplings": (0.05, 0.3, 0.2, 0.25, 0.7, 0.05),
    "logistic couplings": (0.06, 0.25, 0.35, 0.4, 0.7, 0.05),
    "MAF, affine": (0.6, 1.2, 1.5, 0.9, 1.3, 0.15),
    "MAF, splines": (0.06, 0.4, 0.3, 0.35, 0.7, 0.2),
    "IAF, splines": (0.1, 0.5, 0.35, 0.35, 0.75, 0.3),
    "planar, 16 layers": (1.1, 1.2, 1.3, 1.8, 1.2, 5.5),
    "radial, 16 layers": (1.4, 1.2, 1.6, 1.9, 1.3, 5.5),
    "continuous, 4 steps of RK4": (0.4, 1.1, 0.9, 1.7, 1.1, 1.7),
    "mixture of 8, affine couplings": (0.65, 1.0, 0.8, 1.7, 0.8, 2.4),
    GAUSSIANIZATION: (0.15, 0.25, 0.4, 0.35, 0.5, 1.2),
}
COSTS = ("parameters", "microseconds_a_draw", "microseconds_a_density")


def microseconds(call: Callable[[], object], turns: int = 3) -> float:
    times = []
    for _ in range(turns):
        start = time.process_time()
        call()
        times.append((time.process_time() - start) / N_TIMED * 1e6)
    return min(times)


@torch.no_grad()
def row_of(flow: Flow, log_p: LogDensity, test: Tensor) -> dict[str, float]:
    terms = log_p(test) - flow.log_prob(test)
    return {
        "kl": float(terms.mean()),
        "kl_error": float(terms.std() / len(terms) ** 0.5),
        "parameters": sum(p.numel() for p in flow.parameters()),
        "microseconds_a_draw": microseconds(lambda: flow.sample(N_TIMED, seed=0)),
        "microseconds_a_density": microseconds(lambda: flow.log_prob(test[:N_TIMED])),
    }


def exceeded(result: dict[str, Any]) -> list[str]:
    """Which divergences are above their bounds, if they are those of the training the bounds are meant for."""
    if (result["steps"], result["batch"]) != (STEPS, BATCH):
        return []
    return [
        f"{name}, {density}: {result['rows'][name][density]['kl']:.3f} > {bound}"
        for name, bounds in BOUNDS.items()
        for density, bound in zip(DENSITIES, bounds, strict=True)
        if result["rows"][name][density]["kl"] > bound
    ]


def costs(of_density: dict[str, dict[str, float]]) -> list[str]:
    """Parameters and microseconds, in two dimensions (the median of the densities) and in six."""
    in_2d = [statistics.median(of_density[k][c] for k in DENSITIES if DENSITIES[k][0] == 2) for c in COSTS]
    in_6d = [of_density["funnel, 6-D"][c] for c in COSTS]
    return [
        f"{a:.0f}, {b:.0f}" if c == "parameters" else f"{a:.1f}, {b:.1f}"
        for c, a, b in zip(COSTS, in_2d, in_6d, strict=True)
    ]


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    head = ["KL(p‖q) and its bound", *DENSITIES, "parameters in 2-D, 6-D", "µs a draw", "µs a density"]
    lines = [
        f"{result['steps']} steps of {result['batch']} draws, learning rate {result['learning_rate']}; KL of "
        f"{result['test_draws']} fresh draws; processor time of one thread. Made by `benchmarks/densities.py`.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    for name, of_density in result["rows"].items():
        kls = [
            f"{of_density[density]['kl']:.3f} ± {of_density[density]['kl_error']:.3f} < {bound}"
            for density, bound in zip(DENSITIES, BOUNDS[name], strict=True)
        ]
        lines.append("| " + " | ".join([name, *kls, *costs(of_density)]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    options = parser.parse_args()
    if options.table:
        options.out.with_suffix(".md").write_text(table(json.loads(options.out.read_text())))
        return
    torch.set_num_threads(1)
    steps = 20 if options.quick else options.steps
    started = time.monotonic()
    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in [*FAMILIES, GAUSSIANIZATION]}
    if options.family is not None:
        if options.family not in rows:
            parser.error(f"--family must be one of {', '.join(rows)}; got {options.family!r}")
        before = json.loads(options.out.read_text())
        if (before["steps"], before["batch"]) != (steps, options.batch):
            parser.error(f"the rows on file took {before['steps']} steps of {before['batch']}: pass the same")
        rows = {options.family: {}}
    print(f"{'KL(p‖q)':32}" + "".join(f"{density:>15}" for density in DENSITIES))
    for name, of_density in rows.items():
        print(f"{name:32}", end="", flush=True)
        for density, (d, draw, log_p) in DENSITIES.items():
            torch.manual_seed(0)
            if name == GAUSSIANIZATION:
                flow = gaussianization(draw(20_000), bins=32)
            else:
                flow = FAMILIES[name](d)
                bg.train(
                    flow,
                    lambda q, draw=draw: bg.forward_kl(q, draw(options.batch)),
                    steps=steps,
                    learning_rate=5e-3,
                    progress=False,
                )
            torch.manual_seed(1)
            row = row_of(flow, log_p, draw(N_TEST))
            of_density[density] = row
            print(f"{row['kl']:15.3f}", end="", flush=True)
            assert row["kl"] > -5 * row["kl_error"], "a density cannot be nearer to p than p itself"
        print()
    if options.family is not None:
        rows = {**before["rows"], **rows}
    print(f"\n{'in 2-D and 6-D':32}{'parameters':>20}{'µs a draw':>20}{'µs a density':>20}")
    for name, of_density in rows.items():
        print(f"{name:32}" + "".join(f"{cell:>20}" for cell in costs(of_density)))
    result = {
        "steps": steps,
        "batch": options.batch,
        "learning_rate": 5e-3,
        "hidden": HIDDEN,
        "test_draws": N_TEST,
        "seconds": round(time.monotonic() - started),
        "rows": rows,
        **about(),
    }
    if options.family is not None:  # what else is said there holds for the other rows
        result = {**before, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    options.out.with_suffix(".md").write_text(table(result))
    if found := exceeded(result):
        raise SystemExit("bounds exceeded: " + "; ".join(found))


if __name__ == "__main__":
    main()
