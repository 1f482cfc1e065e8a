"""The wells of the torsions, the basins they make together, and how much of the equilibrium each holds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError, UnreliableEstimateWarning
from ..reweighting import Estimate, free_energy_difference, probability
from ..sampling import Samples
from .weighing import Array, weighed

__all__ = ["Basin", "basins"]

_BINS = 72
_WIDTH = math.radians(10)
"""of the kernel that smooths the profile in which wells are looked for."""
_BARRIER = 1.0
"""kT that separate two wells at least."""
_FEWEST = 25
"""draws in a well at least: fewer make no barrier that could be believed."""
_TORSIONS = 6
"""torsions at most that are divided into wells, unless they are named."""


@dataclass(frozen=True)
class Basin:
    """Configurations whose torsions lie in one combination of wells.

    Attributes:
        centre: torsion → its weighted mean direction in the basin, in degrees.
        limits: torsion → where its well begins and ends, in degrees; the way from the first to the second is upwards,
            through ±180° if the second is the smaller.
        population: share of the equilibrium.
        free_energy: against the most populated basin, in kT; None for that one.
        flow: share of the flow's draws.
    """

    centre: dict[str, float]
    limits: dict[str, tuple[float, float]]
    population: Estimate
    free_energy: Estimate | None
    flow: float


def basins(samples: Samples, torsions: Sequence[str] | None = None, *, most: int = 12) -> list[Basin]:
    """The basins that the wells of torsions make together, the most populated first.

    A well lies between two maxima of the smoothed profile −ln p of one torsion, 1 kT deep and with 25 draws at least; a
    torsion of a single well divides nothing. Populations are estimates with errors, from the draws and their weights.

    Arguments:
        samples: draws of a molecule.
        torsions: their names; if None those called phi and psi, or all if there are none, six at most.
        most: number of basins at most.

    Returns:
        The basins; a single one, without limits, if nothing divides the draws.

    Raises:
        InputError: if a torsion is unknown, there is none, or every weight is zero.
    """
    good, w = weighed(samples)
    names = _chosen(samples) if torsions is None else list(torsions)
    if not names:
        raise InputError("torsions must name at least one torsion; got none: the samples carry no named torsions")
    angles = {name: np.degrees(samples.torsion(name).numpy()) for name in names}
    walls = {name: _walls(angle[good], w) for name, angle in angles.items()}
    walls = {name: found for name, found in walls.items() if len(found) > 1}
    labels = np.zeros((len(samples), 0), dtype=np.int64)
    if walls:
        labels = np.stack([_wells(angles[name], found) for name, found in walls.items()], 1)
    kinds, index = np.unique(labels, axis=0, return_inverse=True)
    index = index.reshape(-1)
    share = np.zeros(len(kinds))
    np.add.at(share, index[good], w)
    order = [int(k) for k in np.argsort(-share, kind="stable") if share[k] > 0][:most]
    found = []
    with warnings.catch_warnings(action="ignore", category=UnreliableEstimateWarning):  # each estimate says it itself
        for k in order:
            inside = index == k
            limits = {
                name: (float(wall[well - 1]), float(wall[well % len(wall)]))
                for (name, wall), well in zip(walls.items(), kinds[k], strict=True)
            }
            change = free_energy_difference(samples.log_w, index == order[0], inside) if k != order[0] else None
            centre = {name: _direction(angles[name][good], w * inside[good]) for name in walls}
            found.append(Basin(centre, limits, probability(samples.log_w, inside), change, float(inside.mean())))
    return found


def _chosen(samples: Samples) -> list[str]:
    backbone = [name for name in samples.torsions if name.startswith(("phi", "psi"))]
    return (backbone or list(samples.torsions))[:_TORSIONS]


def _walls(angle: Array, w: Array) -> Array:
    """Where the wells of one torsion are divided, in degrees, ascending; at most one wall if there is one well."""
    free_energy = _smooth_profile(angle, w)
    bottoms = [k for k in range(_BINS) if free_energy[k - 1] > free_energy[k] <= free_energy[(k + 1) % _BINS]]
    if len(bottoms) < 2:
        return np.zeros(0)
    walls = [_top(free_energy, a, b) for a, b in zip(bottoms, [*bottoms[1:], bottoms[0] + _BINS], strict=True)]
    while len(bottoms) > 1:
        heights = free_energy[walls]
        counts = np.bincount(_wells(angle, _centre(np.sort(walls))), minlength=len(walls) + 1)
        depth = [min(heights[k - 1], heights[k]) - free_energy[bottom] for k, bottom in enumerate(bottoms)]
        few = [counts[_well_of(bottom, walls)] < _FEWEST for bottom in bottoms]
        k = int(np.argmin(np.where(few, -np.inf, depth)))
        if depth[k] >= _BARRIER and not few[k]:
            break
        gone = walls[k] if heights[k] <= heights[k - 1] else walls[k - 1]
        bottoms.pop(k)
        walls = [wall for wall in walls if wall != gone]
        walls = sorted(walls, key=lambda wall: (wall - bottoms[0]) % _BINS)  # walls[k] is the one after bottoms[k]
    return _centre(np.sort(walls)) if len(walls) > 1 else np.zeros(0)


def _smooth_profile(angle: Array, w: Array) -> Array:
    """−ln p of one torsion over the bins, p smoothed by a normal kernel around the circle."""
    p, _ = np.histogram(angle, _BINS, range=(-180, 180), weights=w)
    frequency = np.arange(_BINS // 2 + 1)
    p = np.fft.irfft(np.fft.rfft(p) * np.exp(-0.5 * (_WIDTH * frequency) ** 2), _BINS)
    profile: Array = -np.log(p.clip(1e-12))
    return profile


def _top(free_energy: Array, a: int, b: int) -> int:
    """The bin of the highest point on the way up from bin a to bin b."""
    way = np.arange(a, b + 1) % _BINS
    return int(way[np.argmax(free_energy[way])])


def _centre(bins: npt.NDArray[np.int64]) -> Array:
    centre: Array = -180 + (np.asarray(bins) + 0.5) * 360 / _BINS
    return centre


def _wells(angle: Array, walls: Array) -> npt.NDArray[np.int64]:
    """The number of the well of each angle: well k ends at wall k, well 0 begins at the last wall."""
    return np.searchsorted(walls, angle, side="right") % len(walls)


def _well_of(bottom: int, walls: list[int]) -> int:
    return int(_wells(_centre(np.array([bottom])), _centre(np.sort(walls)))[0])


def _direction(angle: Array, w: Array) -> float:
    """The weighted mean direction, in degrees."""
    return math.degrees(math.atan2(float(w @ np.sin(np.radians(angle))), float(w @ np.cos(np.radians(angle)))))
