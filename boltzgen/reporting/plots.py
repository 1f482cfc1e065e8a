"""Pictures of weighted draws, as matplotlib figures that belong to nobody else."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..errors import InputError, UnreliableEstimateWarning
from ..files import atomically
from ..reweighting import effective_sample_size, normalized_weights, profile
from ..sampling import Samples
from ..units import kT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..training import History

__all__ = [
    "energy_histogram",
    "free_energy_profiles",
    "ramachandran",
    "save_figure",
    "training_curve",
    "weight_histogram",
]

FLOW, REWEIGHTED, PLAIN = "#D55E00", "#0072B2", "#555555"
"""Okabe & Ito's vermilion and blue, told apart by everyone, and grey."""
_HIGHEST = 8.0
"""kT above the deepest bin, where the colours of a free-energy map end."""
_LOWEST = -25.0
"""Log-weight below which a draw counts for nothing."""

_MOST = 6
"""profiles in a figure for which no torsions were named."""

Array = npt.NDArray[np.float64]


def ramachandran(samples: Samples, x: str = "phi", y: str = "psi", *, bins: int = 72) -> Figure:
    """Free-energy maps −ln p(x, y) over two torsions: of the flow's draws, and of the same draws reweighted.

    Arguments:
        samples: draws of a molecule.
        x, y: names of torsions.
        bins: along each axis.

    Raises:
        InputError: if the torsions are unknown, or every weight is zero.
    """
    good, w = _weighed(samples)
    a, b = (np.degrees(samples.torsion(name).numpy()[good]) for name in (x, y))
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, title, weights in ((axes[0], "flow", None), (axes[1], "reweighted", w)):
        p, edges, _ = np.histogram2d(a, b, bins, range=[[-180, 180]] * 2, weights=weights)
        p[p == 0] = np.nan
        image = axis.pcolormesh(
            edges, edges, -np.log(p.T / np.nanmax(p)), cmap="viridis", vmin=0, vmax=_HIGHEST, rasterized=True
        )
        axis.set(title=title, aspect="equal", xlim=(-180, 180), ylim=(-180, 180))
        axis.set_xlabel(f"{x} (degrees)", parse_math=False)
        axis.set_xticks(range(-180, 181, 90))
        axis.set_yticks(range(-180, 181, 90))
    axes[0].set_ylabel(f"{y} (degrees)", parse_math=False)
    figure.colorbar(image, ax=axes, label="free energy (kT)", extend="max", shrink=0.92)
    return figure


def free_energy_profiles(samples: Samples, torsions: Sequence[str] | None = None, *, bins: int = 48) -> Figure:
    """Free-energy profiles F = −ln p in kT over torsions, the deepest bin at 0, with bands of 95 % confidence.

    The bands are those of each bin alone. Gaps: bins never drawn. No more than 12 kT are shown.

    Arguments:
        samples: draws of a molecule.
        torsions: their names; all the molecule has, six at most, if None.
        bins: over the circle.

    Raises:
        InputError: if a torsion is unknown, there is none, or every weight is zero.
    """
    _weighed(samples)
    names = list(samples.torsions)[:_MOST] if torsions is None else list(torsions)
    if not names:
        raise InputError("torsions must name at least one torsion; got none: the samples carry no named torsions")
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(0.6 + 2.9 * columns, 0.4 + 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        with warnings.catch_warnings(action="ignore", category=UnreliableEstimateWarning):  # the verdict says it
            found = profile(samples.log_w, samples.torsion(name), bins=bins, period=2 * math.pi)
        floor = found.value.min()
        value = np.where(np.isfinite(found.value), found.value - floor, np.nan)
        low, high = (np.nan_to_num(limit - floor, nan=np.inf, posinf=1e3, neginf=0.0) for limit in found.interval)
        angle = np.degrees(found.centers[0])
        axis.fill_between(angle, low, high, where=np.isfinite(value), color=REWEIGHTED, alpha=0.25, lw=0)
        axis.plot(angle, value, color=REWEIGHTED, lw=1.4)
        axis.set_title(name, parse_math=False)
        axis.set(xlim=(-180, 180), ylim=(0, min(1.15 * np.nanmax(value) + 0.5, 1.5 * _HIGHEST)))
        axis.set_xticks(range(-180, 181, 90))
        axis.spines[["top", "right"]].set_visible(False)
    for k, axis in enumerate(axes.flat[len(names) :], len(names)):
        axis.set_axis_off()
        above = axes.flat[k - columns]
        above.tick_params(labelbottom=True)
        above.set_xlabel("degrees")
    for axis in axes[:, 0]:
        axis.set_ylabel("free energy (kT)")
    for axis in axes[-1]:
        axis.set_xlabel("degrees")
    return figure


def weight_histogram(samples: Samples, *, bins: int = 80) -> Figure:
    """Distribution of the log-weights about the logarithm of their mean; a perfect flow has a single line at 0.

    The right end matters: a few draws far to the right carry the estimates.

    Raises:
        InputError: if every weight is zero.
    """
    log_w = samples.log_w[_weighed(samples)[0]].numpy()
    log_w = log_w - np.logaddexp.reduce(log_w) + np.log(len(samples))
    figure, axis = _single()
    lowest = max(log_w.min(), _LOWEST)
    axis.hist(log_w[log_w >= lowest], bins, color=REWEIGHTED)
    axis.axvline(0, color=PLAIN, lw=1, ls="--")
    share = effective_sample_size(samples.log_w) / len(samples)
    beyond, failed = int((log_w < lowest).sum()), samples.n_failed
    notes = [f"effective draws {share:.1%} of {len(samples)}"]
    further = "1 draw lies" if beyond == 1 else f"{beyond} draws lie"
    notes += [f"{further} further left"] * bool(beyond) + [f"{failed} of weight 0"] * bool(failed)
    axis.set(xlabel="ln (w / mean w)", ylabel="draws", yscale="log", title=", ".join(notes))
    return figure


def energy_histogram(samples: Samples, *, bins: int = 80) -> Figure:
    """Distribution of the energy under the flow and, reweighted, under the target.

    Raises:
        InputError: if every weight is zero.
    """
    good, w = _weighed(samples)
    if samples.potential is None:
        energy, label = samples.u.numpy()[good], "u (kT)"
    else:
        energy, label = samples.potential.numpy()[good] * kT(samples.temperature), "potential energy (kJ/mol)"
    order = np.argsort(energy)
    rank = np.searchsorted(np.cumsum(w[order]), [0.01, 0.99]).clip(max=len(w) - 1)
    low, high = energy[order][rank]  # the target's own range, and half as much again on either side
    limits = (max(energy.min(), 1.5 * low - 0.5 * high), min(energy.max(), 1.5 * high - 0.5 * low))
    beyond = float(((energy < limits[0]) | (energy > limits[1])).mean())
    figure, axis = _single()
    of_flow, edges = np.histogram(energy, bins, range=limits, weights=np.full(len(w), 1 / len(w)))
    of_target, _ = np.histogram(energy, edges, weights=w)
    axis.stairs(of_flow / np.diff(edges), edges, color=FLOW, alpha=0.45, fill=True, label="flow")
    axis.stairs(of_target / np.diff(edges), edges, color=REWEIGHTED, lw=1.6, label="reweighted")
    axis.set(xlabel=label, ylabel="density", ylim=(0, None))
    if beyond > 0.0005:
        axis.set_title(f"{beyond:.1%} of the flow's draws lie outside")
    axis.legend(frameon=False)
    return figure


def training_curve(history: History) -> Figure:
    """Effective sample share of each round of `anneal`, with its temperature; the loss where there were no rounds."""
    figure, axis = _single()
    if history.rounds:
        minutes = [r.seconds / 60 for r in history.rounds]
        axis.plot(minutes, [r.ess for r in history.rounds], "o-", color=REWEIGHTED, ms=3.5)
        axis.set(xlabel="minutes of training", ylabel="effective share of the draws", ylim=(0, 1))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        other = axis.twinx()
        other.plot(minutes, [r.temperature for r in history.rounds], color=FLOW, lw=1, ls="--")
        other.set_ylabel("temperature (K), dashed", color=FLOW)
        other.spines["top"].set_visible(False)
    else:
        axis.plot(history.losses, color=REWEIGHTED, lw=0.8)
        axis.set(xlabel="step", ylabel="loss")
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 150) -> None:
    """Saves a figure in the format its ending says, .png or .svg or .pdf, whole or not at all.

    Raises:
        OSError: if the file cannot be written; an older one is left intact.
    """
    with atomically(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def _single() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.title.set_fontsize("medium")
    return figure, axis


def _weighed(samples: Samples) -> tuple[npt.NDArray[np.bool_], Array]:
    """Which draws have a finite energy, and their weights, which sum to one."""
    if samples.n_failed == len(samples):
        raise InputError(
            f"samples must hold a draw of finite energy; got none of {len(samples)}: check target and flow"
        )
    good = samples.u.isfinite().numpy()
    return good, normalized_weights(samples.log_w)[good]
