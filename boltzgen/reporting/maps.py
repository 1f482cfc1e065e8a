"""Where a molecule's torsions are: maps and profiles of the free energy, beside those of a reference."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..arguments import positive_counts
from ..errors import InputError, UnreliableEstimateWarning
from ..reweighting import profile
from ..sampling import Samples
from .palette import PLAIN, REWEIGHTED
from .plain import finite, rounded
from .weighing import Array, weighed

__all__ = ["PROFILED", "free_energy_profiles", "map_distance", "map_numbers", "profile_numbers", "ramachandran"]

_HIGHEST = 8.0
"""kT above the deepest bin, where the colours of a free-energy map end."""
_DIFFERENCE = 2.0
"""kT at which the colours of a difference end."""
PROFILED = 6
"""profiles in a figure for which no torsions were named."""
_COARSE = 24
"""bins along each axis in which two maps are compared as probabilities."""


def ramachandran(
    samples: Samples, x: str = "phi", y: str = "psi", *, bins: int = 72, reference: Samples | None = None
) -> Figure:
    """Free-energy maps −ln p(x, y) over two torsions: of the flow's draws, and of the same draws reweighted.

    With a reference two more: its own map, and the difference F − F_ref in bins of twice the width, after both have the
    same probability where both are known.

    Arguments:
        samples: draws of a molecule.
        x, y: names of torsions.
        bins: along each axis.
        reference: weighted configurations of the same molecule from another source, a simulation say.

    Raises:
        InputError: if the torsions are unknown, every weight is zero, or bins is no positive integer.
    """
    numbers = map_numbers(samples, x, y, bins=bins, reference=reference)
    edges = np.array(numbers["degrees"])
    maps = {name: np.array(numbers[name]) for name in ("flow", "reweighted", "reference") if name in numbers}
    rows = 1 if reference is None else 2
    figure = Figure(figsize=(8.4, 3.9 if rows == 1 else 7.4), layout="constrained")
    axes = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    for axis, (title, p) in zip(axes.flat, maps.items(), strict=False):
        with np.errstate(divide="ignore"):
            free_energy = -np.log(np.where(p > 0, p / p.max(), np.nan))
        image = axis.pcolormesh(edges, edges, free_energy.T, cmap="viridis", vmin=0, vmax=_HIGHEST, rasterized=True)
        _dress(axis, title)
    figure.colorbar(image, ax=axes[0], label="free energy (kT)", extend="max", shrink=0.92)
    if reference is not None:
        wide, difference = (
            np.array(numbers["difference"]["degrees"]),
            np.array(numbers["difference"]["kT"], dtype=float),
        )
        image = axes[1, 1].pcolormesh(
            wide, wide, difference.T, cmap="PuOr", vmin=-_DIFFERENCE, vmax=_DIFFERENCE, rasterized=True,
        )  # fmt: skip
        _dress(axes[1, 1], "reweighted − reference")
        figure.colorbar(image, ax=axes[1], label="difference (kT)", extend="both", shrink=0.92)
    for axis in axes[-1]:
        axis.set_xlabel(f"{x} (degrees)", parse_math=False)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{y} (degrees)", parse_math=False)
    return figure


def map_numbers(
    samples: Samples, x: str = "phi", y: str = "psi", *, bins: int = 72, reference: Samples | None = None
) -> dict[str, Any]:
    """The numbers of `ramachandran`, as plain data.

    Returns:
        The names "x" and "y"; the edges of the bins in "degrees"; the probability of each bin, along x and then y,
        under "flow", "reweighted" and "reference"; under "difference" F − F_ref in kT with edges of its own, None where
        it is not known.

    Raises:
        InputError: as `ramachandran`.
    """
    (bins,) = positive_counts(bins=bins)
    _, w = weighed(samples)
    found = {
        "x": x,
        "y": y,
        "degrees": np.linspace(-180, 180, bins + 1).tolist(),
        "flow": rounded(_map(samples, x, y, bins, np.ones_like(w))),
        "reweighted": rounded(_map(samples, x, y, bins, w)),
    }
    if reference is not None:
        coarse = max(1, bins // 2)  # a simulation has fewer configurations than a flow
        found["reference"] = rounded(_map(reference, x, y, bins))
        found["difference"] = {
            "degrees": np.linspace(-180, 180, coarse + 1).tolist(),
            "kT": rounded(_difference(_map(samples, x, y, coarse), _map(reference, x, y, coarse))),
        }
    return found


def map_distance(samples: Samples, reference: Samples, x: str = "phi", y: str = "psi") -> tuple[float, float]:
    """How far two maps over a pair of torsions are apart: the share ½ Σ |p − p_ref| of probability that lies elsewhere.

    Bins of 15° by 15°. Also what noise alone would make of equal maps: ½ Σ √(2/π) σ, with the σ of independent draws,
    by the effective sample size of each side. Frames of a simulation are correlated, and noisier than that.

    Returns:
        The share, and that of the noise.
    """
    p, q = _map(samples, x, y, _COARSE), _map(reference, x, y, _COARSE)
    variance = sum(m * (1 - m) / _worth(side) for m, side in ((p, samples), (q, reference)))
    return 0.5 * float(np.abs(p - q).sum()), 0.5 * math.sqrt(2 / math.pi) * float(np.sqrt(variance).sum())


def free_energy_profiles(
    samples: Samples, torsions: Sequence[str] | None = None, *, bins: int = 48, reference: Samples | None = None
) -> Figure:
    """Free-energy profiles F = −ln p in kT over torsions, the deepest bin at 0, with bands of 95 % confidence.

    The bands are those of each bin alone. Gaps: bins never drawn. No more than 12 kT are shown.

    Arguments:
        samples: draws of a molecule.
        torsions: their names; all the molecule has, six at most, if None.
        bins: over the circle.
        reference: weighted configurations of the same molecule from another source, shown dashed.

    Raises:
        InputError: if a torsion is unknown, there is none, or every weight is zero.
    """
    found = profile_numbers(samples, torsions, bins=bins)
    known = {} if reference is None else profile_numbers(reference, list(found), bins=bins)
    columns = min(len(found), 3)
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(0.6 + 2.9 * columns, 0.4 + 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for axis, (name, numbers) in zip(axes.flat, found.items(), strict=False):
        angle, value, low, high = (np.array(column, dtype=float) for column in numbers.values())
        high = np.where(np.isnan(high), 1e3, high)
        axis.fill_between(angle, low, high, where=np.isfinite(value), color=REWEIGHTED, alpha=0.25, lw=0)
        axis.plot(angle, value, color=REWEIGHTED, lw=1.4, label="reweighted")
        if name in known:
            other = np.array(known[name]["free_energy"], dtype=float)
            axis.plot(angle, other, color=PLAIN, lw=1.2, ls="--", label="reference")
        axis.set_title(name, parse_math=False)
        axis.set(xlim=(-180, 180), ylim=(0, min(1.15 * np.nanmax(value) + 0.5, 1.5 * _HIGHEST)))
        axis.set_xticks(range(-180, 181, 90))
        axis.spines[["top", "right"]].set_visible(False)
    if known:
        axes.flat[0].legend(frameon=False, fontsize="small")
    for k, axis in enumerate(axes.flat[len(found) :], len(found)):
        axis.set_axis_off()
        above = axes.flat[k - columns]
        above.tick_params(labelbottom=True)
        above.set_xlabel("degrees")
    for axis in axes[:, 0]:
        axis.set_ylabel("free energy (kT)")
    for axis in axes[-1]:
        axis.set_xlabel("degrees")
    return figure


def profile_numbers(
    samples: Samples, torsions: Sequence[str] | None = None, *, bins: int = 48
) -> dict[str, dict[str, list[Any]]]:
    """The numbers of `free_energy_profiles`: torsion → {degrees, free_energy, low, high}, None where nothing is known.

    Raises:
        InputError: as `free_energy_profiles`.
    """
    weighed(samples)
    names = list(samples.torsions)[:PROFILED] if torsions is None else list(torsions)
    if not names:
        raise InputError("torsions must name at least one torsion; got none: the samples carry no named torsions")
    numbers = {}
    for name in names:
        with warnings.catch_warnings(action="ignore", category=UnreliableEstimateWarning):  # the verdict says it
            found = profile(samples.log_w, samples.torsion(name), bins=bins, period=2 * math.pi)
        floor = found.value.min()
        low, high = (np.asarray(limit) - floor for limit in found.interval)
        drawn = np.isfinite(found.value)
        numbers[name] = {
            "degrees": np.degrees(found.centers[0]).tolist(),
            "free_energy": [finite(v) for v in found.value - floor],
            "low": [finite(v) if ok else None for v, ok in zip(np.maximum(low, 0.0), drawn, strict=True)],
            "high": [finite(v) if ok else None for v, ok in zip(high, drawn, strict=True)],
        }
    return numbers


def _map(samples: Samples, x: str, y: str, bins: int, w: Array | None = None) -> Array:
    """Probability of each bin of a pair of torsions, (bins, bins)."""
    good, weights = weighed(samples)
    a, b = (np.degrees(samples.torsion(name).numpy()[good]) for name in (x, y))
    p, _, _ = np.histogram2d(a, b, bins, range=[[-180, 180]] * 2, weights=weights if w is None else w)
    shares: Array = p / p.sum()
    return shares


def _difference(p: Array, q: Array) -> Array:
    """−ln p + ln q where both are known, its offset such that both have the same probability there."""
    both = (p > 0) & (q > 0)
    p, q = (np.where(both, m, np.nan) / m[both].sum() if both.any() else m * np.nan for m in (p, q))
    difference: Array = np.log(q) - np.log(p)
    return difference


def _worth(samples: Samples) -> float:
    _, w = weighed(samples)
    return 1 / float(w @ w)


def _dress(axis: Axes, title: str) -> None:
    axis.set(title=title, aspect="equal", xlim=(-180, 180), ylim=(-180, 180))
    axis.title.set_color(PLAIN if "−" in title else "black")
    axis.set_xticks(range(-180, 181, 90))
    axis.set_yticks(range(-180, 181, 90))
