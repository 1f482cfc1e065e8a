"""Distances, angles and dihedrals inside a formula: between named points, and between points given by coordinates."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ...errors import UnsupportedSystemError
from .parser import Extension
from .tape import Tape

__all__ = ["Shape", "coordinates", "measures", "shape_of"]

Shape = tuple[str, tuple[int, ...]]
"""A geometric quantity: "x", "y", "z", "distance", "angle" or "dihedral", and the points it is of."""

_POINTS = {"distance": 2, "angle": 3, "dihedral": 4}
_Vector = tuple[int, int, int]


def coordinates(n: int) -> dict[str, Shape]:
    """x1, y1, z1, ... of n points."""
    return {f"{axis}{k + 1}": (axis, (k,)) for k in range(n) for axis in "xyz"}


def measures(letter: str, n: int) -> dict[str, Extension]:
    """The functions of points: distance(p1,p2), ... of n points so named, and pointdistance(x1,y1,z1,x2,y2,z2), ...

    Each of the former becomes a variable of the formula, for `shape_of` to read; the latter are computed from their
    arguments.
    """
    of_names = {kind: Extension(count, _variable(kind, letter, n), of_names=True) for kind, count in _POINTS.items()}
    by_value = {
        "pointdistance": Extension(6, _point_distance),
        "pointangle": Extension(9, _point_angle),
        "pointdihedral": Extension(12, _point_dihedral),
    }
    return of_names | by_value


def shape_of(variable: str) -> Shape:
    """What a variable made by a function of `measures` stands for."""
    kind, _, points = variable[:-1].partition("(")
    return kind, tuple(int(point[1:]) - 1 for point in points.split(","))


def _variable(kind: str, letter: str, n: int) -> Callable[[Tape, list[Any]], int]:
    def node(tape: Tape, names: list[Any]) -> int:
        for name in names:
            if not re.fullmatch(letter + r"[1-9]\d*", name) or int(name[1:]) > n:
                raise UnsupportedSystemError(
                    f"{kind} must be of points between {letter}1 and {letter}{n}; got {name!r}: correct the expression"
                )
        return tape.variable(f"{kind}({','.join(names)})")

    return node


def _point_distance(tape: Tape, values: list[int]) -> int:
    d = _difference(tape, values[3:], values[:3])
    return tape.apply("sqrt", _dot(tape, d, d))


def _point_angle(tape: Tape, values: list[int]) -> int:
    a, b = _difference(tape, values[:3], values[3:6]), _difference(tape, values[6:], values[3:6])
    c = _cross(tape, a, b)
    return tape.apply("atan2", tape.apply("sqrt", _dot(tape, c, c)), _dot(tape, a, b))


def _point_dihedral(tape: Tape, values: list[int]) -> int:
    a, b, c = (_difference(tape, values[k + 3 : k + 6], values[k : k + 3]) for k in (0, 3, 6))
    ab, bc = _cross(tape, a, b), _cross(tape, b, c)
    sine = tape.apply("multiply", _dot(tape, a, bc), tape.apply("sqrt", _dot(tape, b, b)))
    return tape.apply("atan2", sine, _dot(tape, ab, bc))


def _difference(tape: Tape, a: list[int], b: list[int]) -> _Vector:
    x, y, z = (tape.apply("subtract", first, second) for first, second in zip(a, b, strict=True))
    return x, y, z


def _dot(tape: Tape, a: _Vector, b: _Vector) -> int:
    x, y, z = (tape.apply("multiply", first, second) for first, second in zip(a, b, strict=True))
    return tape.apply("add", tape.apply("add", x, y), z)


def _cross(tape: Tape, a: _Vector, b: _Vector) -> _Vector:
    def minor(i: int, j: int) -> int:
        return tape.apply("subtract", tape.apply("multiply", a[i], b[j]), tape.apply("multiply", a[j], b[i]))

    return minor(1, 2), minor(2, 0), minor(0, 1)
