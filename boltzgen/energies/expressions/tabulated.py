"""Functions given by a table: cubic splines of one variable, and discrete values of up to three."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import UnsupportedSystemError
from ..parameters import Parameters

__all__ = ["Table", "periodic_slopes", "tables_of"]

_Array = NDArray[np.float64]


class Table(Parameters):
    """A tabulated function of OpenMM.

    A `Continuous1DFunction` is a natural cubic spline through equidistant points, 0 beyond their ends, or a periodic
    one. A `Discrete1DFunction` (2D, 3D) gives the value at the nearest whole number and has no slope; where there is
    no such value, it cannot be evaluated.

    Raises:
        UnsupportedSystemError: for continuous functions of several variables.
    """

    def __init__(self, function: openmm.TabulatedFunction, name: str = "function") -> None:
        super().__init__()
        self._continuous = isinstance(function, openmm.Continuous1DFunction)
        if self._continuous:
            values, self._start, self._end = function.getFunctionParameters()
            self._periodic = bool(function.getPeriodic())
            values = np.array(values)
            self._width = (self._end - self._start) / (len(values) - 1)
            self.constants(coefficients=_spline(values, self._width, periodic=self._periodic))
            self.arity = 1
        elif isinstance(function, (openmm.Discrete1DFunction, openmm.Discrete2DFunction, openmm.Discrete3DFunction)):
            given = function.getFunctionParameters()
            self._shape, values = [len(given)], given
            if not isinstance(function, openmm.Discrete1DFunction):
                *self._shape, values = given
            self.constants(values=np.array(values, dtype=np.float64))
            self.arity = len(self._shape)
        else:
            raise UnsupportedSystemError(
                f"{name} must be a Continuous1DFunction or a discrete one to run in torch; got "
                f'{type(function).__name__}: use backend="openmm"'
            )

    def forward(self, order: int, *arguments: Tensor) -> Tensor:
        """The function, or its derivative of some order."""
        return self._spline(order, arguments[0]) if self._continuous else self._entry(order, *arguments)

    def _spline(self, order: int, t: Tensor) -> Tensor:
        (coefficients,) = self.read(t.dtype, "coefficients")
        inside = (t >= self._start) & (t <= self._end)
        if self._periodic:
            length = self._end - self._start
            t = t - length * torch.floor((t - self._start) / length)
        u = (t - self._start) / self._width
        interval = torch.nan_to_num(u.detach()).floor().clamp(0, coefficients.shape[1] - 1)
        s = u - interval
        found = torch.zeros_like(u)
        for power in range(3, order - 1, -1):
            found = found * s + math.perm(power, order) * coefficients[power][interval.long()]
        found = found / self._width**order
        return found if self._periodic else torch.where(inside, found, torch.where(t.isnan(), t, 0.0))

    def _entry(self, order: int, *arguments: Tensor) -> Tensor:
        if order:
            return torch.zeros_like(arguments[0])
        (values,) = self.read(arguments[0].dtype, "values")
        index, valid = torch.zeros((), dtype=torch.long), torch.ones((), dtype=torch.bool)
        index, valid = index.to(values.device), valid.to(values.device)
        for size, argument in zip(reversed(self._shape), reversed(arguments), strict=True):
            nearest = torch.floor(argument + 0.5)
            valid = valid & (nearest >= 0) & (nearest < size)
            index = index * size + torch.nan_to_num(nearest).clamp(0, size - 1).long()
        return torch.where(valid, values[index], torch.nan)


def tables_of(force: Any) -> dict[str, Table]:
    """The tabulated functions of a custom force, by name."""
    names = [force.getTabulatedFunctionName(i) for i in range(force.getNumTabulatedFunctions())]
    return {name: Table(force.getTabulatedFunction(i), name) for i, name in enumerate(names)}


def _spline(values: _Array, width: float, *, periodic: bool) -> _Array:
    """Coefficients of 1, s, s², s³ in each interval, 0 ≤ s ≤ 1, (4, n − 1)."""
    second = _periodic_curvatures(values) if periodic else _natural_curvatures(values)
    low, high = values[:-1], values[1:]
    return np.stack([low, high - low - (2 * second[:-1] + second[1:]) / 6, second[:-1] / 2, np.diff(second) / 6])


def periodic_slopes(values: _Array) -> _Array:
    """Slopes, per interval, at the points of periodic cubic splines along the first axis; the last point is the first.

    Arguments:
        values: (n + 1, ...).
    """
    second = _periodic_curvatures(values)
    slopes = np.diff(values, axis=0) - (2 * second[:-1] + second[1:]) / 6
    return np.concatenate([slopes, values[-1:] - values[-2:-1] + (second[-2:-1] + 2 * second[-1:]) / 6])


def _natural_curvatures(values: _Array) -> _Array:
    """Second derivatives, per interval², of the natural spline."""
    second = np.zeros_like(values)
    if len(values) > 2:
        n = len(values) - 2
        second[1:-1] = _tridiagonal(np.full(n, 4.0), 6 * np.diff(values, n=2))
    return second


def _periodic_curvatures(values: _Array) -> _Array:
    """Second derivatives, per interval², of the periodic spline, by the formula of Sherman and Morrison."""
    n = len(values) - 1
    rise = np.diff(values, axis=0)
    right = 6 * (rise - np.roll(rise, 1, axis=0))
    if n == 2:  # both neighbours are the same point
        second = np.linalg.solve(np.array([[4.0, 2.0], [2.0, 4.0]]), right)
        return np.concatenate([second, second[:1]])
    diagonal, corner = np.full(n, 4.0), np.zeros(n)
    diagonal[[0, -1]] = 8.0, 4.25  # less the outer product of `corner` and (1, 0, ..., −1/4)
    corner[[0, -1]] = -4.0, 1.0
    first, z = _tridiagonal(diagonal, right), _tridiagonal(diagonal, corner)
    z = z.reshape(-1, *[1] * (values.ndim - 1))
    second = first - z * (first[:1] - first[-1:] / 4) / (1 + z[:1] - z[-1:] / 4)
    return np.concatenate([second, second[:1]])


def _tridiagonal(diagonal: _Array, right: _Array) -> _Array:
    """Solution of the system with this diagonal and ones beside it."""
    n = len(diagonal)
    pivot, solution = diagonal.copy(), right.copy()
    for i in range(1, n):
        pivot[i] -= 1 / pivot[i - 1]
        solution[i] = solution[i] - solution[i - 1] / pivot[i - 1]
    solution[-1] /= pivot[-1]
    for i in range(n - 2, -1, -1):
        solution[i] = (solution[i] - solution[i + 1]) / pivot[i]
    return solution
