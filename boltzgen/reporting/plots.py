"""Pictures of energies, weights and their course, as matplotlib figures that belong to nobody else."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..errors import InputError
from ..files import as_path, atomically
from ..reweighting import effective_sample_size
from ..reweighting.pareto import decisive_k
from ..sampling import Samples
from ..units import kT
from .estimates import running
from .palette import FLOW, OTHER, PLAIN, REWEIGHTED
from .weighing import Array, weighed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..training import History

__all__ = [
    "energy_histogram",
    "energy_numbers",
    "running_estimates",
    "save_figure",
    "training_curve",
    "training_numbers",
    "weight_histogram",
    "weight_numbers",
]

_LOWEST = -25.0
"""Log-weight below which a draw counts for nothing."""
_STRETCHES = 300
"""points of a curve of losses at most."""
_NAMES = {
    "mean_potential_energy": "⟨U⟩",
    "mean_reduced_energy": "⟨u⟩",
    "log_partition": "log Z",
    "free_energy_difference_phi": "ΔF, φ < 0 → φ > 0",
}


def weight_histogram(samples: Samples, *, bins: int = 80) -> Figure:
    """Distribution of the log-weights about the logarithm of their mean; a perfect flow has a single line at 0.

    The right end matters: a few draws far to the right carry the estimates.

    Raises:
        InputError: if every weight is zero.
    """
    numbers = weight_numbers(samples, bins=bins)
    figure, axis = _single()
    edges = np.array(numbers["edges"])
    axis.bar(edges[:-1], numbers["draws"], np.diff(edges), align="edge", color=REWEIGHTED)
    axis.axvline(0, color=PLAIN, lw=1, ls="--")
    share = effective_sample_size(samples.log_w) / len(samples)
    beyond, failed = numbers["further_left"], samples.n_failed
    k = decisive_k(samples.log_w)
    title = f"effective draws {share:.1%} of {len(samples)}" + (f", Pareto k {k:.2f}" if np.isfinite(k) else "")
    further = "1 draw lies" if beyond == 1 else f"{beyond} draws lie"
    notes = [f"{further} further left"] * bool(beyond) + [f"{failed} of weight 0"] * bool(failed)
    title += f"\n{', '.join(notes)}" * bool(notes)
    axis.set(xlabel="ln (w / mean w)", ylabel="draws", yscale="log", title=title)
    return figure


def weight_numbers(samples: Samples, *, bins: int = 80) -> dict[str, Any]:
    """The numbers of `weight_histogram`: "edges" of ln (w / mean w), "draws" between them, and how many "further_left".

    Raises:
        InputError: if every weight is zero.
    """
    log_w = samples.log_w[weighed(samples)[0]].numpy()
    log_w = log_w - np.logaddexp.reduce(log_w) + np.log(len(samples))
    lowest = max(log_w.min(), _LOWEST)
    draws, edges = np.histogram(log_w[log_w >= lowest], bins)
    return {"edges": edges.tolist(), "draws": draws.tolist(), "further_left": int((log_w < lowest).sum())}


def energy_histogram(samples: Samples, *, bins: int = 80, reference: Samples | None = None) -> Figure:
    """Distribution of the energy under the flow and, reweighted, under the target.

    Arguments:
        samples: draws.
        bins: number of them.
        reference: weighted configurations of the same target from another source, shown dashed.

    Raises:
        InputError: if every weight is zero.
    """
    numbers = energy_numbers(samples, bins=bins, reference=reference)
    edges = np.array(numbers["edges"])
    figure, axis = _single()
    axis.stairs(numbers["flow"], edges, color=FLOW, alpha=0.45, fill=True, label="flow")
    axis.stairs(numbers["reweighted"], edges, color=REWEIGHTED, lw=1.6, label="reweighted")
    if reference is not None:
        axis.stairs(numbers["reference"], edges, color=PLAIN, lw=1.4, ls="--", label="reference")
    label = "u (kT)" if samples.potential is None else "potential energy (kJ/mol)"
    axis.set(xlabel=label, ylabel="density", ylim=(0, None))
    if numbers["outside"] > 0.0005:
        axis.set_title(f"{numbers['outside']:.1%} of the flow's draws lie outside")
    axis.legend(frameon=False)
    return figure


def energy_numbers(samples: Samples, *, bins: int = 80, reference: Samples | None = None) -> dict[str, Any]:
    """The numbers of `energy_histogram`: its "unit", the "edges" of the bins, and the densities between them.

    These are under "flow", "reweighted" and "reference"; "outside" is the share of the flow's draws beyond the edges.

    Raises:
        InputError: if every weight is zero.
    """
    energy, w = _energies(samples)
    order = np.argsort(energy)
    rank = np.searchsorted(np.cumsum(w[order]), [0.01, 0.99]).clip(max=len(w) - 1)
    low, high = energy[order][rank]  # the target's own range, and half as much again on either side
    margin = 0.5 * max(high - low, 1.0)  # one draw may have all the weight
    limits = (max(energy.min(), low - margin), min(energy.max(), high + margin))
    beyond = float(((energy < limits[0]) | (energy > limits[1])).mean())
    equal = np.full(len(w), 1 / len(w))
    edges = np.histogram_bin_edges(energy, bins, range=limits)
    sides = {"flow": (energy, equal), "reweighted": (energy, w)}
    sides |= {} if reference is None else {"reference": _energies(reference)}
    densities = {
        name: (np.histogram(values, edges, weights=weights)[0] / np.diff(edges)).tolist()
        for name, (values, weights) in sides.items()
    }
    unit = "kT" if samples.potential is None else "kJ/mol"
    return {"unit": unit, "edges": edges.tolist(), **densities, "outside": beyond}


def running_estimates(samples: Samples) -> Figure:
    """Effective share and default estimates of the first n draws, with bands of two standard errors; see `running`.

    Curves that settle within their bands are as they should be. A step in an estimate, with a fall of the effective
    share, is one heavy draw.

    Raises:
        InputError: if every weight is zero.
    """
    weighed(samples)
    found = running(samples)
    n = np.array(found["n"])
    panels = 1 + len(found["estimates"])
    columns = min(panels, 2)
    figure = Figure(figsize=(4.2 * columns, 2.5 * -(-panels // columns)), layout="constrained")
    axes = figure.subplots(-(-panels // columns), columns, squeeze=False).flatten()
    axes[0].plot(n, np.array(found["ess"]) / n, "o-", ms=3, color=OTHER)
    axes[0].set(title="effective share", ylim=(0, 1))
    axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    for axis, (name, series) in zip(axes[1:], found["estimates"].items(), strict=False):
        value, error = (np.array(series[key], dtype=float) for key in ("value", "standard_error"))
        axis.fill_between(n, value - 2 * error, value + 2 * error, color=REWEIGHTED, alpha=0.25, lw=0)
        axis.plot(n, value, "o-", ms=3, color=REWEIGHTED)
        unit = f" ({series['unit']})" if series["unit"] else ""
        axis.set_title(_NAMES.get(name, name) + unit, parse_math=False)
    for axis in axes[:panels]:
        axis.set(xscale="log", xlabel="draws")
        axis.title.set_fontsize("medium")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[panels:]:
        axis.set_axis_off()
    return figure


def training_curve(history: History) -> Figure:
    """The loss of `train`; of `anneal` the effective sample share of each round with its temperature, and KL(q‖p)."""
    numbers = training_numbers(history)
    if not history.rounds:
        figure, axis = _single()
        loss = np.array(numbers["loss"], dtype=float)
        axis.plot(numbers["steps"], loss, color=REWEIGHTED, lw=0.8)
        axis.set(xlabel="step", ylabel="loss")
        if np.isfinite(loss).sum() > 10:  # the first steps may be far above all others
            low, high = np.nanpercentile(loss, [0, 98])
            axis.set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.05 * (high - low) + 1e-9)
        return figure
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    share, divergence = figure.subplots(1, 2)
    share.plot(numbers["minutes"], numbers["ess"], "o-", color=REWEIGHTED, ms=3.5)
    share.set(xlabel="minutes of training", ylabel="effective share of the draws", ylim=(0, 1))
    share.yaxis.set_major_formatter(PercentFormatter(1.0))
    other = share.twinx()
    other.plot(numbers["minutes"], numbers["temperature"], color=FLOW, lw=1, ls="--")
    other.set_ylabel("temperature (K), dashed", color=FLOW)
    other.spines["top"].set_visible(False)
    divergence.plot(numbers["minutes"], np.array(numbers["kl"], dtype=float), color=REWEIGHTED, lw=0.8)
    divergence.set(xlabel="minutes of training", ylabel="KL(q‖p) of the draws", yscale="log")
    for axis in (share, divergence):
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def training_numbers(history: History) -> dict[str, Any]:
    """The numbers of `training_curve`, as plain data.

    Returns:
        Of rounds the "minutes", "ess", "temperature" and "kl" of each, None where it was not kept. Without rounds the
        "loss", as means over equal stretches of steps, some hundred, that end at "steps"; None where every step was
        skipped.
    """
    if history.rounds:
        return {
            "minutes": [one.seconds / 60 for one in history.rounds],
            "ess": [one.ess for one in history.rounds],
            "temperature": [one.temperature for one in history.rounds],
            "kl": [one.kl if math.isfinite(one.kl) else None for one in history.rounds],
        }
    stretch = max(1, -(-len(history.losses) // _STRETCHES))
    parts = [history.losses[k : k + stretch] for k in range(0, len(history.losses), stretch)]
    good = [[loss for loss in part if math.isfinite(loss)] for part in parts]
    return {
        "steps": [min((k + 1) * stretch, len(history.losses)) for k in range(len(parts))],
        "loss": [sum(part) / len(part) if part else None for part in good],
    }


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 150) -> None:
    """Saves a figure in the format its ending says, .png or .svg or .pdf, whole or not at all.

    Raises:
        InputError: if the ending names no format.
        OSError: if the file cannot be written; an older one is left intact.
    """
    ending, known = as_path(path).suffix[1:].lower(), sorted(figure.canvas.get_supported_filetypes())
    if ending not in known:
        raise InputError(f"path must end in one of .{', .'.join(known)}; got {str(path)!r}: take .svg or .png")
    with atomically(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def _energies(samples: Samples) -> tuple[Array, Array]:
    """Energies of the draws that have a finite one, in kJ/mol for molecules and kT otherwise, and their weights."""
    good, w = weighed(samples)
    if samples.potential is None:
        return samples.u.numpy()[good], w
    return samples.potential.numpy()[good] * kT(samples.temperature), w


def _single() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.title.set_fontsize("medium")
    return figure, axis
