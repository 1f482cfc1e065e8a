"""The child process that runs compiled code first: exits 0 if it agrees with eager in value and gradient."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from ..energies import Energy
from ..flows import Flow
from ..flows.noise import keyed_generator
from .compilation import AGREED, compiled
from .fresh_draws import frozen, pathwise
from .objectives import divergence, forward_kl, reverse_kl
from .row_temperatures import context_of

VALUE_TOLERANCE = 1e-3
GRADIENT_TOLERANCE = 2e-2
"""Relative, float32: what reordering of sums may change; a wrong kernel is off by far more."""


def passes(flow: Flow, first: Flow, target: Energy, rows: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """(value, flat gradient) of each pass a training makes; in the first stage it trains `first`."""
    reverse, forward = rows
    parameters = list(flow.parameters())
    temperatures, context = None, None
    if flow.temperature is not None:
        temperatures = torch.linspace(0.25, 1.0, reverse, dtype=torch.float64) * flow.temperature
        context = context_of(flow, temperatures[-1].repeat(forward))

    def result(loss: Tensor) -> tuple[Tensor, Tensor]:
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return loss.detach(), torch.cat([g.flatten() for g in gradients if g is not None])

    yield result(reverse_kl(first, target, reverse, soften=20.0, generator=keyed_generator(0, 0)))
    x, log_q = flow.sample(forward, seed=1, context=context)
    yield result(forward_kl(flow, x, context=context))
    if flow.marginal is not None:
        with frozen(flow.marginal):
            draws = pathwise(flow, target, reverse, generator=keyed_generator(0, 1), temperatures=temperatures)
            loss = divergence(draws, alpha=1.0, trust=0.0)
        yield result(loss)
        yield result(forward_kl(flow.marginal, x, context=context))
        with torch.no_grad():
            log_q_first = flow.marginal.log_prob(x, context)
        yield log_q_first.mean(), log_q_first
    with torch.no_grad():
        u = target.energy(x)
    finite = torch.isfinite(u)
    yield torch.where(finite, u, torch.zeros_like(u)).clamp_max(1e4).mean(), log_q


def compare(flow: Flow, target: Energy, rows: tuple[int, int]) -> str:
    """What disagrees; empty if nothing does."""
    with torch.no_grad():  # away from the identity, where many gradients vanish
        generator = torch.Generator().manual_seed(0)
        for parameter in flow.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    first = flow if flow.temperature is None else flow.at(flow.temperature)
    eager = list(passes(flow, first, target, rows))
    with compiled(flow, target, rows=rows, compile="always", also=[] if first is flow else [first]):
        fast = list(passes(flow, first, target, rows))
    names = ["reverse", "forward", *([] if flow.marginal is None else ["rest", "marginal", "law"]), "draw"]
    for name, (a, da), (b, db) in zip(names, eager, fast, strict=True):
        if not torch.isfinite(b) or abs(a - b) > VALUE_TOLERANCE * (1 + abs(a)):
            return f"compiled {name} pass gives {float(b):.6g}, eager {float(a):.6g}"
        if not (da - db).norm() <= GRADIENT_TOLERANCE * (1e-6 + da.norm()):
            return f"compiled {name} gradient is off by {float((da - db).norm() / da.norm()):.2g} of its length"
    return ""


def end_with(parent: int, seconds: float) -> None:
    """Ends this process if its parent does, or after so many seconds."""
    end = time.monotonic() + seconds
    while os.getppid() == parent and time.monotonic() < end:
        time.sleep(1.0)
    os._exit(1)


def main() -> int:
    for name in ("SIGINT", "SIGUSR1"):  # meant for the parent
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent, seconds = int(sys.argv[1]), float(sys.argv[2])
    threading.Thread(target=end_with, args=(parent, seconds), daemon=True).start()
    flow, target, rows, threads = pickle.loads(sys.stdin.buffer.read())  # only ever from our own parent's pipe
    torch.set_num_threads(threads)
    problem = compare(flow, target, rows)
    print(problem, file=sys.stderr)
    if not problem:
        sys.stdout.buffer.write(AGREED)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
