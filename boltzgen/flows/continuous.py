"""The flow of a learned velocity field: a neural ordinary differential equation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..arguments import positive_counts
from ..errors import InputError
from .bijection import Bijection
from .conditioner import Conditioner
from .ode import DORMAND_PRINCE, RK4, adaptive_steps, integrate

__all__ = ["Continuous"]

Velocity = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Continuous(Bijection):
    """A continuous flow: x = z(1) of dz/dt = v(z, t; context) from z(0) = z, log_det = ∫₀¹ tr ∂v/∂z dt.

    The velocity is a network, zero at first, so that the layer starts as the identity; or yours. The inverse runs time
    backwards. Both are as exact as the steps are short: round trips cancel, and log_det is that of the map, to about
    the tolerance, which Dormand–Prince steps of a length of its own for every row keep; or to O(steps⁻⁴) with that
    many steps of RK4, which cost the same for every row. Gradients are those of the steps, by backpropagation.

    The exact trace takes d backward passes for each evaluation of the velocity. Hutchinson's estimate εᵀ(∂v/∂z)ε, with
    one ε of random signs for a trajectory, takes one; it is a training aid, used in training mode with gradients
    enabled alone: log q of a sample, and hence its weight, is always exact. A velocity that knows its trace, such as
    `ParticleVelocity`, has a method `with_trace` of the same arguments, which gives v and the trace (n,) and is asked
    instead of either.

    Arguments:
        dim: number of dimensions d.
        velocity: a function from z (n, d), t (n,) and context (n, c) or None to v (n, d), row by row and twice
            differentiable, a module if it is to learn; a network of z, t and context if None. It may have `with_trace`,
            as above, `nearest`, see `flow_matching`, and `dim` and `context_size`, which then have to be these.
        hidden: widths of the network's hidden layers.
        tolerance: of a step, relative to 1 + |z|; never less than ten roundings of the dtype.
        steps: number of steps of RK4 instead.
        trace: "exact", or "hutchinson" while training.
        context: length of the context.
        generator: source of the initial weights; the default generator of torch if None.

    Raises:
        InputError: if an argument has a wrong value.

    Example:
        >>> layer = Continuous(2, lambda z, t, context: 0.5 * z, tolerance=1e-6)
        >>> x, log_det = layer.forward(torch.ones(1, 2))
        >>> x, log_det
        (tensor([[1.6487, 1.6487]]), tensor([1.]))

    References:
        Chen, Rubanova, Bettencourt, Duvenaud (2018), Neural ordinary differential equations; Grathwohl et al. (2019),
        FFJORD.
    """

    def __init__(
        self,
        dim: int,
        velocity: Velocity | None = None,
        *,
        hidden: Sequence[int] = (64, 64),
        tolerance: float = 1e-5,
        steps: int | None = None,
        trace: Literal["exact", "hutchinson"] = "exact",
        context: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        positive_counts(dim=dim, **({} if steps is None else {"steps": steps}))
        if not 0 < tolerance < 1:
            raise InputError(f"tolerance must lie between 0 and 1; got {tolerance}: pass e.g. tolerance=1e-5")
        if trace not in ("exact", "hutchinson"):
            raise InputError(f"trace must be 'exact' or 'hutchinson'; got {trace!r}: leave it out for the exact one")
        meant = getattr(velocity, "dim", dim), getattr(velocity, "context_size", context)
        if meant != (dim, context):
            raise InputError(
                f"velocity must be one of {dim} coordinates and {context} numbers of context; got one of {meant[0]} "
                f"and {meant[1]}: pass dim={meant[0]}, context={meant[1]}, or build it with these"
            )
        super().__init__(dim, context_size=context)
        self.velocity = _Network(dim, hidden, context, generator) if velocity is None else velocity
        self.tolerance, self.steps, self.trace = tolerance, steps, trace

    def extra_repr(self) -> str:
        exactness = f"tolerance={self.tolerance!r}" if self.steps is None else f"steps={self.steps}"
        return f"{exactness}, trace={self.trace!r}"

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._flow(z, context, lambda t: t, 1.0)

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._flow(x, context, lambda t: 1 - t, -1.0)

    def _flow(
        self, z: Tensor, context: Tensor | None, clock: Callable[[Tensor], Tensor], sign: float
    ) -> tuple[Tensor, Tensor]:
        """The end of the trajectory from z, and the integral of the trace along it."""
        if torch.is_inference_mode_enabled():  # there even the trace could not be differentiated
            with torch.inference_mode(False), torch.no_grad():
                return self._flow(z.clone(), None if context is None else context.clone(), clock, sign)
        probe = None
        if (
            self.trace == "hutchinson"
            and not hasattr(self.velocity, "with_trace")
            and self.training
            and torch.is_grad_enabled()
        ):
            probe = 2.0 * torch.randint_like(z, 2) - 1

        def moves(t: Tensor, y: Tensor) -> Tensor:
            return sign * self.velocity(y.T, clock(t), context).T

        def moves_and_expands(t: Tensor, y: Tensor) -> Tensor:
            v, trace = self._velocity_and_trace(y[:-1].T, clock(t), context, probe)
            return sign * torch.cat([v.T, trace[None]])

        y = torch.cat([z.T, z.new_zeros(1, len(z))])
        if self.steps is None:
            y = integrate(moves_and_expands, y, adaptive_steps(moves, z.T, self.tolerance), DORMAND_PRINCE)
        else:
            y = integrate(moves_and_expands, y, z.new_full((self.steps, len(z)), 1 / self.steps), RK4)
        return y[:-1].T, y[-1]

    def _velocity_and_trace(
        self, z: Tensor, t: Tensor, context: Tensor | None, probe: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """v and tr ∂v/∂z, with a graph if gradients are enabled and something wants one."""
        closed = getattr(self.velocity, "with_trace", None)
        if closed is not None:
            v, trace = closed(z, t, context)
            return v, trace
        learned = isinstance(self.velocity, nn.Module) and any(p.requires_grad for p in self.velocity.parameters())
        wanted = learned or z.requires_grad or (context is not None and context.requires_grad)
        recording = torch.is_grad_enabled() and wanted

        def pull(cotangent: Tensor) -> Tensor:  # ∂(cotangent · v)/∂z
            return torch.autograd.grad(
                v, z, cotangent, create_graph=recording, retain_graph=True, materialize_grads=True
            )[0]

        with torch.enable_grad():
            z = z if z.requires_grad and recording else z.detach().requires_grad_()
            v = self.velocity(z, t, context)
            if not v.requires_grad:  # it does not depend on z at all
                return v, v.new_zeros(len(v))
            if probe is not None:
                trace = (probe * pull(probe)).sum(1)
            else:
                units = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
                trace = torch.stack([pull(unit.expand_as(v))[:, i] for i, unit in enumerate(units)]).sum(0)
        return (v, trace) if recording else (v.detach(), trace.detach())


class _Network(nn.Module):
    """A velocity that is zero at first."""

    def __init__(self, dim: int, hidden: Sequence[int], context: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.conditioner = Conditioner(dim + 1, 0, context, [dim], hidden=hidden, generator=generator)

    def forward(self, z: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        velocity: Tensor = self.conditioner(torch.cat([z.T, t[None]]), z.new_zeros(0, len(z)), context)[0]
        return velocity.T
