"""Energies made of energies: a change of variables, and a training aid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments import instances
from ..errors import InputError
from .energy import Energy, Evaluations

__all__ = ["Pullback", "Softened"]


class Pullback(Energy):
    """Density of an energy on the domain of a bijection, u(y) = u(x) − log |det ∂x/∂y| − log s, with x = bijection(y).

    s is the number of symmetry-equivalent images of which the chart keeps one, so that log Z refers to the full space
    of x. A row whose log-determinant is −∞ or NaN lies outside the chart and has u = +inf. The potential is evaluated,
    and counted, by the inner energy.

    Arguments:
        inner: the energy of x.
        bijection: a `Bijection`, or any callable y ↦ (x, log_det) on batches; its attribute `log_symmetry`, if it has
            one, is log s.
        event_shape: shape of one y; only for a callable without `in_shape`.

    Raises:
        InputError: if the shape of y is not known, or that of x is not the inner energy's.

    Example:
        A Gaussian in polar coordinates; Z = 2π is found on r > 0, 0 ≤ φ < 2π.

        >>> from boltzgen.energies.toys import Gaussian
        >>> def polar(y):
        ...     r, phi = y.unbind(-1)
        ...     return torch.stack([r * phi.cos(), r * phi.sin()], -1), r.log()
        >>> gaussian = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
        >>> Pullback(gaussian, polar, event_shape=2).energy(torch.tensor([[1.0, 0.5], [-1.0, 0.5]]))
        tensor([0.5000,    inf])
    """

    def __init__(
        self,
        inner: Energy,
        bijection: Callable[[Tensor], Any],
        *,
        event_shape: int | Sequence[int] | None = None,
    ) -> None:
        instances(inner=(inner, Energy))
        shape = getattr(bijection, "in_shape", event_shape)
        if shape is None:
            raise InputError("the shape of y must be known; got a callable without in_shape: pass event_shape=d")
        out_shape = getattr(bijection, "out_shape", inner.event_shape)
        if out_shape != inner.event_shape:
            raise InputError(
                f"the bijection must map onto the energy's configurations, of shape {tuple(inner.event_shape)}; "
                f"got out_shape {tuple(out_shape)}: build both from the same system"
            )
        super().__init__(shape, inner.temperature)
        self.inner = inner
        self.bijection = bijection
        self.log_symmetry = float(getattr(bijection, "log_symmetry", 0.0))
        self.exact = inner.exact

    @property
    def evaluations(self) -> Evaluations:
        return self.inner.evaluations

    def at(self, temperature: float) -> Pullback:
        """The inner energy at another temperature, on the same chart."""
        return Pullback(self.inner.at(temperature), self.bijection, event_shape=self.event_shape)

    def evaluate(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u(y), the configurations x and their own energy u(x), in one pass.

        Arguments:
            y: (n, *event_shape).

        Returns:
            (n,) in kT, (n, *inner.event_shape), (n,) in kT; both energies obey the +inf rule, and an x outside the
            chart means nothing.

        Raises:
            InputError: if y has another shape.
        """
        u, x, potential = self._evaluate(self._admit(y))
        return self._settle(u, y), x, potential

    def _evaluate(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, log_det = self.bijection(y)
        potential = self.inner.energy(x)
        return potential - log_det - self.log_symmetry, x, potential

    def _energy(self, y: Tensor) -> Tensor:
        return self._evaluate(y)[0]

    def _count(self, n: int, gradient: bool) -> None:
        pass  # the inner energy has counted


class Softened(Energy):
    """Training aid: u where u ≤ c, c + log(1 + u − c) above, so that clashes early in training do not drown the rest.

    Continuous with its first derivative. It is another density: `exact` is False, and weights never see it.

    Arguments:
        inner: the energy u; the two share one ledger.
        threshold: c in kT.

    Raises:
        InputError: if the threshold is not finite.

    Example:
        >>> from boltzgen.energies.toys import Gaussian
        >>> Softened(Gaussian([0.0], [[1.0]]), 2.0).energy(torch.tensor([[1.0], [2.0], [100.0]]))
        tensor([ 0.5000,  2.0000, 10.5170])
    """

    exact = False

    def __init__(self, inner: Energy, threshold: float) -> None:
        instances(inner=(inner, Energy))
        if not math.isfinite(threshold):
            raise InputError(f"threshold must be a finite number of kT; got {threshold!r}: pass e.g. 100.0")
        super().__init__(inner.event_shape, inner.temperature)
        self.inner = inner
        self.threshold = float(threshold)

    @property
    def evaluations(self) -> Evaluations:
        return self.inner.evaluations

    def at(self, temperature: float) -> Softened:
        """The inner energy at another temperature, softened above the same threshold."""
        return Softened(self.inner.at(temperature), self.threshold)

    def _count(self, n: int, gradient: bool) -> None:
        self.inner._count(n, gradient)

    def _energy(self, x: Tensor) -> Tensor:
        u = self.inner._energy(x)
        excess = (u - self.threshold).clamp_min(0)  # before the logarithm: NaN would pass through the untaken branch
        return torch.where(u <= self.threshold, u, self.threshold + excess.log1p())
