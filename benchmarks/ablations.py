"""What each choice of the default training is worth: alanine dipeptide, one run with each of them changed.

    python benchmarks/ablations.py --minutes 4
    python benchmarks/ablations.py --list
    python benchmarks/ablations.py --only whitening-diagonal batch-2048

Every variant trains one seed for as many minutes, eagerly on one thread. Meanwhile the running average of the weights
is put aside at marks in time, with the evaluations made until then; afterwards each of these flows makes fresh draws at
the target's temperature. So one run says what there is after equal times, and after equal evaluations; a run that makes
more evaluations is then met while its learning rate is high, or even above the target's temperature, and looks worse
than it is. One seed tells no variants apart that differ by few per cent. Variants that are in the record,
benchmarks/results/ablations.json, are not run again.

Variants are made with public arguments. Only batch, average, decay, gradient and the ladder cannot be chosen so: for
these, names of boltzgen.training.parted, or of its rounds, are replaced for the time of the run. A record is of one
default: where the present one has another number of parameters, it is refused.
"""

from __future__ import annotations

import argparse
import inspect
import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from averages import RunningAverage
from machine import about

import boltzgen as bg
from boltzgen.files import write_atomically
from boltzgen.flows import Composition, Flow, Whitening
from boltzgen.generator import HOTTER
from boltzgen.reweighting import clipped_effective_sample_size
from boltzgen.training import parted
from boltzgen.training.fresh_draws import Draws, mean_of_finite

SYSTEM, MARKS = "alanine_dipeptide", 12
DECAY = parted.PartedRounds.cold_decay

Make = Callable[[bg.InternalCoordinates, torch.Tensor, torch.Tensor, int], Flow]


def default(coordinates: bg.InternalCoordinates, mean: torch.Tensor, factor: torch.Tensor, seed: int, **sizes) -> Flow:
    return bg.molecular_flow(coordinates.circular, mean, factor, seed=seed, **sizes)


def sized(**sizes: Any) -> Make:
    return lambda coordinates, mean, factor, seed: default(coordinates, mean, factor, seed, **sizes)


def diagonal(coordinates: bg.InternalCoordinates, mean: torch.Tensor, factor: torch.Tensor, seed: int) -> Flow:
    """Widths of the stiff coordinates without their correlations."""
    return default(coordinates, mean, torch.diag((factor @ factor.T).diagonal().sqrt()), seed)


def by_weights_alone(coordinates: bg.InternalCoordinates, mean: torch.Tensor, factor: torch.Tensor, seed: int) -> Flow:
    """The same flow, not known to have parts: all of it learns by the weights of its draws, and not along the path."""
    flow = default(coordinates, mean, factor, seed)
    return Flow(flow.base, flow.bijection)


def flat(coordinates: bg.InternalCoordinates, mean: torch.Tensor, factor: torch.Tensor, seed: int) -> Flow:
    """Couplings between random halves of all coordinates, no torsion before any other, with the same whitening."""
    circular = coordinates.circular
    stiff = (~circular).nonzero()[:, 0].tolist()
    flow = bg.coupling_flow(len(circular), layers=8, hidden=(96, 96), circular=circular, seed=seed)
    return Flow(flow.base, Composition([flow.bijection, Whitening(len(circular), stiff, mean, factor)]))


def with_score(flow: Flow, target: bg.Energy, n: int, *, generator: torch.Generator) -> Draws:
    """Fresh draws as `pathwise` makes them, but with the whole gradient of u + log q."""
    x, log_q = flow.rsample(n, generator=generator)
    u, _, potential = target.evaluate(x)
    return Draws(x.detach(), log_q.detach(), u + log_q, potential.detach())


def reverse(draws: Draws) -> torch.Tensor:
    return mean_of_finite(draws.loss, parted.SOFTEN)


@dataclass
class Variant:
    """What is changed: the flow, arguments of the coordinates and of `anneal`, names of `parted` or its rounds."""

    about: str
    flow: Make = default
    coordinates: dict[str, Any] = field(default_factory=dict)
    anneal: dict[str, Any] = field(default_factory=dict)
    replaced: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "default": Variant("as `anneal` and `molecular_flow` are"),
    "annealing-continuous": Variant("annealing: reverse KL, ever colder", anneal={"method": "continuous"}),
    "annealing-reweighting": Variant("annealing: reweighted buffers, all learns by weights alone", by_weights_alone),
    "annealing-transport": Variant("annealing: constrained mass transport", anneal={"method": "transport"}),
    "annealing-late": Variant("annealing: forced down from 0.4 of the budget on", replaced={"ladder": (0.4, 0.7)}),
    "no-forward": Variant("gradient: of reverse KL alone along the path", replaced={"symmetric": reverse}),
    "no-path": Variant(
        "gradient: of reverse KL alone, not along the path", replaced={"symmetric": reverse, "pathwise": with_score}
    ),
    "whitening-diagonal": Variant("whitening: widths alone, no Hessian factor", diagonal),
    "no-folds": Variant("symmetry: methyl rotors not folded", coordinates={"fold": False}),
    "no-hierarchy": Variant("hierarchy: 8 couplings of halves of all coordinates, which learn by weights alone", flat),
    "small": Variant("size: 2 couplings of (64, 64)", sized(stiff_layers=2, stiff_hidden=(64, 64))),
    "large": Variant("size: 6 couplings of (128, 128)", sized(stiff_layers=6, stiff_hidden=(128, 128))),
    "triangular": Variant("with a conditional full covariance", sized(triangular=True)),
    "batch-128": Variant("batch: 128 draws, 256 rows", replaced={"DRAWS": 128, "STEPS": 64, "BATCH": 256}),
    "batch-2048": Variant("batch: 2048 draws, 4096 rows", replaced={"DRAWS": 2048, "STEPS": 4, "BATCH": 4096}),
    "no-average": Variant("no running average", replaced={"decay": 0.0, "cold_decay": 0.0}),
    "no-decay": Variant("matrices do not decay", replaced={"weight_decay": 0.0}),
}  # fmt: skip

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--minutes", type=float, default=5.0, help="of each training")
parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
parser.add_argument("--list", action="store_true", help="name the variants")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("-n", type=int, default=50_000, help="fresh draws at the end; a fifth of it at the marks before")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ablations.json")


@contextmanager
def with_names(values: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(owner(name), name) for name in values}
    for name, value in values.items():
        setattr(owner(name), name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner(name), name, value)


def owner(name: str) -> Any:
    """The rounds, if the name is theirs, or their module."""
    return parted.PartedRounds if hasattr(parted.PartedRounds, name) else parted


def known(variant: Variant) -> bool:
    """Whether this version of `anneal` has the arguments."""
    return set(variant.anneal) <= set(inspect.signature(bg.anneal).parameters)


def parameters() -> int:
    """Of the default flow as it is now."""
    coordinates = bg.InternalCoordinates(bg.Molecule.load(SYSTEM))
    flow = bg.molecular_flow(coordinates.circular, *coordinates.harmonic_scales(300.0))
    return sum(p.numel() for p in flow.parameters())


def run(variant: Variant, minutes: float, seed: int, n: int) -> dict[str, Any]:
    molecule = bg.Molecule.load(SYSTEM)
    coordinates = bg.InternalCoordinates(molecule, **variant.coordinates)
    temperature = molecule.default_temperature
    target = bg.Pullback(molecule.energy(temperature), coordinates)
    flow = variant.flow(coordinates, *coordinates.harmonic_scales(HOTTER * temperature), seed)
    average = RunningAverage(flow, variant.replaced.get("cold_decay", DECAY))
    marks: list[tuple[float, int, list[torch.Tensor]]] = []
    begin, ledger = time.monotonic(), target.evaluations

    def watch(history: bg.History) -> None:
        if len(history.losses):
            average.update()
        seconds = time.monotonic() - begin
        if seconds > 60 * minutes * (len(marks) + 1) / MARKS and len(marks) < MARKS - 1:
            marks.append((seconds, ledger.energy + ledger.gradient, average.copy()))

    with with_names(variant.replaced):
        history = bg.anneal(
            flow, target, hot=HOTTER * temperature, minutes=minutes, seed=seed, compile="never", watch=watch,
            progress=False, **variant.anneal,
        )  # fmt: skip
    evaluations = ledger.energy + ledger.gradient
    curve = []
    for seconds, until, values in marks:
        with average.within(values):
            curve.append(point(flow, target, n // 5, seed, seconds, until)[0])
    last, samples = point(flow, target, n, seed, history.seconds, evaluations)
    phi = samples.torsion("phi")
    with warnings.catch_warnings(action="ignore", category=bg.UnreliableEstimateWarning):
        difference = bg.free_energy_difference(samples.log_w, phi < 0, phi > 0)
        log_z = bg.log_partition(samples.log_w)
    return {
        "about": variant.about,
        "seed": seed,
        "minutes": minutes,
        "parameters": sum(p.numel() for p in flow.parameters()),
        "gradient_steps": len(history.losses),
        "training_samples": history.training_samples,
        "temperature": history.rounds[-1].next_temperature if history.rounds else HOTTER * temperature,
        "pareto_k": bg.pareto_k(samples.log_w),
        "log_partition": [log_z.value + coordinates.log_symmetry, log_z.standard_error],
        "free_energy_difference_phi": [difference.value, difference.standard_error],
        "replaced": {name: getattr(v, "__name__", v) for name, v in variant.replaced.items()},
        "curve": [*curve, last],
        **about(),
    }


def point(
    flow: Flow, target: bg.Energy, n: int, seed: int, seconds: float, evaluations: int
) -> tuple[dict[str, float], bg.Samples]:
    """What fresh draws of the flow are worth, and when that was; and the draws."""
    samples = bg.draw(flow, target, n, seed=1000 + seed)
    return {
        "seconds": round(seconds, 1),
        "evaluations": evaluations,
        "ess_fraction": bg.effective_sample_size(samples.log_w) / n,
        "ess_fraction_clipped": clipped_effective_sample_size(samples.log_w) / n,
    }, samples


def main() -> None:
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:24} {variant.about}" for name, variant in VARIANTS.items()))
        return
    torch.set_num_threads(1)
    record = json.loads(options.out.read_text()) if options.out.exists() else {}
    told = {"minutes": options.minutes, "seed": options.seed}
    if any(row[key] != value for row in record.values() for key, value in told.items()):
        parser.error(f"{options.out} must be of {told}; got another record: pass another --out")
    if "default" in record and record["default"]["parameters"] != parameters():
        parser.error(
            f"{options.out} must be of a default of {parameters()} parameters; got another: pass another --out"
        )
    for name in options.only:
        variant = VARIANTS[name]
        if name in record:
            print(f"{name}: in {options.out} already")
            continue
        if not known(variant):
            print(f"{name}: this version of anneal has no {', '.join(variant.anneal)}")
            continue
        record[name] = run(variant, options.minutes, options.seed, options.n)
        last = record[name]["curve"][-1]
        print(
            f"{name}: ESS {100 * last['ess_fraction']:.1f} % (clipped {100 * last['ess_fraction_clipped']:.1f} %), "
            f"{last['evaluations']:.3g} evaluations, {last['seconds']:.0f} s",
            flush=True,
        )
        options.out.parent.mkdir(exist_ok=True)
        write_atomically(options.out, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
