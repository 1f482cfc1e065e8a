"""Populations of conformers: the cells of a grid of torsions, each with its error bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from .estimate_array import EstimateArray
from .observables import as_observable
from .pareto import pareto_k
from .ratio import powers, shares
from .reliability import doubts, lost, warn
from .weights import Array, as_array, as_log_weights, effective_sample_size, scaled_weights, with_support

__all__ = ["Conformers", "conformers"]

_STAGGERED = (-2 * math.pi / 3, 0.0, 2 * math.pi / 3)


@dataclass(frozen=True, eq=False)
class Conformers:
    """The m conformers that were drawn, the most populated first.

    Attributes:
        population: share of each in the target, (m,); one may lead all others and still not be `reliable`.
        cell: which sector each torsion lies in, (m, k): 0 from the first boundary on, counting upwards.
        center: weighted mean of each torsion on the circle, (m, k), in radians within [−π, π].
        label: the conformer of each draw, (n,); −1 for a draw of weight zero.
    """

    population: EstimateArray
    cell: npt.NDArray[np.int64]
    center: Array
    label: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.population)


def conformers(
    log_w: Tensor | npt.ArrayLike,
    torsions: Tensor | npt.ArrayLike,
    *,
    boundaries: Sequence[float] | Sequence[Sequence[float]] = _STAGGERED,
) -> Conformers:
    """Populations P = Σ_cell wᵢ / Σ wᵢ of the cells that k torsions make, each as `probability` has it.

    A conformer nobody drew is not in the list: whether the flow lost it no population can tell.

    Arguments:
        log_w: log-weights, shape (n,); −inf is a draw of weight zero, kept in n.
        torsions: shape (n, k), in radians of any turn; ignored where the weight is zero.
        boundaries: where one sector ends and the next begins, in radians, ascending within one turn: one list for all
            torsions, or one for each. By default the eclipsed angles −120°, 0° and 120°, between which gauche⁻ (0),
            gauche⁺ (1) and trans (2) lie.

    Returns:
        The conformers; their populations are consistent and add up to one.

    Raises:
        InputError: as `expectations`; if the boundaries do not make sense.

    Warns:
        UnreliableEstimateWarning: if no population may be believed, because of the weights as a whole.

    Example:
        >>> phi = torch.tensor([-1.0, 1.0, 1.1, 3.0]).repeat(100)[:, None]
        >>> found = conformers(torch.zeros(400), phi)
        >>> print(found.cell[0], found.population[0])
        [1] 0.500 ± 0.025
    """
    log_w = with_support(as_log_weights(log_w))
    angles = as_observable("torsions", log_w, torsions, ndim=2)
    if not angles.shape[1]:
        raise InputError("torsions must be one at least; got none: pass shape (n, k)")
    w, carried = scaled_weights(log_w), log_w > -np.inf
    sectors = np.stack(
        [_sector(a, b) for a, b in zip(angles.T, _for_each(boundaries, angles.shape[1]), strict=True)], 1
    )
    cell, found = np.unique(sectors[carried], axis=0, return_inverse=True)
    m = len(cell)
    label = np.full(len(log_w), m)
    label[carried] = found.ravel()
    order = np.argsort(-np.bincount(label, w, m + 1)[:m], kind="stable")
    cell = cell[order]
    label = np.append(np.argsort(order), m)[label]

    sums = np.array([np.bincount(label, column, m + 1) for column in powers(w)], dtype=np.float64)
    inside = sums[:, :m]
    value, error, low, high = shares(w, inside, np.maximum(sums.sum(1, keepdims=True) - inside, 0.0))
    trivial = (value <= 0) | (value >= 1)
    error, low, high = np.where(trivial, math.inf, error), np.where(trivial, 0.0, low.clip(0.0)), high.clip(None, 1.0)
    high = np.where(trivial, 1.0, high)
    why = "; ".join(doubts(log_w))
    warn(why)
    place = " in the conformer"
    reasons = [why or "; ".join(doubts(log_w[label == i], place) or lost(value[i], place)) for i in range(m)]
    population = EstimateArray(
        value, error, (low, high), effective_sample_size(log_w), len(log_w), pareto_k(log_w), np.array(reasons)
    )
    turn = [np.bincount(label, w * f, m + 1)[:m] for a in angles.T for f in (np.sin(a), np.cos(a))]
    center = np.stack([np.arctan2(s, c) for s, c in zip(turn[::2], turn[1::2], strict=True)], 1)
    return Conformers(population, cell, center, np.where(label < m, label, -1))


def _sector(angle: Array, boundaries: Array) -> npt.NDArray[np.int64]:
    """The number of the sector, counted from the first boundary; the last sector goes once round to it."""
    past = np.mod(angle - boundaries[0], 2 * math.pi)
    number: npt.NDArray[np.int64] = np.searchsorted(boundaries - boundaries[0], past, side="right") - 1
    return number


def _for_each(boundaries: Sequence[float] | Sequence[Sequence[float]], k: int) -> list[Array]:
    """Checked boundaries of each of k torsions."""
    if not hasattr(boundaries, "__len__"):
        raise InputError(
            f"boundaries must be a list of angles; got {boundaries!r}: leave them out for the eclipsed ones"
        )
    nested = len(boundaries) > 0 and all(np.ndim(one) == 1 for one in boundaries)
    several: list[Any] = list(boundaries) if nested else [boundaries] * k
    if len(several) != k:
        raise InputError(f"boundaries must be one list, or one for each of {k} torsions; got {len(several)}: add some")
    checked = [as_array("boundaries", one).astype(np.float64) for one in several]
    for one in checked:
        if not len(one) or not np.isfinite(one).all() or (np.diff(one) <= 0).any() or one[-1] - one[0] >= 2 * math.pi:
            raise InputError(f"boundaries must ascend within one turn; got {one.tolist()}: give each once, in radians")
    return checked
