"""Forward KL alone: the default flow learns from frames of replica exchange, and knows the energy only for its weights.

    python benchmarks/forward_kl.py alanine_dipeptide --frames learn_a.npz --minutes 25 --keep trained

The frames are those of reference_frames.py. An eighth of their walkers, which are independent of the others, is held
out: their mean log q, looked at every `--every` steps with the running average of the weights, chooses the best
weights. No energy enters the training; the evaluations on the record are those that the replica exchange took. The row
then has what those of training.py have, with fresh draws weighed by the energy, and, from the walkers held out or from
other frames (--reference), what evidence.py computes. Writes benchmarks/results/SYSTEM_forward_kl.json; a training that
was interrupted goes on where it stood.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import time
from pathlib import Path

import numpy as np
import torch
from averages import RunningAverage
from evidence import beside, row
from machine import about
from reference_frames import Frames, load
from training import built, tell

import boltzgen as bg
from boltzgen.files import write_atomically

HELD_OUT = 8
"""one walker of so many."""
DECAY = 0.999

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("system")
parser.add_argument("--frames", type=Path, required=True, help="file of reference_frames.py")
parser.add_argument("--reference", type=Path, help="frames to evaluate by (default: the walkers held out)")
parser.add_argument("--minutes", type=float, default=25.0, help="about; of training, without the simulation")
parser.add_argument("--steps", type=int, help="instead of --minutes")
parser.add_argument(
    "--passes", type=float, default=8.0, help="through the frames at most, by what their weights are worth"
)
parser.add_argument("--jitter", type=float, default=0.0, help="noise on the stiff coordinates, in harmonic widths")
parser.add_argument("--batch", type=int, default=512)
parser.add_argument("--learning-rate", type=float, default=5e-3)
parser.add_argument("--every", type=int, default=200, help="steps between looks at what is held out")
parser.add_argument("--flow", type=json.loads, default={}, help="arguments of molecular_flow as JSON")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("-n", type=int, default=200_000, help="draws of the evaluation")
parser.add_argument("--keep", type=Path, help="folder for the checkpoint and the trained generator")
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
    frames = load(options.frames)
    held = np.arange(frames.log_w.shape[1]) % HELD_OUT == 0
    generator = built(options.system, options.seed, options.flow)
    flow = generator.flow
    data, test = (Data(generator, frames.x[:, some], frames.log_w[:, some]) for some in (~held, held))
    print(f"{len(data.y)} frames to learn from, {len(test.y)} held out", flush=True)

    average, looks = RunningAverage(flow, DECAY), []
    best = average.copy()
    spacing = max(1, len(test.y) // 10_000)
    steps, checkpoint, beside_it = options.steps, None, None
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        checkpoint = options.keep / f"forward_kl_{options.seed}.training"
        beside_it = options.keep / f"forward_kl_{options.seed}.looks"
        if checkpoint.exists() and beside_it.exists():  # the average is at most `every` steps behind
            before = torch.load(beside_it, weights_only=True)
            steps, looks, best = before["steps"], before["looks"], before["best"]
            average.values, average.steps = before["average"], before["at"]
            print(f"goes on after step {average.steps} of {steps}", flush=True)

    begun = False
    widths = torch.zeros(len(generator.coordinates.circular))
    _, factor = generator.coordinates.harmonic_scales(generator.temperature)
    widths[~generator.coordinates.circular] = (factor @ factor.T).diagonal().sqrt().float()

    def loss(q: bg.Flow) -> torch.Tensor:
        nonlocal begun
        if begun:  # a step was taken since
            average.update()
            if average.steps % options.every == 0:
                look()
        begun = True
        y = data.draw(options.batch)
        return bg.forward_kl(q, y + options.jitter * torch.randn_like(y) * widths if options.jitter else y)

    def look() -> None:
        nonlocal best
        with average.within(average.values):
            value = test.log_q(flow, spacing)
        if all(value > one["held_out"] for one in looks):
            best = average.copy()
        looks.append({"step": average.steps, "seconds": round(time.monotonic() - begin), "held_out": round(value, 4)})
        print(looks[-1], flush=True)
        keep()

    def keep() -> None:
        if beside_it:
            state = {"steps": steps, "looks": looks, "best": best, "average": average.values, "at": average.steps}
            torch.save(state, buffer := io.BytesIO())
            write_atomically(beside_it, buffer.getvalue())

    begin = time.monotonic()
    if steps is None:
        most = int(options.passes * data.worth / options.batch)  # more of them learn the frames, not their law
        steps = max(1, min(most, int(60 * options.minutes / seconds_of_a_step(flow, data, options.batch))))
    keep()
    history = bg.train(
        flow, loss, steps=steps, learning_rate=options.learning_rate, decay=DECAY, seed=options.seed,
        checkpoint=checkpoint, fingerprint=f"{options.frames} {options.batch}", progress=False,
    )  # fmt: skip
    average.update()
    look()
    average.set(best)
    history.training_samples = steps * options.batch
    history.energy, history.gradient = 0, frames.about["gradient_evaluations"]
    generator.history = history
    if options.keep:
        generator.save(options.keep / f"forward_kl_{options.seed}.pt")

    samples = generator.sample(options.n, seed=1000 + options.seed)
    found = row(generator, history, samples)
    tell(found)
    reference = load(options.reference) if options.reference else Frames(
        frames.x[:, held], frames.u[:, held], frames.log_w[:, held], frames.about
    )  # fmt: skip
    found["evidence"] = beside(generator, samples, reference)
    print(json.dumps(found["evidence"], indent=1))
    result = {
        "system": options.system,
        "temperature": generator.temperature,
        "batch": options.batch,
        "learning_rate": options.learning_rate,
        "jitter": options.jitter,
        "flow": options.flow,
        "draws": options.n,
        "frames": len(data.y),
        "frames_held_out": len(test.y),
        "simulation": {name: frames.about[name] for name in ("settings", "gradient_evaluations", "seconds", "frames")},
        "looks": looks,
        "parameters": sum(p.numel() for p in flow.parameters()),
        **about("openmm"),
        "seeds": [found],
    }
    write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())


def seconds_of_a_step(flow: bg.Flow, data: Data, batch: int, steps: int = 20) -> float:
    """Measured on a copy of the flow."""
    begin = time.monotonic()
    trial = copy.deepcopy(flow)
    bg.train(trial, lambda q: bg.forward_kl(q, data.draw(batch)), steps=steps, progress=False)
    return (time.monotonic() - begin) / steps


if __name__ == "__main__":
    main()
