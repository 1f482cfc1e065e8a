"""Training and sampling of alanine dipeptide in one process and in several, by turns, on an idle machine.

    OMP_NUM_THREADS=1 python benchmarks/parallel.py

Rows: one process of one thread; one of several threads; several processes that share the work; and as many that do a
share of it each and never wait for each other, like `sample --shard`, which is the most that sharing could reach. What
the processors can do together is told by the products of matrices, all of which every process does.

A time is that of the median turn, start-up and the first steps left out; a ratio compares with one process in the same
run. Writes benchmarks/results/parallel.json and prints a table.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from machine import about

import boltzgen as bg
from boltzgen.processes import Ranks, distributed

BATCH, LARGE = 1024, 8
WHAT = {
    "forward": ("forward KL, 1024 rows", 1e3, "ms"),
    "reverse": ("reverse KL, 512 rows", 1e3, "ms"),
    "forward_large": ("forward KL, 8192 rows", 1e3, "ms"),
    "reverse_large": ("reverse KL, 4096 rows", 1e3, "ms"),
    "exchange": ("exchange", 1e3, "ms"),
    "anneal": ("annealing, a sample", 1e6, "us"),
    "draw": ("a draw", 1e6, "us"),
    "products": ("matrices", 1e3, "ms"),
}
"""What is timed, in seconds for the work of all processes together, and how the table shows it."""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--processes", type=int, default=2, help="of the rows with several, and threads of that with one")
parser.add_argument("--turns", type=int, default=5)
parser.add_argument("--steps", type=int, default=60, help="gradient steps of a turn, for each loss")
parser.add_argument("--annealing", type=int, default=300, help="gradient steps of the annealing of a turn")
parser.add_argument("--draws", type=int, default=40_960, help="draws of a turn")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "parallel.json")
parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)


class Way(NamedTuple):
    """A way to use the machine: so many processes of so many threads, which share the work or do a share each."""

    name: str
    processes: int
    threads: int = 1
    apart: bool = False


@contextmanager
def company(apart: bool) -> Iterator[Ranks]:
    """The processes as those that share the work; or each by itself, so that they only begin at once."""
    if not apart:
        with distributed() as team:
            yield team
        return
    torch.distributed.init_process_group("gloo")
    yield Ranks()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def timed(job: Callable[[], object]) -> float:
    """Seconds that all of the processes need, which begin at once."""
    together = torch.distributed.is_initialized()
    if together:
        torch.distributed.barrier()
    begin = time.perf_counter()
    job()
    seconds = torch.tensor(time.perf_counter() - begin, dtype=torch.float64)
    if together:
        torch.distributed.all_reduce(seconds, torch.distributed.ReduceOp.MAX)
    return float(seconds)


def work(options: argparse.Namespace) -> None:
    """One process of several: what `WHAT` names."""
    torch.set_num_threads(options.threads)
    shares = int(os.environ["WORLD_SIZE"]) if options.apart else 1
    with company(options.apart) as team:
        generator = bg.BoltzmannGenerator.load("alanine_dipeptide")
        flow, target = generator.flow, generator.target
        x, _ = flow.sample(LARGE * BATCH // shares, seed=0)
        parameters = list(flow.parameters())

        def step(loss: torch.Tensor) -> None:
            flow.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            team.average_gradients(parameters)

        def forward(steps: int, times: int = 1) -> None:
            rows = x[: times * BATCH // shares]
            for _ in range(steps):
                step(bg.forward_kl(flow, rows))

        def reverse(steps: int, times: int = 1) -> None:
            for _ in range(steps):
                step(bg.reverse_kl(flow, target, times * BATCH // 2 // shares, soften=20.0))

        def exchange(steps: int) -> None:
            for _ in range(steps):
                team.average_gradients(parameters)

        found = {}
        for job in (forward, reverse, exchange):
            job(5)
            found[job.__name__] = timed(lambda job=job: job(options.steps)) / options.steps
        few = -(-options.steps // LARGE)
        for job in (forward, reverse):
            job(1, LARGE)
            found[f"{job.__name__}_large"] = timed(lambda job=job: job(few, LARGE)) / few
        generator.sample(4096, seed=0)
        found["draw"] = timed(lambda: generator.sample(options.draws // shares, seed=1)) / options.draws
        fresh = bg.BoltzmannGenerator(bg.Molecule.load("alanine_dipeptide"))
        seconds = timed(lambda: fresh.train(steps=options.annealing, compile="never", progress=False))
        assert fresh.history is not None
        found["anneal"] = seconds / (shares * fresh.history.training_samples)
        a = torch.rand(256, 256)
        found["products"] = timed(lambda: [a @ a for _ in range(1000)]) / 1000
        if os.environ["RANK"] == "0":
            options.worker.write_text(json.dumps(found))


def turn(way: Way, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={way.processes}"]
        command = [*launcher, __file__, *(["--apart"] if way.apart else []), "--worker", str(out)]
        for name in ("steps", "annealing", "draws"):
            command += [f"--{name}", str(getattr(options, name))]
        command += ["--threads", str(way.threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(way.threads)}
        subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
        found: dict[str, float] = json.loads(out.read_text())
        return found


def main() -> None:
    options = parser.parse_args()
    if options.worker is not None:
        work(options)
        return
    k = options.processes
    ways = [
        Way("one process", 1),
        Way(f"one process, {k} threads", 1, threads=k),
        Way(f"{k} processes", k),
        Way(f"{k} processes apart", k, apart=True),
    ]
    turns: dict[Way, list[dict[str, float]]] = {way: [] for way in ways}
    load = os.getloadavg()
    for _ in range(options.turns):
        for way in ways:
            turns[way].append(turn(way, options))
    seconds = {
        way: {name: statistics.median(one[name] for one in found) for name in WHAT} for way, found in turns.items()
    }
    first = seconds[ways[0]]
    ratios = {
        way: {name: first[name] / row[name] for name in WHAT if name != "exchange"} for way, row in seconds.items()
    }
    for way in ways:
        ratios[way]["products"] *= way.processes  # each did all of them
    print(f"{'':<26}" + "".join(f"{title:>24}" for title, _, _ in WHAT.values()))
    for way in ways:
        cells = []
        for name, (_, scale, unit) in WHAT.items():
            ratio = f"{ratios[way][name]:.2f} x" if name in ratios[way] else ""
            cells.append(f"{scale * seconds[way][name]:.1f} {unit} {ratio:>6}")
        print(f"{way.name:<26}" + "".join(f"{cell:>24}" for cell in cells))
    rows = [way._asdict() | {"seconds": seconds[way], "ratio": ratios[way], "turns": turns[way]} for way in ways]
    record = {"rows": rows, "turns": options.turns, "load_before": load[0], **about()}
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
