"""Trained generators beside reference frames, without training them again.

    python benchmarks/evaluate.py trained/seed_*.pt --reference reference_a.npz
    python benchmarks/evaluate.py trained/seed_*.pt --reference reference_a.npz --record results/alanine_dipeptide.json

Draws afresh and computes what `evidence.py` says. With --record, the row of the generator's seed in a record of
`training.py` gets it, and the rounds of its training; else it is printed as JSON. Rows that have it already are left
alone, unless --again. The frames are those of `reference_frames.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from evidence import MATCHED, beside, growth, row
from reference_frames import load
from training import built

from boltzgen.checkpoint import load_checkpoint
from boltzgen.files import write_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generators", type=Path, nargs="+")
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--record", type=Path, help="of training.py, to be completed")
    parser.add_argument("--again", action="store_true", help="also what is there already")
    parser.add_argument("--flow", type=json.loads, default={}, help="arguments of molecular_flow, if not in the record")
    parser.add_argument("-n", type=int, default=200_000, help="draws")
    parser.add_argument("--matched", type=int, default=MATCHED, help="rows of the Wasserstein distances")
    options = parser.parse_args()

    frames = load(options.reference)
    record = json.loads(options.record.read_text()) if options.record else None
    flow = (record or {}).get("flow") or options.flow
    for path in options.generators:
        seed = load_checkpoint(path, kind="generator")["seed"]
        generator = built(frames.about["system"], seed, flow, path)
        rows = [one for one in (record["seeds"] if record else ()) if one["seed"] == seed]
        if record and not rows:
            parser.error(f"{options.record} must have a row of seed {seed}; got none: give that of {path}")
        if rows and "evidence" in rows[0] and not options.again:
            print(f"{path}: there already")
            continue
        samples = generator.sample(options.n, seed=1000 + seed)
        found = beside(generator, samples, frames, matched=options.matched)
        print(f"{path}: {json.dumps(found, indent=1)}", flush=True)
        if record is None:
            print(json.dumps({k: v for k, v in row(generator, generator.history, samples).items() if k != "rounds"}))
        else:
            rows[0]["evidence"] = found
            if generator.history is not None and generator.history.rounds:
                rows[0]["rounds"] = growth(generator.history)
            write_atomically(options.record, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
