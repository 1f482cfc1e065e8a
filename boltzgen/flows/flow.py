"""A normalised density one can draw from: a base pushed through a bijection."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import instances, positive_counts
from ..errors import InputError
from ..units import positive_temperature
from .bases import Base
from .bijection import Bijection, Composition, Given
from .noise import BLOCK

__all__ = ["Flow"]

_ALL = slice(None)


class Flow(nn.Module):
    """The law q of x = f(z), z drawn from a base: log q(x) = log p(z) − log |det ∂x/∂z|.

    There is no sample without its log q. Angles are taken modulo 2π.

    Arguments:
        base: the law p of z.
        bijection: the map f.
        leading: if the first layers of a `Composition` make some dimensions A that no later layer changes, from a base
            in which A and the others B are independent, how many they are: q(x) = q(x_A) q(x_B | x_A). 0 if there are
            no such layers, or they shall not be told apart.
        temperature: T₀ of a flow that is one for every temperature T, whose context is ln(T/T₀); None for any other.

    Attributes:
        event_shape: shape of one x.
        context_size: length c of the `context` (n, c) every call must be given; 0 for none.
        temperature: T₀, as above.
        marginal: the flow of the leading layers alone, which shares their parameters: its law of x_A is that of the
            whole. None without leading layers.

    Raises:
        InputError: if the base does not fit the bijection, it has not so many layers, or it takes no temperature.
    """

    compiled_methods = ("_push", "_pull")

    def __init__(self, base: Base, bijection: Bijection, *, leading: int = 0, temperature: float | None = None) -> None:
        super().__init__()
        instances(base=(base, Base), bijection=(bijection, Bijection))
        if base.event_shape != bijection.in_shape:
            raise InputError(
                f"base and bijection must fit; got {tuple(base.event_shape)} and {tuple(bijection.in_shape)}: "
                "build both with the same number of dimensions"
            )
        self.base = base
        self.bijection = bijection
        self.event_shape = bijection.out_shape
        self.context_size = bijection.context_size
        self.temperature = None if temperature is None else positive_temperature(temperature)
        if temperature is not None and self.context_size != 1:
            raise InputError(
                f"a flow for every temperature must have a context of one number; got {self.context_size}: build the "
                "bijection with context=1"
            )
        self._marginal: list[Flow] = []  # a list, since torch would count the parameters of a module twice
        if leading:
            layers = bijection.steps() if isinstance(bijection, Composition) else []
            if not 0 < leading < len(layers):
                raise InputError(
                    f"leading must be less than the number of layers of a Composition; got {leading} for {len(layers)} "
                    "layers: leave it out where no layers come first"
                )
            self._marginal.append(Flow(base, Composition(layers[:leading])))

    @property
    def marginal(self) -> Flow | None:
        return self._marginal[0] if self._marginal else None

    @property
    def architecture(self) -> str:
        """Tells a flow from one of another structure, whatever their weights: a hash of parts, shapes and constants."""
        parts: list[tuple[object, ...]] = [
            (name, type(module).__qualname__, module.extra_repr()) for name, module in self.named_modules()
        ]
        parts += [(module.context.tolist(),) for module in self.modules() if isinstance(module, Given)]
        parts += [] if self.temperature is None else [("temperature", self.temperature)]
        shapes = [(name, tuple(value.shape), str(value.dtype)) for name, value in self.state_dict().items()]
        return hashlib.sha256(repr((parts, shapes)).encode()).hexdigest()

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """n independent draws and their log-density, without gradient.

        With a seed, draw i depends on (seed, i) only: the first rows of a longer sample are a shorter one, bit for bit.

        Arguments:
            n: number of draws.
            seed: a non-negative integer; taken from the default generator of torch if neither is given.
            generator: a CPU generator to draw from instead.
            context: (n, c), for a conditional flow.

        Returns:
            x of shape (n, *event_shape) and log q(x), (n,).

        Raises:
            InputError: if seed and generator are both given, or an argument has a wrong value.
        """
        positive_counts(n=n)
        self._check_context(context, n)
        if seed is not None and generator is not None:
            raise InputError("seed and generator must not both be given; got both: drop one of them")
        if seed is None and generator is None:
            seed = int(torch.randint(2**62, ()))
        parts = []
        for index, start in enumerate(range(0, n, BLOCK)):
            rows = min(BLOCK, n - start)
            part = None if context is None else context[start : start + rows]
            z = self.base.sample(BLOCK, generator) if seed is None else self.base.block(seed, index)
            parts.append(self._block(z, rows, part))
        x, log_q = zip(*parts, strict=True)
        return torch.cat(x), torch.cat(log_q)

    @torch.no_grad()
    def sample_blocks(
        self, seed: int, blocks: Sequence[int], *, rows: slice = _ALL, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Whole blocks of 1024 draws of `sample(…, seed=seed)`, block b from draw 1024 b on, in one pass.

        So several workers can share one long sample. More than one block at a time may change the last bits.

        Arguments:
            seed: a non-negative integer.
            blocks: the numbers of the blocks.
            rows: which of their rows to push through the flow.
            context: (1024 · len(blocks), c), for a conditional flow.
        """
        self._check_context(context, BLOCK * len(blocks))
        z = [self.base.block(seed, block) for block in blocks]
        return self._push(torch.cat(z)[rows], None if context is None else context[rows])

    def rsample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        rows: slice = _ALL,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """n draws and their log-density, differentiable with respect to the parameters of the flow.

        Arguments:
            n: number of draws.
            generator: source of the noise; the default generator of torch if None.
            rows: which of the n to push through the flow; the noise is drawn for all.
            context: (n, c), for a conditional flow.
        """
        positive_counts(n=n)
        self._check_context(context, n)
        return self._push(self.base.sample(n, generator)[rows], None if context is None else context[rows])

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """log q(x), (n, *event_shape) → (n,); −inf where x is not finite.

        Raises:
            InputError: if x or context has another shape or dtype.
        """
        self._check(x)
        self._check_context(context, len(x))
        return self._pull(x, context)

    def given(self, context: Tensor | Sequence[float]) -> Flow:
        """This conditional flow at one context: a flow that needs none, and shares the parameters.

        So every verb takes it: `draw(flow.given([1.5]), target, n)`; and a loss adds up what several contexts give. It
        has no `marginal`.

        Arguments:
            context: c numbers.

        Raises:
            InputError: if they are another number.
        """
        return Flow(self.base, Given(self.bijection, context))

    def at(self, temperature: float) -> Flow:
        """A flow for every temperature at one of them, as `energy.at(T)` is an energy: see `given`.

        Arguments:
            temperature: T in K, or in whatever unit that of the flow was given.

        Raises:
            InputError: if this is no flow for every temperature, or T is not positive.
        """
        if self.temperature is None:
            raise InputError(
                "the flow must be one for every temperature; got one without: build it with "
                "molecular_flow(..., temperature=T) or coupling_flow(..., temperature=T)"
            )
        return self.given([math.log(positive_temperature(temperature) / self.temperature)])

    def _push(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """x and log q(x) of a base point z."""
        x, log_det = self.bijection._forward(z, context)
        return x.contiguous(), self.base.log_prob(z) - log_det

    def _pull(self, x: Tensor, context: Tensor | None) -> Tensor:
        """log q(x)."""
        finite = x.isfinite().flatten(1).all(1)
        x = torch.where(finite.view(-1, *[1] * (x.ndim - 1)), x, 0.0)
        z, log_det = self.bijection._inverse(x, context)
        log_q = self.base.log_prob(z) + log_det
        return torch.where(finite & ~log_q.isnan(), log_q, -torch.inf)

    def _block(self, z: Tensor, rows: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """A whole block, cut afterwards: the bits of a row must not depend on how many rows were asked for."""
        if context is not None and rows < BLOCK:
            context = torch.cat([context, context[-1:].expand(BLOCK - rows, -1)])
        x, log_q = self._push(z, context)
        return x[:rows], log_q[:rows]

    def _check_context(self, context: Tensor | None, n: int) -> None:
        self.bijection._check_context(context, n)
        dtype = self.base._like.dtype
        if context is not None and torch.promote_types(context.dtype, dtype) != dtype:
            raise InputError(
                f"context must have the flow's dtype {dtype}; got {context.dtype}: use context.to({dtype})"
            )

    def _check(self, x: Any) -> None:
        expected = "(n, " + ", ".join(map(str, self.event_shape)) + ")"
        if not isinstance(x, Tensor) or x.shape[1:] != self.event_shape or x.ndim != 1 + len(self.event_shape):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"x must have shape {expected}; got {got}: pass a batch, one configuration per row")
        dtype = self.base._like.dtype
        if x.dtype != dtype:
            raise InputError(
                f"x must have the flow's dtype {dtype}; got {x.dtype}: use x.to({dtype}) or flow.to({x.dtype})"
            )
