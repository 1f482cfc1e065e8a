"""A molecule from its energy alone: what a training of so many minutes gives, and what it costs.

    python benchmarks/training.py alanine_dipeptide --minutes 10 --seeds 0 1 2

Writes benchmarks/results/SYSTEM.json and prints a table. Reverse ESS fraction (Σw)²/(n Σw²) of fresh draws,
unclipped, and beside it with the largest 1e-4 of the weights clipped (the protocol of published tables).
"""

import argparse
import json
from pathlib import Path

from machine import about

import boltzgen as bg
from boltzgen.generator import HOTTER
from boltzgen.reporting import default_estimates
from boltzgen.reweighting import clipped_effective_sample_size

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("system", help="name of a molecule that comes with boltzgen, or a folder with a system.toml")
parser.add_argument("--minutes", type=float, default=10.0, help="of training, compilation included")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--flow", type=json.loads, default={}, help="arguments of molecular_flow as JSON, for ablations")
parser.add_argument("-n", type=int, default=200_000, help="draws of the evaluation")
parser.add_argument("--keep", type=Path, help="folder to keep the trained generators in")
parser.add_argument("--out", type=Path, help="(default: benchmarks/results/SYSTEM.json)")
options = parser.parse_args()
out = options.out or Path(__file__).parent / "results" / f"{Path(options.system).name}.json"

rows = []
for seed in options.seeds:
    molecule = bg.Molecule.load(options.system)
    coordinates = bg.InternalCoordinates(molecule)
    scales = coordinates.harmonic_scales(HOTTER * molecule.default_temperature)
    flow = bg.molecular_flow(coordinates.circular, *scales, seed=seed, **options.flow)
    generator = bg.BoltzmannGenerator(molecule, flow=flow, seed=seed)
    history = generator.train(minutes=options.minutes)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        generator.save(options.keep / f"seed_{seed}.pt")
    samples = generator.sample(options.n, seed=1000 + seed)
    found = {
        name: {"value": e.value, "standard_error": e.standard_error, "unit": unit}
        for name, (e, unit) in default_estimates(samples).items()
    }
    rows.append(
        {
            "seed": seed,
            "ess_fraction": bg.effective_sample_size(samples.log_w) / len(samples),
            "ess_fraction_clipped": clipped_effective_sample_size(samples.log_w) / len(samples),
            "pareto_k": bg.pareto_k(samples.log_w),
            "training_evaluations": history.evaluations,
            "training_samples": history.training_samples,
            "gradient_steps": len(history.losses),
            "seconds": history.seconds,
            "how": history.compiled,
            "rounds": [[round(r.temperature), round(r.ess, 3)] for r in history.rounds[::10]],
            "estimates": found,
        }
    )
    row = rows[-1]
    print(
        f"seed {seed}: ESS {100 * row['ess_fraction']:.1f} % (clipped {100 * row['ess_fraction_clipped']:.1f} %), "
        f"k {row['pareto_k']:.2f}, {sum(history.evaluations.values()):.3g} evaluations, "
        f"{history.training_samples:.3g} training samples, {history.seconds:.0f} s, {history.compiled}",
        flush=True,
    )
    for name, e in found.items():
        print(f"    {name:<30} {e['value']:.4f} ± {e['standard_error']:.4f} {e['unit']}", flush=True)
    out.parent.mkdir(exist_ok=True)
    result = {
        "system": molecule.name,
        "temperature": molecule.default_temperature,
        "minutes": options.minutes,
        "flow": options.flow,
        "draws": options.n,
        "parameters": sum(p.numel() for p in generator.flow.parameters()),
        **about("openmm"),
        "seeds": rows,
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
fractions = sorted(row["ess_fraction"] for row in rows)
print(
    f"median ESS {100 * fractions[len(fractions) // 2]:.1f} %, "
    f"range {100 * fractions[0]:.1f}-{100 * fractions[-1]:.1f} %"
)
