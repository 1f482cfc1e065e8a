"""Forward KL alone: the default flow learns from frames of replica exchange, and knows the energy only for its weights.

    python benchmarks/forward_kl.py alanine_dipeptide --frames learn_a.npz --reference frames_a.npz --keep trained

The frames are those of reference_frames.py. An eighth of their walkers, which are independent of the others, is held
out: their mean log q, looked at now and then with the running average of the weights, chooses the best weights. No
energy enters the training; the evaluations on the record are those that the replica exchange took. The row then has
what those of training.py have, with fresh draws weighed by the energy, and what evidence.py computes from other frames.
Writes benchmarks/results/SYSTEM_forward_kl.json, leaves seeds alone that it holds, and goes on where it was
interrupted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from evidence import beside, row
from machine import about
from reference_frames import load
from training import built, tell

import boltzgen as bg
from boltzgen.files import write_atomically

HELD_OUT = 8
"""one walker of so many."""
DECAY = 0.999

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("system")
parser.add_argument("--frames", type=Path, required=True, help="file of reference_frames.py to learn from")
parser.add_argument("--reference", type=Path, required=True, help="another one to evaluate by")
parser.add_argument("--passes", type=float, default=8.0, help="through the frames, by what their weights are worth")
parser.add_argument("--jitter", type=float, default=0.0, help="noise on the stiff coordinates, in harmonic widths")
parser.add_argument("--batch", type=int, default=512)
parser.add_argument("--learning-rate", type=float, default=5e-3)
parser.add_argument("--flow", type=json.loads, default={}, help="arguments of molecular_flow as JSON")
parser.add_argument("--seeds", type=int, nargs="+", default=[0])
parser.add_argument("-n", type=int, default=200_000, help="draws of the evaluation")
parser.add_argument("--keep", type=Path, help="folder for checkpoints and trained generators")
parser.add_argument("--out", type=Path, help="(default: benchmarks/results/SYSTEM_forward_kl.json)")


class Data:
    """Frames in the chart, to be drawn in proportion to their weights."""

    def __init__(self, generator: bg.BoltzmannGenerator, x: np.ndarray, log_w: np.ndarray) -> None:
        flat = torch.from_numpy(x.reshape(-1, *x.shape[2:]))
        parts = [generator.coordinates.inverse(some.double()) for some in torch.split(flat, 4096)]
        y, log_det = (torch.cat(column) for column in zip(*parts, strict=True))
        inside = torch.isfinite(y).all(1) & torch.isfinite(log_det)
        self.y = y[inside].float()
        self.w = torch.from_numpy(log_w.ravel())[inside].double().softmax(0)
        self.until = self.w.cumsum(0)
        self.worth = float(1 / self.w.square().sum())

    def draw(self, n: int) -> torch.Tensor:
        marks = torch.rand(n, dtype=torch.float64) * self.until[-1]
        return self.y[torch.searchsorted(self.until, marks, right=True).clamp_max(len(self.y) - 1)]

    @torch.no_grad()
    def log_q(self, flow: bg.Flow, every: int) -> float:
        """The weighted mean over one of so many frames."""
        w = self.w[::every]
        log_q = torch.cat([flow.log_prob(y) for y in torch.split(self.y[::every], 4096)])
        return float((w * log_q.double()).sum() / w.sum())


def main() -> None:
    options = parser.parse_args()
    out = options.out or Path(__file__).parent / "results" / f"{options.system}_forward_kl.json"
    torch.set_num_threads(1)
    told = ("passes", "jitter", "batch", "learning_rate", "flow", "n")
    settings = {name: getattr(options, name) for name in told}
    rows = []
    if out.exists():
        before = json.loads(out.read_text())
        if before["settings"] != settings:
            parser.error(f"{out} must be of {settings}; got another record: pass another --out")
        rows = before["seeds"]
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    frames, reference = load(options.frames), load(options.reference)
    held = np.arange(frames.log_w.shape[1]) % HELD_OUT == 0
    for seed in options.seeds:
        if any(one["seed"] == seed for one in rows):
            print(f"seed {seed}: in {out} already")
            continue
        generator = built(options.system, seed, options.flow)
        data, test = (Data(generator, frames.x[:, some], frames.log_w[:, some]) for some in (~held, held))
        print(f"{len(data.y)} frames to learn from, {len(test.y)} held out", flush=True)
        history = trained(generator, data, test, options, seed)
        history.energy, history.gradient = 0, frames.about["gradient_evaluations"]
        if options.keep:
            generator.save(options.keep / f"forward_kl_{seed}.pt")
        samples = generator.sample(options.n, seed=1000 + seed)
        found = row(generator, history, samples)
        tell(found)
        found["evidence"] = beside(generator, samples, reference)
        found["looks"] = history.evidence
        print(json.dumps(found["evidence"], indent=1))
        rows.append(found)
        result = {
            "system": options.system,
            "temperature": generator.temperature,
            "settings": settings,
            "flow": options.flow,
            "draws": options.n,
            "frames": len(data.y),
            "frames_held_out": len(test.y),
            "simulation": {key: frames.about[key] for key in ("settings", "gradient_evaluations", "seconds", "frames")},
            "parameters": sum(p.numel() for p in generator.flow.parameters()),
            **about("openmm"),
            "seeds": rows,
        }
        write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())


def trained(
    generator: bg.BoltzmannGenerator, data: Data, test: Data, options: argparse.Namespace, seed: int
) -> bg.training.History:
    """Fits the flow to the frames, and leaves it with the weights that those held out like best."""
    widths = torch.zeros(len(generator.coordinates.circular))
    _, factor = generator.coordinates.harmonic_scales(generator.temperature)
    widths[~generator.coordinates.circular] = (factor @ factor.T).diagonal().sqrt().float()
    spacing = max(1, len(test.y) // 10_000)

    def loss(q: bg.Flow) -> torch.Tensor:
        y = data.draw(options.batch)
        return bg.forward_kl(q, y + options.jitter * torch.randn_like(y) * widths if options.jitter else y)

    def look(q: bg.Flow) -> float:
        value = test.log_q(q, spacing)
        print(f"held out {value:.4f}", flush=True)
        return value

    history = bg.train(
        generator.flow, loss, steps=max(1, int(options.passes * data.worth / options.batch)),
        learning_rate=options.learning_rate, decay=DECAY, seed=seed, evidence=look,
        checkpoint=options.keep / f"forward_kl_{seed}.training" if options.keep else None,
        fingerprint=f"{options.frames} {options.batch} {options.jitter}",
    )  # fmt: skip
    history.training_samples = len(history.losses) * options.batch
    generator.history = history
    return history


if __name__ == "__main__":
    main()
