"""All the pictures of a report, each with what it shows and how to read it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.figure import Figure

from ..files import as_path
from ..sampling import Samples
from .drawings import structures
from .maps import PROFILED, free_energy_profiles, map_numbers, profile_numbers, ramachandran
from .outliers import extremes
from .plots import (
    energy_histogram,
    energy_numbers,
    running_estimates,
    save_figure,
    training_curve,
    training_numbers,
    weight_histogram,
    weight_numbers,
)

if TYPE_CHECKING:
    from ..training import History

__all__ = ["Picture", "album", "figures", "save_figures", "write_figures"]

FORMATS = ("svg", "png")


class Picture(NamedTuple):
    """A figure with what it shows, for those who cannot see it, and how to read it.

    Its numbers are plain data; empty where the results have them elsewhere.
    """

    figure: Figure
    alt: str
    caption: str
    numbers: Mapping[str, Any] = MappingProxyType({})


def album(samples: Samples, *, history: History | None = None, reference: Samples | None = None) -> dict[str, Picture]:
    """The pictures by name, those that can be drawn of these samples: none if every weight is zero."""
    found: dict[str, Picture] = {}
    if samples.n_failed < len(samples):
        if {"phi", "psi"} <= set(samples.torsions):
            found["ramachandran"] = _maps(samples, reference)
        if samples.torsions:
            found["profiles"] = Picture(
                free_energy_profiles(samples, reference=reference),
                "Free-energy profiles over torsions, with bands of 95 % confidence"
                + (", and those of the reference" if reference is not None else ""),
                "Reweighted; the deepest bin is at 0. A band is that of its bin alone."
                + (" Dashed: the reference." if reference is not None else ""),
                {}
                if reference is None
                else {"reference": profile_numbers(reference, list(samples.torsions)[:PROFILED])},
            )
        found["energies"] = Picture(
            energy_histogram(samples, reference=reference),
            "Histograms of the energy of the draws, of the flow and reweighted"
            + (", and of the reference" if reference is not None else ""),
            "The curves must overlap: reweighting cannot supply energies that the flow never draws.",
            energy_numbers(samples, reference=reference),
        )
        found["weights"] = Picture(
            weight_histogram(samples),
            "Histogram of the log-weights of the draws about the logarithm of their mean",
            "A perfect flow has all its weights at 0. A long tail to the right: few draws carry the estimates.",
            weight_numbers(samples),
        )
        found["running"] = Picture(
            running_estimates(samples),
            "Effective share and estimates from the first draws alone, for a growing number of them, with bands of two "
            "standard errors",
            "Curves must settle within their bands. A step in an estimate with a fall of the effective share is a "
            "single heavy draw.",
        )
        if samples.topology is not None:
            worst = extremes(samples)
            found["structures"] = Picture(
                structures(
                    samples, [one["index"] for one in worst], titles=[f"{one['index']}: {one['why']}" for one in worst]
                ),
                "Balls and sticks of the heaviest, the lightest and the most energetic draws",
                "The draws of the table, flattened along the axis in which they are thinnest.",
            )
    if history is not None and (history.rounds or history.losses):
        found["training"] = Picture(
            training_curve(history),
            "Course of the training: "
            + ("effective share of the draws of every round, and KL(q‖p)" if history.rounds else "the loss"),
            "In each round the flow is fitted to its own weighted draws, at the next lower temperature. KL(q‖p) "
            "is how far it is from the target at the temperature of the round, as its draws tell."
            if history.rounds
            else "The loss of the steps.",
            training_numbers(history),
        )
    return found


def figures(samples: Samples, *, history: History | None = None, reference: Samples | None = None) -> dict[str, Figure]:
    """Every figure of a report by name, for a notebook, which shows them as they are.

    Arguments:
        samples: draws.
        history: record of the training.
        reference: weighted configurations of the same target from another source.

    Example:
        >>> samples = Samples(torch.zeros(200, 2), torch.zeros(200), torch.linspace(0, 1, 200))
        >>> list(figures(samples))
        ['energies', 'weights', 'running']
    """
    return {name: p.figure for name, p in album(samples, history=history, reference=reference).items()}


def save_figures(
    samples: Samples,
    folder: str | os.PathLike[str],
    *,
    history: History | None = None,
    reference: Samples | None = None,
) -> list[Path]:
    """Saves every figure of a report as an SVG and a PNG file, ramachandran.svg and so on.

    Arguments:
        samples: draws.
        folder: made if it does not exist.
        history, reference: as of `figures`.

    Returns:
        The files.

    Raises:
        OSError: if a file cannot be written; an older one is left intact.
    """
    return write_figures(figures(samples, history=history, reference=reference), folder)


def write_figures(found: dict[str, Figure], folder: str | os.PathLike[str]) -> list[Path]:
    """Figures by name as files; see `save_figures`."""
    place = as_path(folder)
    files = [place / f"{name}.{ending}" for name in found for ending in FORMATS]
    for file in files:
        save_figure(found[file.stem], file)
    return files


def _maps(samples: Samples, reference: Samples | None) -> Picture:
    numbers = map_numbers(samples, reference=reference)
    if reference is None:
        return Picture(
            ramachandran(samples),
            "Ramachandran maps: free energy over the torsions phi and psi, of the flow and reweighted",
            "Left, what the flow draws; right, the same draws with their weights: the equilibrium. The more alike, the "
            "better the flow. White: never drawn.",
            numbers,
        )
    return Picture(
        ramachandran(samples, reference=reference),
        "Ramachandran maps: free energy over the torsions phi and psi, of the flow, reweighted, of the reference, and "
        "the difference of the last two",
        "Above, what the flow draws and the same draws with their weights: the equilibrium. Below, the reference, and "
        "what the reweighted draws have higher (purple) or lower (orange) than it. White: never drawn.",
        numbers,
    )
