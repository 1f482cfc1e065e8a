"""A molecule from its energy alone: what a training of so many minutes gives, and what it costs.

    python benchmarks/training.py alanine_dipeptide --minutes 10 --seeds 0 1 2 --keep trained --reference frames.npz

Writes benchmarks/results/SYSTEM.json and prints a table. Reverse ESS fraction (Σw)²/(n Σw²) of fresh draws,
unclipped, and beside it with the largest 1e-4 of the weights clipped (the protocol of published tables). With
--reference, frames made by reference_frames.py, the rows have all that evidence.py computes as well.

Called again, seeds that are in the record are not trained again; with --keep, a training that was interrupted goes on,
and a generator that is kept already is only evaluated.
"""

import argparse
import json
from pathlib import Path

from evidence import beside, row
from machine import about
from reference_frames import load

import boltzgen as bg
from boltzgen.files import write_atomically
from boltzgen.generator import HOTTER, BoltzmannGenerator

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("system", help="name of a molecule that comes with boltzgen, or a folder with a system.toml")
parser.add_argument("--minutes", type=float, default=10.0, help="of training, compilation included")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--flow", type=json.loads, default={}, help="arguments of molecular_flow as JSON, for ablations")
parser.add_argument("--compile", choices=["auto", "always", "never"], default="auto")
parser.add_argument("-n", type=int, default=200_000, help="draws of the evaluation")
parser.add_argument("--keep", type=Path, help="folder to keep the trained generators in")
parser.add_argument("--reference", type=Path, help="frames to compare with")
parser.add_argument("--again", action="store_true", help="forget what the record holds")
parser.add_argument("--out", type=Path, help="(default: benchmarks/results/SYSTEM.json)")


def built(system: str, seed: int, flow: dict, kept: Path | None = None) -> BoltzmannGenerator:
    """A generator with the default flow, but for these arguments of molecular_flow; with the weights kept in a file."""
    molecule = bg.Molecule.load(system)
    coordinates = bg.InternalCoordinates(molecule)
    scales = coordinates.harmonic_scales(HOTTER * molecule.default_temperature)
    flow = bg.molecular_flow(coordinates.circular, *scales, seed=seed, **flow)
    return BoltzmannGenerator.load(kept, flow=flow) if kept else BoltzmannGenerator(molecule, flow=flow, seed=seed)


def trained(options: argparse.Namespace, seed: int) -> BoltzmannGenerator:
    kept = options.keep and options.keep / f"seed_{seed}.pt"
    if kept and kept.exists():
        return built(options.system, seed, options.flow, kept)
    generator = built(options.system, seed, options.flow)
    generator.train(
        minutes=options.minutes, compile=options.compile, run_dir=options.keep and options.keep / f"seed_{seed}"
    )
    if kept:
        generator.save(kept)
    return generator


def main() -> None:
    options = parser.parse_args()
    out = options.out or Path(__file__).parent / "results" / f"{Path(options.system).name}.json"
    settings = {"minutes": options.minutes, "flow": options.flow, "draws": options.n}
    rows = []
    if out.exists() and not options.again:
        before = json.loads(out.read_text())
        if any(before[name] != value for name, value in settings.items()):
            parser.error(f"{out} must be of {settings}; got another record: pass another --out, or --again")
        rows = before["seeds"]
    frames = load(options.reference) if options.reference else None
    for seed in options.seeds:
        if any(one["seed"] == seed for one in rows):
            print(f"seed {seed}: in {out} already")
            continue
        generator = trained(options, seed)
        assert generator.history is not None
        samples = generator.sample(options.n, seed=1000 + seed)
        found = row(generator, generator.history, samples)
        if frames is not None:
            found["evidence"] = beside(generator, samples, frames)
        rows.append(found)
        tell(found)
        result = {
            "system": Path(options.system).name,
            "temperature": generator.temperature,
            **settings,
            "parameters": sum(p.numel() for p in generator.flow.parameters()),
            **about("openmm"),
            "seeds": rows,
        }
        out.parent.mkdir(exist_ok=True)
        write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    fractions = sorted(one["ess_fraction"] for one in rows)
    print(
        f"median ESS {100 * fractions[len(fractions) // 2]:.1f} %, "
        f"range {100 * fractions[0]:.1f}-{100 * fractions[-1]:.1f} %"
    )


def tell(found: dict) -> None:
    print(
        f"seed {found['seed']}: ESS {100 * found['ess_fraction']:.1f} % (clipped "
        f"{100 * found['ess_fraction_clipped']:.1f} %), k {found['pareto_k']:.2f}, "
        f"{sum(found['training_evaluations'].values()):.3g} evaluations, {found['training_samples']:.3g} training "
        f"samples, {found['seconds']:.0f} s, {found['how']}",
        flush=True,
    )
    for name, e in found["estimates"].items():
        print(f"    {name:<30} {e['value']:.4f} ± {e['standard_error']:.4f} {e['unit']}", flush=True)
    if "evidence" in found:
        print(json.dumps(found["evidence"], indent=1), flush=True)


if __name__ == "__main__":
    main()
