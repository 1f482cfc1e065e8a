"""How the effective share of the draws grows with evaluations, from the rounds of recorded trainings: growth.svg.

Records whose rounds tell evaluations and seconds are drawn, by tables.py: those of training.py, and older ones that
evaluate.py has completed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from tabular import HERE, record

FIGURE = HERE / "growth.svg"
COLD = 1.001
"""temperature of rounds that count, in units of the lowest."""


@dataclass
class Curve:
    """Rounds at the lowest temperature of one training, and, last, fresh draws of what came out."""

    molecule: str
    special: str
    seed: int
    evaluations: np.ndarray
    ess: np.ndarray


def curves(trainings: Iterable[tuple[str, str, str]]) -> list[Curve]:
    found = []
    for name, molecule, special in trainings:
        record_ = record(name)
        for seed in record_["seeds"] if record_ else ():
            rounds = seed.get("rounds") or [[]]
            if len(rounds[0]) < 4:
                continue
            table = np.array(rounds)
            cold = table[table[:, 0] <= COLD * table[:, 0].min()]
            total = sum(seed["training_evaluations"].values())
            found.append(
                Curve(
                    molecule, special, seed["seed"], np.append(cold[:, 2], total),
                    np.append(cold[:, 1], seed["ess_fraction"]),
                )
            )  # fmt: skip
    return found


def exponent(curve: Curve) -> str | None:
    """The power of the fall of 1/ESS − 1, if there is enough of it to fit."""
    some = (curve.evaluations[:-1] > 0.1 * curve.evaluations[-1]) & (curve.ess[:-1] > 0) & (curve.ess[:-1] < 1)
    x, y = np.log(curve.evaluations[:-1][some]), np.log(1 / curve.ess[:-1][some] - 1)
    return f"{-np.polyfit(x, y, 1)[0]:.2f}" if len(x) >= 8 and np.ptp(x) > 0.5 else None


def draw(trainings: Iterable[tuple[str, str, str]]) -> None:
    """Writes the figure, if there is anything to show."""
    found = curves(trainings)
    if not found:
        return
    with mpl.rc_context({"svg.hashsalt": "boltzgen", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axis = figure.subplots()
        for one in found:
            (line,) = axis.loglog(one.evaluations[:-1], 1 / one.ess[:-1] - 1, lw=0.9, alpha=0.8)
            label = f"{one.molecule}, {one.special}, seed {one.seed}"
            axis.loglog(one.evaluations[-1], 1 / one.ess[-1] - 1, "o", ms=5, color=line.get_color(), label=label)
        for share in (0.5, 0.9, 0.95, 0.977, 0.99):
            axis.axhline(1 / share - 1, color="0.8", lw=0.6, zorder=0)
            axis.annotate(
                f"ESS {100 * share:g} %", (1, 1 / share - 1), xycoords=("axes fraction", "data"), fontsize=7,
                color="0.4", ha="right", va="bottom",
            )  # fmt: skip
        axis.set(xlabel="evaluations of the target", ylabel="1/ESS − 1")
        axis.legend(fontsize=6, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(FIGURE, metadata={"Date": None})
