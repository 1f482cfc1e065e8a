"""Pictures of energies, weights and their course, as matplotlib figures that belong to nobody else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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

__all__ = ["energy_histogram", "running_estimates", "save_figure", "training_curve", "weight_histogram"]

_LOWEST = -25.0
"""Log-weight below which a draw counts for nothing."""
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
    log_w = samples.log_w[weighed(samples)[0]].numpy()
    log_w = log_w - np.logaddexp.reduce(log_w) + np.log(len(samples))
    figure, axis = _single()
    lowest = max(log_w.min(), _LOWEST)
    axis.hist(log_w[log_w >= lowest], bins, color=REWEIGHTED)
    axis.axvline(0, color=PLAIN, lw=1, ls="--")
    share = effective_sample_size(samples.log_w) / len(samples)
    beyond, failed = int((log_w < lowest).sum()), samples.n_failed
    k = decisive_k(samples.log_w)
    title = f"effective draws {share:.1%} of {len(samples)}" + (f", Pareto k {k:.2f}" if np.isfinite(k) else "")
    further = "1 draw lies" if beyond == 1 else f"{beyond} draws lie"
    notes = [f"{further} further left"] * bool(beyond) + [f"{failed} of weight 0"] * bool(failed)
    title += f"\n{', '.join(notes)}" * bool(notes)
    axis.set(xlabel="ln (w / mean w)", ylabel="draws", yscale="log", title=title)
    return figure


def energy_histogram(samples: Samples, *, bins: int = 80, reference: Samples | None = None) -> Figure:
    """Distribution of the energy under the flow and, reweighted, under the target.

    Arguments:
        samples: draws.
        bins: number of them.
        reference: weighted configurations of the same target from another source, shown dashed.

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
    figure, axis = _single()
    of_flow, edges = np.histogram(energy, bins, range=limits, weights=np.full(len(w), 1 / len(w)))
    of_target, _ = np.histogram(energy, edges, weights=w)
    axis.stairs(of_flow / np.diff(edges), edges, color=FLOW, alpha=0.45, fill=True, label="flow")
    axis.stairs(of_target / np.diff(edges), edges, color=REWEIGHTED, lw=1.6, label="reweighted")
    if reference is not None:
        known, weights = _energies(reference)
        of_reference, _ = np.histogram(known, edges, weights=weights)
        axis.stairs(of_reference / np.diff(edges), edges, color=PLAIN, lw=1.4, ls="--", label="reference")
    label = "u (kT)" if samples.potential is None else "potential energy (kJ/mol)"
    axis.set(xlabel=label, ylabel="density", ylim=(0, None))
    if beyond > 0.0005:
        axis.set_title(f"{beyond:.1%} of the flow's draws lie outside")
    axis.legend(frameon=False)
    return figure


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
