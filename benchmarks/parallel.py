"""Training and sampling of alanine dipeptide in one process and in several, by turns, on an idle machine.

    OMP_NUM_THREADS=1 python benchmarks/parallel.py

Each process has one thread. A rate is that of the median turn, start-up and the first steps left out; a ratio compares
several processes with one in the same run. Writes benchmarks/results/parallel.json and prints a table.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import boltzgen as bg
from boltzgen.processes import distributed

BATCH = 1024

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
parser.add_argument("--turns", type=int, default=5)
parser.add_argument("--steps", type=int, default=60, help="gradient steps of a turn")
parser.add_argument("--draws", type=int, default=40_960, help="draws of a turn")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "parallel.json")
parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)


def work(steps: int, draws: int, out: Path) -> None:
    """One process of several: seconds of a gradient step of forward and of reverse KL, of their exchange, of a draw."""
    torch.set_num_threads(1)
    with distributed() as team:
        generator = bg.BoltzmannGenerator.load("alanine_dipeptide")
        flow, target = generator.flow, generator.target
        x, _ = flow.sample(BATCH, seed=0)

        def forward() -> torch.Tensor:
            return bg.forward_kl(flow, x)

        def reverse() -> torch.Tensor:
            return bg.reverse_kl(flow, target, BATCH // 2, soften=20.0)

        found = {}
        for name, loss in (("forward", forward), ("reverse", reverse)):
            for k in range(steps + 5):
                if k == 5:
                    begin = time.perf_counter()
                flow.zero_grad()
                loss().backward()
                team.average_gradients(list(flow.parameters()))
            found[name] = (time.perf_counter() - begin) / steps
        begin = time.perf_counter()
        for _ in range(steps):
            team.average_gradients(list(flow.parameters()))
        found["exchange"] = (time.perf_counter() - begin) / steps
        generator.sample(4096, seed=0)
        begin = time.perf_counter()
        generator.sample(draws, seed=1)
        found["draw"] = (time.perf_counter() - begin) / draws
        if team.leads:
            out.write_text(json.dumps(found))


def turn(processes: int, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            __file__,
        ]
        command += ["--steps", str(options.steps), "--draws", str(options.draws), "--worker", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        found: dict[str, float] = json.loads(out.read_text())
        return found


def main() -> None:
    options = parser.parse_args()
    if options.worker is not None:
        work(options.steps, options.draws, options.worker)
        return
    turns: dict[int, list[dict[str, float]]] = {k: [] for k in options.processes}
    load = os.getloadavg()
    for _ in range(options.turns):
        for processes in options.processes:
            turns[processes].append(turn(processes, options))
    names = ("forward", "reverse", "exchange", "draw")
    medians = {k: {name: statistics.median(one[name] for one in found) for name in names} for k, found in turns.items()}
    first = medians[options.processes[0]]
    rows = [
        {
            "processes": k,
            "seconds": row,
            "ratio": {name: first[name] / row[name] for name in names if name != "exchange"},
        }
        for k, row in medians.items()
    ]
    print(
        f"{'processes':>9}  {'forward KL, 1024 rows':>22}  {'reverse KL, 512 rows':>22}  {'exchange':>9}  {'draw':>18}"
    )
    for row in rows:
        s, r = row["seconds"], row["ratio"]
        print(
            f"{row['processes']:>9}  {1e3 * s['forward']:>12.1f} ms {r['forward']:>5.2f} x"
            f"  {1e3 * s['reverse']:>12.1f} ms {r['reverse']:>5.2f} x  {1e3 * s['exchange']:>6.1f} ms"
            f"  {1e6 * s['draw']:>8.1f} us {r['draw']:>5.2f} x"
        )
    record = {"rows": rows, "turns": options.turns, "load_before": load[0], "machine": platform.processor(),
              "processors": os.cpu_count(), "torch": torch.__version__}  # fmt: skip
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
