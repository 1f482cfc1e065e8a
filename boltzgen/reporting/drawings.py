"""Small pictures of single configurations, seen along the axis in which they are thinnest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import InputError
from ..sampling import Samples
from .palette import ELEMENTS, PLAIN
from .weighing import Array

__all__ = ["structures"]

_COLUMNS = 3


def structures(samples: Samples, rows: Sequence[int], *, titles: Sequence[str] | None = None) -> Figure:
    """Some draws as balls and sticks, projected onto the plane of their two longest axes.

    Arguments:
        samples: draws of a molecule, with its topology.
        rows: which of them.
        titles: one for each; "draw 17" if None.

    Raises:
        InputError: if the target is not a molecule, there are no rows, or one does not exist.
    """
    positions = samples.positions()
    if samples.topology is None:
        raise InputError(f"samples must carry a topology; got {samples!r} without: draw from a molecule")
    if not len(rows) or not all(0 <= row < len(samples) for row in rows):
        raise InputError(f"rows must be between 0 and {len(samples) - 1}, one at least; got {list(rows)}: name others")
    names = [f"draw {row}" for row in rows] if titles is None else list(titles)
    columns = min(len(rows), _COLUMNS)
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.3 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    elements = [atom[1] or "" for atom in samples.topology["atoms"]]
    bonds = np.array(samples.topology["bonds"], dtype=int).reshape(-1, 2)
    for axis, row, name in zip(axes.flat, rows, names, strict=False):
        _draw(axis, _flattened(positions[row].double().numpy()), elements, bonds)
        axis.set_title(name, fontsize="medium", parse_math=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure


def _flattened(x: Array) -> Array:
    """Positions (n_atoms, 3) along their principal axes, the longest first."""
    centred = x - x.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    turned: Array = centred @ axes.T
    return turned


def _draw(axis: Axes, x: Array, elements: list[str], bonds: Array) -> None:
    for i, j in bonds:
        axis.plot(x[[i, j], 0], x[[i, j], 1], color=PLAIN, lw=1.6, zorder=1)
    for i in np.argsort(x[:, 2]):  # what is near hides what is far
        heavy = elements[i] != "H"
        axis.scatter(
            x[i, 0], x[i, 1], s=150 if heavy else 45, color=ELEMENTS.get(elements[i], "#56B4E9"),
            edgecolor="white", linewidth=0.8, zorder=2 + x[i, 2],
        )  # fmt: skip
        if heavy:
            axis.text(
                x[i, 0], x[i, 1], elements[i], color="white", fontsize=8, ha="center", va="center",
                zorder=2.001 + x[i, 2], parse_math=False,
            )  # fmt: skip
    axis.set_aspect("equal", anchor="N")
    axis.margins(0.12)
