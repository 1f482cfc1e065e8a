"""The contract every target obeys: a reduced energy u(x) with p(x) ∝ exp(−u(x)), evaluated in batches, never NaN."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..arguments import instances
from ..errors import EnergyError, InputError
from ..units import positive_temperature

__all__ = ["Energy", "Evaluations", "Tempered"]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_PLAIN = (bool, int, float, complex, str, tuple, list, type(None))


@dataclass
class Evaluations:
    """Ledger of the configurations evaluated: `energy` without a gradient, `gradient` with one."""

    energy: int = 0
    gradient: int = 0

    @property
    def total(self) -> int:
        return self.energy + self.gradient


class Energy(nn.Module, ABC):
    """Reduced energy u(x) = U(x)/kT of the density p(x) = exp(−u(x))/Z, in units of kT.

    A subclass calls `super().__init__(event_shape)` and writes one method, `_energy(x)`, which maps
    (n, *event_shape) → (n,), row by row. The public `energy(x)` adds what every energy owes its users:

    * the shape is checked before anything is computed;
    * a row that cannot be evaluated (NaN or ±inf in x or in u) has u = +inf, hence weight 0; its gradient
      is 0 and the other rows are untouched (bit for bit those of a clean batch);
    * every evaluation is counted in `evaluations`.

    Attributes:
        event_shape: shape of one configuration, (d,) or (n_atoms, 3).
        exact: whether this is the density one wants to know about; a training aid such as `Softened` says False.
        temperature: K for molecules; 1.0 for energies that have none, whose `at(T)` is then u/T.

    Example:
        >>> class Harmonic(Energy):
        ...     def _energy(self, x):
        ...         return 0.5 * x.square().sum(-1)
        >>> Harmonic((2,)).energy(torch.tensor([[1.0, 1.0], [float("nan"), 0.0]]))
        tensor([1., inf])
    """

    exact: bool = True

    def __init__(self, event_shape: int | Sequence[int], temperature: float = 1.0) -> None:
        super().__init__()
        self.event_shape = torch.Size([event_shape] if isinstance(event_shape, (int, np.integer)) else event_shape)
        self.temperature = positive_temperature(temperature)
        self._evaluations = Evaluations()

    @property
    def evaluations(self) -> Evaluations:
        """The ledger of this energy; combinators share that of the energy they wrap."""
        return self._evaluations

    @abstractmethod
    def _energy(self, x: Tensor) -> Tensor:
        """u for x of shape (n, *event_shape), (n,); may return NaN or ±inf where it cannot be evaluated."""

    def energy(self, x: Tensor) -> Tensor:
        """Reduced energy u(x), (n, *event_shape) → (n,), in kT; +inf where it cannot be evaluated.

        Raises:
            InputError: if x has another shape.
            EnergyError: if a subclass's `_energy` does not return one number per row.
        """
        return self._settle(self._energy(self._admit(x)), x)

    def _admit(self, x: Tensor) -> Tensor:
        """x checked, counted, and guarded against gradients that are not finite."""
        self._check(x)
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        self._count(len(x), needs_gradient)
        return _ZeroBadGradients.apply(x) if needs_gradient else x  # type: ignore[no-untyped-call]

    @staticmethod
    def _settle(u: Tensor, x: Tensor) -> Tensor:
        """u of x by the +inf rule, which no formula can escape: step(NaN) and 1/∞ are numbers."""
        n = len(x)
        if not isinstance(u, Tensor) or u.shape != (n,) or not u.is_floating_point():
            got = f"{tuple(u.shape)}, {u.dtype}" if isinstance(u, Tensor) else type(u).__name__
            raise EnergyError(
                f"_energy must return a floating-point tensor of shape ({n},); got {got}: "
                "sum over all but the first axis"
            )
        return torch.where(torch.isfinite(u + _flaws(x).to(u.dtype)), u, torch.full_like(u, torch.inf))

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All there is to know of a draw, in one pass: u(x), the configuration, and its potential.

        The configuration is x itself and the potential u itself, unless x are coordinates of it (`Pullback`). The
        potential is what a temperature divides: u at temperature T is u + (T₀/T − 1)·potential.

        Returns:
            u (n,), configuration (n, …), potential in kT (n,).
        """
        u = self.energy(x)
        return u, x, u

    def _count(self, n: int, gradient: bool) -> None:
        if gradient:
            self._evaluations.gradient += n
        else:
            self._evaluations.energy += n

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Unnormalised log-density −u(x), (n, *event_shape) → (n,)."""
        return -self.energy(x)

    def at(self, temperature: float) -> Energy:
        """The same potential at another temperature: u·T₀/T."""
        return Tempered(self, temperature)

    @property
    def fingerprint(self) -> str:
        """Tells this energy from another: a hash of its class, its plain attributes and its tensors.

        A function kept as an attribute does not enter: energies that differ in nothing else look the same.
        """
        digest = hashlib.sha256()
        for name, module in self.named_modules():
            mine = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}
            plain = sorted((key, value) for key, value in mine.items() if isinstance(value, _PLAIN))
            digest.update(repr((name, type(module).__qualname__, plain)).encode())
        for name, tensor in [*self.named_parameters(), *self.named_buffers()]:
            digest.update(repr((name, tensor.shape, tensor.dtype)).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _check(self, x: Any) -> None:
        if "event_shape" not in vars(self):
            raise EnergyError(
                f"an energy must know the shape of its configurations; got none in {type(self).__name__}: "
                "call super().__init__(event_shape) in its __init__"
            )
        expected = "(n, " + ", ".join(map(str, self.event_shape)) + ")"
        if not isinstance(x, Tensor):
            raise InputError(
                f"x must be a torch.Tensor of shape {expected}; got {type(x).__name__}: use torch.as_tensor(x)"
            )
        if x.shape[1:] != self.event_shape or x.ndim != 1 + len(self.event_shape):
            size = self.event_shape.numel()
            remedy = (
                f"reshape with x.reshape(-1, {', '.join(map(str, self.event_shape))})"
                if x.ndim and x.numel() and x.shape[-1] == size
                else f"each configuration has {' x '.join(map(str, self.event_shape))} numbers"
            )
            raise InputError(f"x must have shape {expected}; got {tuple(x.shape)}: {remedy}")
        if not x.is_floating_point():
            raise InputError(f"x must be of a floating-point dtype; got {x.dtype}: use x.float() or x.double()")


class Tempered(Energy):
    """An energy at another temperature, u_T(x) = u(x)·T₀/T, T₀ that of the energy given.

    Made by `energy.at(temperature)`, which an energy with terms that do not depend on T answers in its own way, such as
    the Jacobian of a `Pullback`; such an energy is refused here.
    The energy of a Tempered is taken as it was before: temperatures replace one another.

    Arguments:
        inner: the energy at T₀; the two share one ledger, and the new one is exact if this is.
        temperature: T in K (a plain number where `inner` has no unit).

    Raises:
        InputError: unless the temperature is positive and finite, and u is a potential divided by kT.

    Example:
        >>> class Harmonic(Energy):
        ...     def _energy(self, x):
        ...         return 0.5 * x.square().sum(-1)
        >>> Harmonic((1,), 300.0).at(600.0).energy(torch.tensor([[2.0]]))
        tensor([1.])
    """

    def __init__(self, inner: Energy, temperature: float) -> None:
        instances(inner=(inner, Energy))
        if type(inner).at is not Energy.at:
            raise InputError(
                f"inner must be a potential divided by kT; got {type(inner).__name__}, which answers to temperature in "
                "its own way: use energy.at(temperature)"
            )
        super().__init__(inner.event_shape, temperature)
        self.inner: Energy = inner.inner if isinstance(inner, Tempered) else inner
        self.exact = inner.exact

    @property
    def evaluations(self) -> Evaluations:
        return self.inner.evaluations

    def _count(self, n: int, gradient: bool) -> None:
        self.inner._count(n, gradient)

    def _energy(self, x: Tensor) -> Tensor:
        return self.inner._energy(x) * (self.inner.temperature / self.temperature)


class _ZeroBadGradients(torch.autograd.Function):
    """Identity whose backward replaces any row of the gradient that is not finite by zeros."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        good = (1 + _flaws(grad)).nan_to_num(0.0)  # 1 or 0
        return grad.nan_to_num(0.0, 0.0, 0.0) * good.view(-1, *[1] * (grad.ndim - 1))

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.view_as(tangent)


def _flaws(x: Tensor) -> Tensor:
    """0 for each row that is finite, NaN for the others, in a fraction of the time of torch.isfinite."""
    x = x.detach()
    return (x - x).flatten(1).sum(1)  # torch.compile would take 0 * x for 0
