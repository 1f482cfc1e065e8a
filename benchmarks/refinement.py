"""What to do with a flow whose weights keep one draw in 25: each remedy with the same number of evaluations.

    python benchmarks/refinement.py

A spline flow on the many-well of 32 dimensions stops training early. From there on every method may evaluate the target
so many times, pilots, gradients and further training included. Writes benchmarks/results/refinement.json and prints
for each method the error bars of the mean of x, of the population of the left well (both of the first of the sixteen
double wells), and of log Z, as how many times smaller than those of plain reweighting they are; and how many of their
standard errors the values are off the exact ones.

The last line says how far any method could get: with perfect draws for all of the evaluations; with perfect moves,
which take one evaluation more for each draw; and by annealing of the flow as it is. Annealing alone cannot make the
error of log Z three times smaller, whatever its moves and its ladder: learning is what does. After it the adaptive
ladder has one stage, and annealed draws are draws; a longer ladder costs more than it gains.

No move that was tried comes near the limit. From 512 draws of a flow of 4.6 % chosen by weight, 40 moves each in its
latent space at β = 1; evaluations for one effective draw of x, of which plain reweighting takes 22 (what is near 40 is
more):

    latent point mixed with a fresh one by angles of 1.0, 0.6, 0.3     20, 26, 32     14, 18, 30 % accepted
    one leapfrog step of 0.3, 0.6, 0.9                                 37, 36, 39     16, 4, 1 %
    the same, the normal law followed exactly, the weights as kicks    37, 36, 39     17, 4, 1 %

The latent space of an unfinished flow is rough: the spread of log w among its draws is 7.7.
"""

import argparse
import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import boltzgen as bg
from boltzgen.energies import toys
from boltzgen.reweighting import by_population, chain_average, independence_metropolis
from boltzgen.sampling import annealing_schedule, refine

EARLY = 243  # training steps of the flow that is to be refined
ADAPTATION = 400  # more of them, at the temperature of the target
POPULATION = 64  # draws that are resampled among each other
QUANTITIES = ("mean of x", "left population", "log Z")


@dataclass
class Spent:
    """A method at work: the flow it has, and a target that counts."""

    flow: bg.Flow
    target: bg.Energy
    evaluations: int

    @property
    def left(self):
        return self.evaluations - self.target.evaluations.total


def weighted(samples, well):
    """The three estimates from weights."""
    x = samples.x[:, 0].double()
    return [
        bg.expectation(samples.log_w, x),
        bg.probability(samples.log_w, x < well.barrier),
        bg.log_partition(samples.log_w),
    ], bg.effective_sample_size(samples.log_w) / len(samples)


def chained(samples, well):
    """The same from a Metropolis chain over the draws, the luck of acceptance taken out; log Z is that of the draws."""
    chain = independence_metropolis(samples.log_w, seed=3)
    x = samples.x[:, 0].double()
    means = [chain_average(chain.series(f)) for f in (x, x < well.barrier)]
    return [*means, bg.log_partition(samples.log_w)], chain.acceptance


def drawn(spent):
    """All that is left goes into draws, which are read in two ways."""
    samples = bg.draw(spent.flow, spent.target, spent.left, seed=1)
    yield "reweighting", *weighted(samples, spent.target.well)
    yield "independence Metropolis", *chained(samples, spent.target.well)


def annealed(share, steps=1, seed=1):
    """Annealed importance sampling with a long ladder or a short one."""

    def run(spent):
        schedule = annealing_schedule(spent.flow, spent.target, share=share, steps=steps, seed=2)
        samples = refine(spent.flow, spent.target, spent.left // schedule.evaluations, seed=seed, schedule=schedule)
        yield rungs(schedule), *weighted(samples, spent.target.well)

    return run


def sequential(share, steps=1, seed=1):
    """Sequential Monte Carlo: the same with populations, resampled at every stage."""

    def run(spent):
        schedule = annealing_schedule(spent.flow, spent.target, share=share, steps=steps, seed=2)
        n = spent.left // schedule.evaluations // POPULATION * POPULATION
        options = {"population": POPULATION, "resample_below": 1.0}
        samples = refine(spent.flow, spent.target, n, seed=seed, schedule=schedule, **options)
        x = samples.x[:, 0].double()
        log_w, mean = by_population(samples.log_w, x, POPULATION)
        _, left = by_population(samples.log_w, x < spent.target.well.barrier, POPULATION)
        found = [bg.expectation(log_w, mean), bg.expectation(log_w, left), bg.log_partition(log_w)]
        yield rungs(schedule), found, bg.effective_sample_size(log_w) / len(log_w)

    return run


def rungs(schedule):
    stages = len(schedule.beta)
    return f"{stages} {'stages' if stages > 1 else 'stage'}"


def adapted(spent):
    """Short rounds of draws and weighted fits: a better proposal for what is left."""
    bg.anneal(spent.flow, spent.target, hot=spent.target.temperature, steps=ADAPTATION, seed=1, progress=False)
    return spent


METHODS: dict[str, Callable] = {
    "as it is": drawn,
    "annealed, 30 % kept": annealed(0.3),
    "SMC, 80 % kept": sequential(0.8),
}
AFTER_ADAPTATION: dict[str, Callable] = {
    "adapted": drawn,
    "adapted, then annealed, 30 % kept": annealed(0.3, seed=5),
    "adapted, then SMC, 30 % kept": sequential(0.3, seed=6),
    "adapted, then annealed, 95 % kept": annealed(0.95),
}


def truths(target):
    """Exact values of the quantities, by sums over a fine grid."""
    x = torch.linspace(-5, 5, 200_001, dtype=torch.float64)
    p = torch.softmax(-target.well.energy(torch.stack([x, torch.zeros_like(x)], 1)), 0)
    return float(p @ x), float(p[x < target.well.barrier].sum()), target.log_partition()


def limits(samples):
    """How many times smaller errors than those of plain reweighting, at equal evaluations, can be at best.

    Of a mean with perfect draws at one evaluation each: sd(x) in place of the error of x times √n. Moves take one more
    at least, and the limit is √2 lower. Of log Z, annealed through p_β ∝ q w^β: with independent draws at every β for
    one evaluation each, N var(log Ẑ) is no less than L², the square of the length of that path,

        L = ∫ sd_β(log w) dβ        (Gelman & Meng, Stat. Sci. 13, 163 (1998); of AIS and SMC alike),

    in place of 1/share − 1.
    """
    log_w = samples.log_w
    share = bg.effective_sample_size(log_w) / len(samples)
    beta = torch.linspace(0, 1, 401, dtype=torch.float64) ** 3
    spread = []
    for b in beta:
        w = torch.softmax(b * log_w, 0)
        spread.append((w @ (log_w - w @ log_w).square()).sqrt())
    length = float(torch.trapezoid(torch.stack(spread), beta))
    x = samples.x[:, 0].double()
    mean = bg.expectation(log_w, x).standard_error * math.sqrt(len(x) / bg.variance(log_w, x).value)
    return {
        "mean, perfect draws": mean,
        "mean, perfect moves": mean / math.sqrt(2),
        "log Z, annealed": math.sqrt(1 / share - 1) / length,
    }


def untrained():
    return bg.coupling_flow(32, layers=6, hidden=(64, 64))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=3 * 2**19, help="of the target, by each method")
    parser.add_argument("--early", type=int, default=EARLY, help="training steps of the flow to refine")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "refinement.json")
    options = parser.parse_args()
    flow, target = untrained(), toys.ManyWell()
    bg.anneal(flow, target, steps=options.early, progress=False)
    exact = dict(zip(QUANTITIES, truths(target), strict=True))
    print(f"{'':64} quality " + "".join(f"{name:>24}" for name in QUANTITIES))
    plain, rows = None, []
    learned = adapted(Spent(copy.deepcopy(flow), toys.ManyWell(), options.evaluations))
    fresh = Spent(flow, toys.ManyWell(), options.evaluations)
    for method, run in (METHODS | AFTER_ADAPTATION).items():
        spent = copy.deepcopy(learned if method in AFTER_ADAPTATION else fresh)
        for reading, estimates, quality in run(spent):
            plain = plain or estimates
            name, ledger = f"{method}, {reading}", spent.target.evaluations
            row = {
                "method": name,
                "effective_share_or_acceptance": quality,
                "energies": ledger.energy,
                "gradients": ledger.gradient,
            }
            cells = []
            for quantity, estimate, first in zip(QUANTITIES, estimates, plain, strict=True):
                gain = first.standard_error / estimate.standard_error
                off = (estimate.value - exact[quantity]) / estimate.standard_error
                row[quantity] = {
                    "value": estimate.value,
                    "standard_error": estimate.standard_error,
                    "times_smaller_error": gain,
                    "sigmas_off": off,
                }
                cells.append(f"{gain:12.2f} × ({off:+.1f} σ)")
            rows.append(row)
            print(f"{name:64} {quality:6.1%} " + "".join(cells), flush=True)
    best = limits(bg.draw(flow, toys.ManyWell(), 2**18, seed=4))
    print("at best: " + ", ".join(f"{name} {gain:.2f} ×" for name, gain in best.items()))
    result = {
        "evaluations": options.evaluations,
        "steps_of_the_flow": options.early,
        "steps_of_adaptation": ADAPTATION,
        "evaluations_of_adaptation": learned.target.evaluations.total,
        "exact": exact,
        "at_best": best,
        "methods": rows,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
