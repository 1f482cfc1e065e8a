"""Bonds, angles and contacts of the draws: whether they are molecules at all."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..sampling import Samples
from .weighing import Array, weighed

__all__ = ["Geometry", "geometry"]

_DISTANCES = 4_000_000
"""distances at a time: what fits into memory."""
_BOND, _ANGLE = 0.2, 40.0
"""What is more than 20 % off a bond's mean length, or 40° off an angle's mean, is no molecule at room temperature."""
_TOO_CLOSE = {"H···H": 0.14, "H···heavy": 0.14, "heavy···heavy": 0.24}
"""nm; hydrogen bonds are longer."""
_APART = 4
"""bonds between two atoms that are in contact through space."""

Group = tuple[int, ...]
Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Geometry:
    """One kind of distance or angle over all draws of finite energy.

    Attributes:
        kind: "bond C–H", "angle C–N–H", "closest contact H···O".
        count: how many of them a molecule has.
        unit: "nm" or "degrees".
        mean, deviation: under the target, that is weighted; of all of them together.
        flow_mean: of the draws without their weights.
        smallest, largest: in any draw, whatever its weight.
        implausible: share of the weight of draws in which one of them is more than 20 % off the mean (bonds), 40°
            off it (angles), or closer than atoms come (contacts).
    """

    kind: str
    count: int
    unit: str
    mean: float
    deviation: float
    flow_mean: float
    smallest: float
    largest: float
    implausible: float


def geometry(samples: Samples) -> list[Geometry]:
    """Bond lengths and angles by the elements that make them, and the closest contacts of atoms four bonds apart.

    Arguments:
        samples: draws of a molecule, with its topology.

    Raises:
        InputError: if the target is not a molecule, or every weight is zero.
    """
    good, w = weighed(samples)
    if samples.topology is None:
        raise InputError(
            f"samples must carry a topology; got those of {samples.system or 'another target'} without: draw from a "
            "molecule"
        )
    positions = samples.positions()[torch.from_numpy(good)].double()
    elements = [atom[1] for atom in samples.topology["atoms"]]
    neighbours = _neighbours(samples)
    bonds: dict[str, list[Group]] = defaultdict(list)
    angles: dict[str, list[Group]] = defaultdict(list)
    for i, j in samples.topology["bonds"]:
        bonds["–".join(sorted((elements[i], elements[j])))].append((i, j))
    for centre, around in enumerate(neighbours):
        for a in around:
            for b in (other for other in around if other > a):
                one, two = sorted((elements[a], elements[b]))
                angles[f"{one}–{elements[centre]}–{two}"].append((a, centre, b))
    found = []
    for kind, atoms in sorted(bonds.items()):
        r = _values(positions, atoms, _length)
        mean = _mean(r, w)
        found.append(_row(f"bond {kind}", "nm", r, w, len(atoms), ((1 - _BOND) * mean, (1 + _BOND) * mean)))
    for kind, atoms in sorted(angles.items()):
        theta = _values(positions, atoms, _angle)
        mean = _mean(theta, w)
        found.append(_row(f"angle {kind}", "degrees", theta, w, len(atoms), (mean - _ANGLE, mean + _ANGLE)))
    for kind, pairs in _contacts(elements, neighbours):
        r = _values(positions, pairs, _shortest)
        found.append(_row(f"closest contact {kind}", "nm", r, w, len(pairs), (_TOO_CLOSE[kind], math.inf)))
    return found


def _row(kind: str, unit: str, values: Array, w: Array, count: int, limits: tuple[float, float]) -> Geometry:
    """The row of values (n, k), which are plausible within the limits."""
    mean = _mean(values, w)
    deviation = math.sqrt(float(w @ ((values - mean) ** 2).mean(1)))
    flow, low, high = float(values.mean()), float(values.min()), float(values.max())
    odd = ((values < limits[0]) | (values > limits[1])).any(1)
    return Geometry(kind, count, unit, mean, deviation, flow, low, high, min(1.0, float(w[odd].sum())))


def _mean(values: Array, w: Array) -> float:
    return float(w @ values.mean(1))


def _values(positions: Tensor, atoms: list[Group], measure: Measure) -> Array:
    """A measure of every group of atoms in every frame, in pieces that fit into memory."""
    groups = torch.tensor(atoms)
    pieces = torch.split(positions, max(1, _DISTANCES // len(groups)))
    return np.concatenate([measure(x, groups).numpy() for x in pieces])


def _length(x: Tensor, pairs: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(x[:, pairs[:, 0]] - x[:, pairs[:, 1]], dim=-1)
    return lengths


def _shortest(x: Tensor, pairs: Tensor) -> Tensor:
    return _length(x, pairs).amin(1, keepdim=True)


def _angle(x: Tensor, triples: Tensor) -> Tensor:
    """Degrees."""
    a, centre, b = (x[:, triples[:, k]] for k in range(3))
    one, two = a - centre, b - centre
    across = torch.linalg.cross(one, two).norm(dim=-1)
    return torch.atan2(across, (one * two).sum(-1)).rad2deg()


def _neighbours(samples: Samples) -> list[set[int]]:
    assert samples.topology is not None
    neighbours: list[set[int]] = [set() for _ in samples.topology["atoms"]]
    for i, j in samples.topology["bonds"]:
        neighbours[i].add(j)
        neighbours[j].add(i)
    return neighbours


def _contacts(elements: list[str], neighbours: list[set[int]]) -> Iterator[tuple[str, list[Group]]]:
    """Pairs of atoms four bonds apart or more, by kind."""
    near = []
    for i in range(len(elements)):
        reached = {i}
        for _ in range(_APART - 1):
            reached |= {k for j in reached for k in neighbours[j]}
        near.append(reached)
    for kind, hydrogens in zip(_TOO_CLOSE, (2, 1, 0), strict=True):
        pairs: list[Group] = [
            (i, j)
            for i in range(len(elements))
            for j in range(i + 1, len(elements))
            if j not in near[i] and (elements[i] == "H") + (elements[j] == "H") == hydrogens
        ]
        if pairs:
            yield kind, pairs
