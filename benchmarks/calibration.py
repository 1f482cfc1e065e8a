"""Do 95 % intervals hold the truth 95 times in a hundred? Toys with exact answers, and imperfect proposals.

    python benchmarks/calibration.py

Proposals are wider than the target, q ~ p^beta, with bounded weights; or shifted, in many dimensions, with lognormal
weights, which have a tail as those of a trained flow do. Writes benchmarks/results/calibration.json and prints a table:
the share of intervals that hold the exact value, by target, effective share of the draws, and estimator. The last line
is the twin, weights off by 5 % in one state.
"""

import argparse
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import boltzgen as bg
from boltzgen.energies import toys
from boltzgen.reweighting import conformers, free_energy_change

SHARES = (0.05, 0.2, 0.5, 0.8)
HOTTER = 1.1
OFF = math.log(1.05)


@dataclass
class Plane:
    """A landscape in the plane and proposals q ∝ p^β, constant on the cells of a fine grid: all of it can be summed.

    Several wells of one kind side by side (`copies`) make the target of many dimensions: x then is that of the first.
    """

    energy: bg.Energy
    box: tuple[float, float, float, float]
    in_a: Callable
    level: float = 0.0
    copies: int = 1
    cells: int = 500

    def __post_init__(self):
        left, right, low, high = self.box
        self.h = np.array([(right - left) / self.cells, (high - low) / self.cells])
        axes = [start + step * (np.arange(self.cells) + 0.5) for start, step in ((left, self.h[0]), (low, self.h[1]))]
        self.grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        self.u = self.energy.energy(torch.from_numpy(self.grid)).numpy()
        self.log_area = math.log(self.h.prod())
        self.log_z1 = float(np.logaddexp.reduce(-self.u)) + self.log_area
        self.p = np.exp(-self.u - self.log_z1 + self.log_area)

    def proposal(self, share):
        """log q of each cell, and the draw of it, with this effective share for all copies together."""
        low, high = 0.02, 1.0
        for _ in range(40):
            beta = (low + high) / 2
            log_q = -beta * self.u - np.logaddexp.reduce(-beta * self.u) - self.log_area
            ess = -self.copies * np.logaddexp.reduce(-2 * self.u - log_q + self.log_area - 2 * self.log_z1)
            low, high = (low, beta) if ess > math.log(share) else (beta, high)
        cumulated = np.exp(log_q + self.log_area).cumsum()

        def draw(n, random):
            mark = random.random(n * self.copies) * cumulated[-1]
            order = mark.argsort()  # neighbours find their cells in the same cache line
            cell = np.empty(len(mark), dtype=np.int64)
            cell[order] = np.searchsorted(cumulated, mark[order], side="right")
            cell = cell.reshape(n, self.copies)
            x = self.grid[cell] + (random.random((n, self.copies, 2)) - 0.5) * self.h
            u = self.energy.energy(torch.from_numpy(x.reshape(-1, 2))).numpy().reshape(n, self.copies)
            return x[:, 0], u.sum(1), (-u - log_q[cell]).sum(1)

        return draw

    def truths(self):
        """Exact values, by sums over the grid."""
        x, a = self.grid[:, 0], self.in_a(self.grid)
        mean = float(self.p @ x)
        p_a = float(self.p[a].sum())
        log_z_hot = self.copies * (float(np.logaddexp.reduce(-self.u / HOTTER)) + self.log_area)
        hot = np.exp(-self.u / HOTTER - np.logaddexp.reduce(-self.u / HOTTER))
        u_hot = self.copies * float(hot @ self.u)
        spread_hot = self.copies * float(hot @ (self.u - hot @ self.u) ** 2)
        log_z = self.copies * self.log_z1
        marginal = self.p.reshape(self.cells, self.cells).sum(1)
        edges = self.box[0] + self.h[0] * np.arange(self.cells + 1)
        median = float(np.interp(0.5, np.concatenate([[0.0], marginal.cumsum()]), edges))
        return {
            "log Z": log_z,
            "mean": mean,
            "variance": float(self.p @ (x - mean) ** 2),
            "median": median,
            "probability": p_a,
            "difference": -math.log((1 - p_a) / p_a),
            "profile": -math.log(1 - p_a),
            "F(T)": -HOTTER * log_z_hot,
            "U(T)": u_hot,
            "C(T)": spread_hot / HOTTER**2,
            "S(T)": u_hot / HOTTER + log_z_hot,
            "conformer": p_a,
            "2-D profile": -math.log(float(self.p[~a & (self.grid[:, 1] < self.level)].sum())),
            "change": log_z - log_z_hot,
        }


@dataclass
class Shifted:
    """N(0, 1) in many dimensions from proposals shifted along the diagonal: ln w is normal, ESS/n = exp(-var ln w)."""

    dimensions: int = 16
    level: float = 0.0

    def in_a(self, x):
        return x[:, 0] < 0.5

    def proposal(self, share):
        """The draw of it, with this effective share: two of the variables, u and log w."""
        shift = math.sqrt(-math.log(share) / self.dimensions)

        def draw(n, random):
            noise = random.normal(size=(n, self.dimensions))
            x = noise - shift
            u, log_q = 0.5 * (x**2).sum(1), -0.5 * (noise**2).sum(1) - 0.5 * self.dimensions * math.log(2 * math.pi)
            return x[:, :2], u, -u - log_q

        return draw

    def truths(self):
        half = 0.5 * self.dimensions
        p_a = 0.5 * math.erfc(-0.5 / math.sqrt(2))
        log_z, log_z_hot = half * math.log(2 * math.pi), half * math.log(2 * math.pi * HOTTER)
        return {
            "log Z": log_z,
            "mean": 0.0,
            "variance": 1.0,
            "median": 0.0,
            "probability": p_a,
            "difference": -math.log((1 - p_a) / p_a),
            "profile": -math.log(1 - p_a),
            "F(T)": -HOTTER * log_z_hot,
            "U(T)": half * HOTTER,
            "C(T)": half,
            "S(T)": half + log_z_hot,
            "conformer": p_a,
            "2-D profile": -math.log(0.5 * (1 - p_a)),
            "change": log_z - log_z_hot,
        }


def plane_states(energy):
    return lambda x: energy.in_a(torch.from_numpy(x)).numpy()


def problems():
    gaussian, well, brown = (
        toys.Gaussian([0.0, 0.0], [[1.0, 0.3], [0.3, 0.5]]),
        toys.DoubleWell("snf"),
        toys.MuellerBrown(),
    )
    return {
        "gaussian": Plane(gaussian, (-7, 7, -6, 6), lambda x: x[:, 0] < 0.5),
        "double well": Plane(well, (-4, 4, -7, 7), plane_states(well)),
        "many well": Plane(well, (-4, 4, -7, 7), plane_states(well), copies=16),
        "mueller-brown": Plane(brown, (-2.3, 1.6, -1.2, 2.8), plane_states(brown), level=0.5),
        "gaussian, lognormal weights": Shifted(),
    }


def estimates(log_w, x, u, a, low):
    """Every estimator, on one set of draws, of which some lie in state a, and some low in the other variable."""
    found = conformers(log_w, np.where(a, 1.0, -1.0)[:, None], boundaries=[0.0, 2.0])
    (of_a,) = np.flatnonzero(found.cell[:, 0] == 0)
    halves = [-0.5, 0.5, 1.5]
    curves = bg.thermodynamics(log_w, u, [HOTTER], drawn_at=1.0)
    return {
        "log Z": bg.log_partition(log_w),
        "mean": bg.expectation(log_w, x),
        "variance": bg.variance(log_w, x),
        "median": bg.quantile(log_w, x, 0.5),
        "probability": bg.probability(log_w, a),
        "difference": bg.free_energy_difference(log_w, a, ~a),
        "profile": bg.profile(log_w, (~a).astype(float), bins=halves)[1],
        "2-D profile": bg.profile(log_w, np.stack([~a, low], 1).astype(float), bins=(halves, halves))[1, 1],
        "conformer": found.population[of_a],
        "F(T)": curves.free_energy[0],
        "U(T)": curves.mean_energy[0],
        "C(T)": curves.heat_capacity[0],
        "S(T)": curves.entropy[0],
        "change": free_energy_change(log_w, log_w + (1 - 1 / HOTTER) * u),
    }


def coverage(problem, share, *, n, replicas, off=0.0, seed=0):
    """Share of intervals that hold the truth, by estimator."""
    draw, truths = problem.proposal(share), problem.truths()
    hits = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.UnreliableEstimateWarning)
        for replica in range(replicas):
            random = np.random.default_rng([seed, replica])
            x, u, log_w = draw(n, random)
            a = problem.in_a(x)
            found = estimates(log_w + off * a, x[:, 0], u, a, x[:, 1] < problem.level)
            for name, estimate in found.items():
                low, high = estimate.interval
                hits.setdefault(name, []).append(low <= truths[name] <= high)
    return {name: float(np.mean(values)) for name, values in hits.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=2000)
    parser.add_argument("-n", type=int, default=4000, help="draws of each replica")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "calibration.json")
    options = parser.parse_args()
    rows = []
    for name, problem in problems().items():
        for share in SHARES:
            found = coverage(problem, share, n=options.n, replicas=options.replicas)
            rows.append({"target": name, "effective_share": share, "coverage": found})
            print(f"{name:27} {share:4.0%}  " + "  ".join(f"{k} {v:.3f}" for k, v in found.items()), flush=True)
    twin = coverage(problems()["gaussian"], 0.8, n=20_000, replicas=min(options.replicas, 300), off=OFF)
    rows.append({"target": "gaussian, weights off by 5 %", "effective_share": 0.8, "coverage": twin})
    print("twin, off by 5 %                  " + "  ".join(f"{k} {v:.3f}" for k, v in twin.items()))
    result = {"n": options.n, "replicas": options.replicas, "rows": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
