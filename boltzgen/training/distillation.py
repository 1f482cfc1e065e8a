"""From a teacher that is slow, unnormalised or can only be drawn from to a flow that is none of these."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..arguments import instances, positive_counts
from ..energies.energy import Energy
from ..errors import InputError
from ..flows.flow import Flow
from .fresh_draws import frozen
from .loop import train
from .objectives import forward_kl, reverse_kl

if TYPE_CHECKING:
    from .history import History

__all__ = ["distill"]


def distill(
    teacher: Energy | Flow | Callable[[int], Tensor],
    flow: Flow,
    *,
    steps: int,
    n: int = 512,
    divergence: Literal["reverse", "forward"] | None = None,
    soften: float | None = None,
    **options: Any,
) -> History:
    """Fits a flow to the law of a teacher, by what the teacher can do.

    A density that can be evaluated, an `Energy` (normalised or not: a force field, a neural network) or another `Flow`,
    is learned from the flow's own draws by the reverse divergence E_q[log q − log p]: mode-seeking, no data needed. A
    law that can be drawn, a `Flow` or any sampler, is learned from the teacher's draws by the forward divergence
    E_p[log p − log q]: mode-covering. Give the student the direction that is cheap for it: an `iaf` learns by the
    reverse one from a `maf`, whose density is cheap, and then draws in one pass what its teacher draws in d.

    The teacher is not changed, and gathers no gradients. A student fitted by "reverse" may miss modes of its teacher.

    Arguments:
        teacher: an Energy, a Flow without context, or a function n → x, (n, *event_shape), of fresh independent draws,
            which takes its noise from torch's default generator if the training is to repeat.
        flow: the student, without context, changed in place.
        steps: gradient steps.
        n: draws in each, of the student ("reverse") or of the teacher ("forward").
        divergence: "reverse", "forward", or what the teacher can do: "forward" of a sampler, otherwise "reverse".
        soften: see `reverse_kl`.
        options: passed to `train`: learning_rate, warmup, clip, decay, seed, checkpoint, progress.

    Returns:
        The record of the training.

    Raises:
        InputError: if teacher and flow do not fit, or the teacher cannot do what `divergence` needs.

    Example:
        >>> from boltzgen.energies import toys
        >>> from boltzgen.flows import coupling_flow
        >>> history = distill(toys.DoubleWell(), coupling_flow(2), steps=2, progress=False)
        >>> len(history.losses)
        2

    References:
        van den Oord et al. (2018), Parallel WaveNet, section 4; Noé, Olsson, Köhler, Wu (2019).
    """
    instances(flow=(flow, Flow))
    steps, n = positive_counts(steps=steps, n=n)
    density, draws = _abilities(teacher)
    chosen = divergence or ("forward" if density is None else "reverse")
    if chosen not in ("reverse", "forward"):
        raise InputError(f"divergence must be 'reverse', 'forward' or None; got {divergence!r}: leave it out")
    if flow.context_size or (isinstance(teacher, Flow) and teacher.context_size):
        raise InputError("teacher and flow must need no context; got one that does: take flow.given(context)")
    if density is not None and density.event_shape != flow.event_shape:
        raise InputError(
            f"teacher and flow must have configurations of one shape; got {tuple(density.event_shape)} and "
            f"{tuple(flow.event_shape)}: build the flow for this teacher"
        )
    if soften is not None and chosen == "forward":
        raise InputError(
            f"soften must be None for a forward divergence, which evaluates no energy; got {soften!r}: leave it out"
        )
    what = "" if density is None else density.fingerprint
    options["fingerprint"] = f"{options.get('fingerprint', '')} distill {chosen} {n} {soften!r} {what}"
    with frozen(teacher) if isinstance(teacher, nn.Module) else nullcontext():
        if chosen == "reverse" and density is not None:
            return train(flow, lambda q: reverse_kl(q, density, n, soften=soften), steps=steps, **options)
        if chosen == "forward" and draws is not None:
            like = next(flow.parameters())
            return train(flow, lambda q: forward_kl(q, _drawn(draws, n).to(like)), steps=steps, **options)
    needed = "have a density (an Energy or a Flow)" if chosen == "reverse" else "be drawable (a Flow or a function)"
    raise InputError(
        f"the teacher of a {chosen} divergence must {needed}; got {type(teacher).__name__}: leave divergence out"
    )


def _abilities(
    teacher: Energy | Flow | Callable[[int], Tensor],
) -> tuple[Energy | None, Callable[[int], Tensor] | None]:
    """What a teacher can do: be evaluated, be drawn from."""
    if isinstance(teacher, Energy):
        return teacher, None
    if isinstance(teacher, Flow):
        return _MinusLogProb(teacher), lambda n: teacher.rsample(n)[0]
    if not callable(teacher):
        raise InputError(
            f"teacher must be an Energy, a Flow or a function n -> x; got {type(teacher).__name__}: for data, pass "
            "lambda n: data[torch.randint(len(data), (n,))]"
        )
    return None, teacher


@torch.no_grad()
def _drawn(draws: Callable[[int], Tensor], n: int) -> Tensor:
    return draws(n)


class _MinusLogProb(Energy):
    """The energy −log p of a flow."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow.event_shape)
        self.flow = flow

    def _energy(self, x: Tensor) -> Tensor:
        return -self.flow.log_prob(x.to(self.flow.base._like.dtype)).to(x.dtype)
