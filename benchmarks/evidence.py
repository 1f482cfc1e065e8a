"""What a trained generator is worth beside frames of the target: the columns of the tables.

Reverse: the effective share of fresh draws, unclipped, and with the largest 1e-4 of the weights clipped, the protocol
of published tables. Forward, from reference frames: EUBO − log Z = KL(target ‖ flow), with log Z from the draws.

Maps of (φ, ψ): 100 × 100 bins, densities with 1e-10 added, KL(reference ‖ draws), and the total variation
½ Σ |p − q|; of several residues the mean. Energy-W2: 2-Wasserstein distance of the reduced energies, in kT. Torus-W2:
of all φ and ψ, the cost of a pair of configurations being the sum of the squared angles between them, by an optimal
assignment; both of up to 1e4 rows, draws being resampled by their weights, as in Tan et al. (2025, Sequential
Boltzmann generators) and Rehman et al. (2025, FALCON). Beside each, as its noise, what other walkers of the reference
give instead of the draws, in equal number: they are independent of it. Frames of one walker are correlated, so that the
noise of independent draws may be a little smaller.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from reference_frames import Frames
from torch import Tensor

import boltzgen as bg
from boltzgen.coordinates import dihedral
from boltzgen.molecule import find
from boltzgen.reporting import default_estimates
from boltzgen.reweighting import clipped_effective_sample_size

Array = npt.NDArray[np.float64]
BINS, EPSILON, MATCHED, WEIGHED = 100, 1e-10, 10_000, 50_000
POINTS = 150
"""rounds of a training that a record keeps."""


def row(generator: bg.BoltzmannGenerator, history: bg.History, samples: bg.Samples) -> dict[str, Any]:
    """What a training cost, and what its fresh draws are worth."""
    with warnings.catch_warnings(action="ignore", category=bg.UnreliableEstimateWarning):
        estimates = default_estimates(samples)
    return {
        "seed": generator.seed,
        "draws": len(samples),
        "ess_fraction": bg.effective_sample_size(samples.log_w) / len(samples),
        "ess_fraction_clipped": clipped_effective_sample_size(samples.log_w) / len(samples),
        "pareto_k": bg.pareto_k(samples.log_w),
        "training_evaluations": history.evaluations,
        "training_samples": history.training_samples,
        "gradient_steps": len(history.losses),
        "seconds": history.seconds,
        "how": history.compiled,
        "rounds": growth(history),
        "estimates": {
            name: {"value": e.value, "standard_error": e.standard_error, "unit": unit}
            for name, (e, unit) in estimates.items()
        },
    }


def growth(history: bg.History) -> list[list[float]]:
    """Temperature, effective share of the round's own draws there, evaluations and seconds until then, of some rounds.

    The evaluations that are not those of rounds were made before the first.
    """
    rounds = history.rounds
    before = sum(history.evaluations.values()) - sum(r.rows for r in rounds)
    until = before + np.cumsum([r.rows for r in rounds])
    some = sorted({round(k) for k in np.linspace(0, len(rounds) - 1, min(POINTS, len(rounds)))})
    return [
        [round(rounds[k].temperature, 1), round(rounds[k].ess, 4), int(until[k]), round(rounds[k].seconds, 1)]
        for k in some
    ]


def beside(
    generator: bg.BoltzmannGenerator, samples: bg.Samples, frames: Frames, *, matched: int = MATCHED
) -> dict[str, Any]:
    """What the draws are worth beside reference frames; `matched` rows enter the Wasserstein distances."""
    assert generator.molecule is not None
    assert generator.coordinates is not None
    half = frames.log_w.shape[1] // 2
    x, u, walker = frames.equal_weights(slice(0, half))
    others_x, others_u, others_walker = frames.equal_weights(slice(half, None), seed=1)
    residues = [name[3:] for name in samples.torsions if name[:3] == "phi" and f"psi{name[3:]}" in samples.torsions]
    torsions = {name: samples.torsions[name] for one in residues for name in (f"phi{one}", f"psi{one}")}

    weighed, outside = weighed_frames(generator, torch.cat([x, others_x]), np.r_[walker, half + others_walker])
    with warnings.catch_warnings(action="ignore", category=bg.UnreliableEstimateWarning):  # the verdict says it
        log_z = bg.log_partition(samples.log_w)
    eubo = by_walker(*weighed)
    found: dict[str, Any] = {
        "frames": int(frames.log_w.size),
        "frames_weighed": len(weighed[0]),
        "outside_the_chart": outside,
        "eubo_gap": {
            "value": eubo["value"] - log_z.value,
            "standard_error": math.hypot(eubo["standard_error"], log_z.standard_error),
        },
        "free_energy_error": free_energy_errors(samples, frames, generator.molecule),
    }
    verdict = bg.judge(samples, reference_log_w=torch.from_numpy(weighed[0]))
    found["verdict"] = verdict.headline

    n = min(len(samples), len(others_x))
    m = min(matched, n, len(x))
    fair = samples.resample(m, seed=0)
    assert samples.potential is not None
    assert fair.potential is not None
    finite = samples.potential[:m].clamp(max=1e6)  # clashes would move the distance to infinity
    found["energy_w2"] = {"n": m} | {
        name: wasserstein_on_a_line(u[:m].numpy(), values.numpy())
        for name, values in (("raw", finite), ("reweighted", fair.potential), ("noise", others_u[:m]))
    }
    if not residues:
        return found
    known, others = angles(x, torsions), angles(others_x, torsions)
    drawn, fair_angles = (angles(one.positions(), torsions) for one in (samples, fair))
    weights = normalized(samples.log_w[:n])
    columns = {"raw": (drawn[:n], None), "reweighted": (drawn[:n], weights), "noise": (others[:n], None)}
    found["maps"] = {"n": n} | {
        f"{measure.__name__}_{name}": mean_over_residues(measure, known, rows, w)
        for measure in (divergence, variation)
        for name, (rows, w) in columns.items()
    }
    found["torus_w2"] = {"n": m} | {
        name: wasserstein_on_a_torus(known[:m], values)
        for name, values in (("raw", drawn[:m]), ("reweighted", fair_angles), ("noise", others[:m]))
    }
    return found


def angles(x: Tensor, torsions: dict[str, Any]) -> Array:
    """Torsions of positions x (n, atoms, 3), (n, k)."""
    return np.stack([dihedral(x.double(), tuple(atoms)).numpy() for atoms in torsions.values()], 1)


def weighed_frames(generator: bg.BoltzmannGenerator, x: Tensor, walker: Array) -> tuple[tuple[Array, Array], float]:
    """Log-weights of frames, and their walkers, and the share of frames outside the chart, left out."""
    every = max(1, len(x) // WEIGHED)
    x, walker = x[::every], walker[::every]
    y, log_det = generator.coordinates.inverse(x.double())
    inside = torch.isfinite(y).all(1) & torch.isfinite(log_det)
    log_w = bg.weigh(generator.here, generator.target, y[inside].float()).log_w
    return (log_w.numpy(), walker[inside.numpy()]), float(1 - inside.double().mean())


def by_walker(values: Array, walker: Array) -> dict[str, float]:
    """The mean and its error, from leaving out each walker at a time: they are independent, their frames are not."""
    sums, counts = np.bincount(walker, values), np.bincount(walker)
    sums, counts = sums[counts > 0], counts[counts > 0]
    return jackknifed(sums, counts, lambda ratio: ratio)


def jackknifed(sums: Array, counts: Array, transform: Callable[[Any], Any]) -> dict[str, float]:
    """A function of Σ sums / Σ counts over walkers, and its delete-one error."""
    k = len(sums)
    left_out = transform((sums.sum() - sums) / (counts.sum() - counts))
    error = math.sqrt((k - 1) / k * float(np.square(left_out - left_out.mean()).sum()))
    return {"value": float(transform(sums.sum() / counts.sum())), "standard_error": error}


def free_energy_errors(samples: bg.Samples, frames: Frames, molecule: bg.Molecule) -> dict[str, dict[str, float]]:
    """F(φ > 0) − F(φ < 0) of the draws less that known of the system, else that of the frames, for every φ, in kT."""
    found = {}
    known = find(frames.about["system"]).reference
    w = np.exp(frames.log_w - frames.log_w.max())
    for name in (name for name in samples.torsions if name.startswith("phi")):
        phi = samples.torsion(name)
        with warnings.catch_warnings(action="ignore", category=bg.UnreliableEstimateWarning):
            ours = bg.free_energy_difference(samples.log_w, phi < 0, phi > 0)
        if (listed := f"free_energy_difference_{name}") in known:
            theirs = {key: known[listed][key] for key in ("value", "standard_error")}
        else:
            x = torch.from_numpy(frames.x.reshape(-1, *frames.x.shape[2:]))
            positive = (angles(x, {name: molecule.torsions[name]})[:, 0] > 0).reshape(w.shape)
            # relative to all of the weight: far from 0 and 1 a logarithm of what is left
            if np.count_nonzero((w * positive).sum(0)) < 2:
                continue  # one walker alone says nothing of its error
            theirs = jackknifed((w * positive).sum(0), w.sum(0), lambda p: np.log((1 - p) / np.maximum(p, 1e-300)))
        found[name] = {
            "value": ours.value - theirs["value"],
            "standard_error": math.hypot(ours.standard_error, theirs["standard_error"]),
            "reference": theirs["value"],
        }
    return found


def normalized(log_w: Tensor) -> Array:
    w = (log_w - log_w.max()).exp()
    return (w / w.sum()).numpy()


def density(rows: Array, w: Array | None) -> Array:
    """Of two angles (n, 2), on a grid of bins; its integral over the torus is 1."""
    side = [[-math.pi, math.pi]] * 2
    density, _, _ = np.histogram2d(*rows.T, BINS, range=side, weights=w, density=True)
    return density


def divergence(p: Array, q: Array) -> float:
    """KL(p ‖ q) of two densities on the torus."""
    area = (2 * math.pi / BINS) ** 2
    return float((p * np.log((p + EPSILON) / (q + EPSILON))).sum() * area)


def variation(p: Array, q: Array) -> float:
    """Half of ∫ |p − q|."""
    return float(0.5 * np.abs(p - q).sum() * (2 * math.pi / BINS) ** 2)


def mean_over_residues(measure: Callable[[Array, Array], float], known: Array, rows: Array, w: Array | None) -> float:
    """Of the maps of each φ and the ψ that follows it."""
    pairs = [slice(k, k + 2) for k in range(0, known.shape[1], 2)]
    return float(np.mean([measure(density(known[:, pair], None), density(rows[:, pair], w)) for pair in pairs]))


def wasserstein_on_a_line(a: Array, b: Array) -> float:
    """2-Wasserstein distance of equally many numbers: of those of equal rank."""
    return float(np.sqrt(np.mean((np.sort(a) - np.sort(b)) ** 2)))


def wasserstein_on_a_torus(a: Array, b: Array) -> float:
    """2-Wasserstein distance of equally many points (n, k) of k angles."""
    from scipy.optimize import linear_sum_assignment

    cost = np.zeros((len(a), len(b)))
    for left, right in zip(a.T, b.T, strict=True):
        apart = np.abs(left[:, None] - right)
        cost += np.minimum(apart, 2 * math.pi - apart) ** 2
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))
