"""Hamiltonian moves of a flow's latent points, which leave the flow's law tilted by its weights invariant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from .flow import Flow

__all__ = ["Latent", "Walkers"]


@dataclass
class Walkers:
    """Latent points z (n, d) and x = f(z), with u(x), log p(z) of the base, log w(x), each (n,), and the gradients.

    `of_molecule` is what a record of x has more, none or positions and U/kT: x need not be evaluated again for it.
    """

    z: Tensor
    x: Tensor
    u: Tensor
    log_p: Tensor
    log_w: Tensor
    grad_p: Tensor
    grad_w: Tensor
    of_molecule: tuple[Tensor, ...]

    def __getitem__(self, rows: Tensor) -> Self:
        return self._with([column[rows] for column in self._columns])

    def where(self, chosen: Tensor, others: Self) -> Self:
        """These walkers where chosen, the others elsewhere."""
        pairs = zip(self._columns, others._columns, strict=True)
        return self._with([torch.where(chosen.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs])

    @property
    def _columns(self) -> list[Tensor]:
        return [self.z, self.x, self.u, self.log_p, self.log_w, self.grad_p, self.grad_w, *self.of_molecule]

    def _with(self, columns: list[Tensor]) -> Self:
        z, x, u, log_p, log_w, grad_p, grad_w, *of_molecule = columns
        return type(self)(z, x, u, log_p, log_w, grad_p, grad_w, tuple(of_molecule))


class Latent:
    """A target seen through a flow: base law p(z), log-weight log w(z) = −u(x) − log q(x) at x = f(z).

    The flow makes it round: in z, p tilted by w^β has scales near one whatever they are in x. At β = 0 it is the flow's
    law, at β = 1 the target's.

    Arguments:
        flow: x = f(z), without context.
        evaluate: x ↦ u(x) in float64, with a gradient, and what a record of x has more.
    """

    def __init__(self, flow: Flow, evaluate: Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]]) -> None:
        self.flow, self.evaluate = flow, evaluate

    def at(self, z: Tensor) -> Walkers:
        """Walkers at these points; one evaluation of the target each, with gradient."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            x, log_det = self.flow.bijection(z)
            log_p = self.flow.base.log_prob(z)
            u, of_molecule = self.evaluate(x)
            log_w = -u - (log_p - log_det).double()
            finite = log_w.isfinite()
            (grad_w,) = torch.autograd.grad(torch.where(finite, log_w, 0.0).sum(), z, retain_graph=True)
            if log_p.requires_grad:
                (grad_p,) = torch.autograd.grad(log_p.sum(), z)
            else:  # a uniform law
                grad_p = torch.zeros_like(z)
        log_w = torch.where(finite, log_w, -torch.inf).detach()
        grad_w = grad_w.nan_to_num(0.0, 0.0, 0.0)
        log_p = log_p.detach().double()
        return Walkers(z.detach(), x.detach(), u.detach(), log_p, log_w, grad_p, grad_w, of_molecule)

    def moved(
        self, walkers: Walkers, beta: float, step: Tensor, steps: int, velocity: Tensor, uniform: Tensor
    ) -> tuple[Walkers, Tensor]:
        """The walkers after one Metropolised trajectory each, which leaves p w^β invariant; and which were accepted.

        Arguments:
            walkers: n of them.
            beta: β > 0.
            step: of the leapfrog, for each walker, (n,); masses are one.
            steps: how many of them.
            velocity: standard normal, (n, d).
            uniform: on [0, 1), (n,).

        References:
            Duane, Kennedy, Pendleton & Roweth, Phys. Lett. B 195, 216 (1987).
        """
        new, v, dt = walkers, velocity, step[:, None].to(velocity.dtype)
        for _ in range(steps):
            v = v + 0.5 * dt * (new.grad_p + beta * new.grad_w)
            new = self.at(new.z + dt * v)
            v = v + 0.5 * dt * (new.grad_p + beta * new.grad_w)
        gain = new.log_p - walkers.log_p + beta * (new.log_w - walkers.log_w)
        gain = gain + 0.5 * (velocity.double().square().sum(-1) - v.double().square().sum(-1))
        # from nowhere to nowhere is NaN, a refusal
        accepted = uniform.log() < gain
        return new.where(accepted, walkers), accepted
