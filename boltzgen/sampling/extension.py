"""A draw that goes on where an earlier one of the same seed stopped, and keeps what it has on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..arguments import counts, instances, positive_counts
from ..autosave import save_asked_for
from ..energies.energy import Energy
from ..errors import InputError
from ..flows.flow import Flow
from ..flows.noise import BLOCK
from ..progress import show
from .drawing import Worth, as_samples, check_draw, weighed_blocks
from .samples import Samples

__all__ = ["extend", "shard"]

_SECONDS = 60.0
_SAME = 1e-3  # in x, log q and u, of one draw made twice: on other machines the last bits of a float32 differ


def extend(
    samples: Samples | None,
    flow: Flow,
    target: Energy,
    n: int,
    *,
    seed: int,
    first: int = 0,
    batch_size: int = BLOCK,
    keep: Callable[[Samples], None] | None = None,
    progress: bool = False,
) -> Samples:
    """The n draws of a seed, of which some may be there: as `draw`, whose draw i depends on (seed, i) only.

    Arguments:
        samples: draws of this flow, target and seed from `first` on; None for none. More than enough are returned as
            they are.
        flow: the flow.
        target: the exact energy.
        n: number of draws in all, those before `first` included.
        seed: of the draw.
        first: number of the first draw wanted, the beginning of a block of 1024; see `shard`.
        batch_size: see `draw`.
        keep: what to do with the draws so far, every minute, after SIGUSR1, and when something interrupts.
        progress: whether to show progress on standard error.

    Raises:
        InputError: if the samples are not those of this flow, target and seed: their last block is drawn again; or an
            argument is out of range.

    Example:
        >>> from boltzgen.energies import toys
        >>> from boltzgen.flows import coupling_flow
        >>> flow, target = coupling_flow(2), toys.DoubleWell()
        >>> few = extend(None, flow, target, 1500, seed=1)
        >>> extend(few, flow, target, 4000, seed=1).log_w.equal(extend(None, flow, target, 4000, seed=1).log_w)
        True
    """
    check_draw(flow, target, n, batch_size)
    first, seed = counts(first=first, seed=seed)
    if first % BLOCK:
        raise InputError(f"first must be a multiple of {BLOCK}; got {first}: pass what shard(n, part, parts) gives")
    if samples is None and first >= n:
        raise InputError(f"first must be less than the number of draws in all, {n}; got {first}: draw more")
    if samples is not None:
        instances(samples=(samples, Samples))
    there = 0 if samples is None else len(samples)
    parts: list[tuple[Tensor, ...]] = [] if samples is None else [_columns(samples)]
    end = max(n, first + there)
    begin = first + BLOCK * (max(there - 1, 0) // BLOCK)
    done, last, worth = first + there, time.monotonic(), Worth(parts)

    def so_far() -> Samples:
        return as_samples(target, parts, flow, seed=seed, first=first, independent=flow.base.independent)

    try:
        with torch.no_grad(), save_asked_for() as asked, show("drawing", visible=progress, unit="draws") as bar:
            for start, part in weighed_blocks(flow, target, begin, end, seed=seed, batch_size=batch_size):
                if start < first + there and samples is not None:
                    _compare(samples, part, start, seed=seed, first=first)
                    part = tuple(column[first + there - start :] for column in part)
                if not len(part[0]):
                    continue
                parts.append(part)
                done += len(part[0])
                worth.add(part)
                here = done - first
                bar(min(here / (end - first), 1.0), f"{here} of {end - first}, {worth}", count=here)
                if keep is not None and (asked() or time.monotonic() - last > _SECONDS):
                    last = time.monotonic()
                    keep(so_far())
    except BaseException:
        if keep is not None and done > first + there:
            keep(so_far())
        raise
    return so_far()


def shard(n: int, part: int, parts: int) -> tuple[int, int]:
    """First draw, and the one after the last, of a part of n: whole blocks of 1024, as many for each part as can be.

    Arguments:
        n: number of draws in all.
        part: which part, from 0 on.
        parts: number of parts.

    Raises:
        InputError: if there is no such part, or there are more parts than blocks.

    Example:
        >>> [shard(10_000, part, 3) for part in range(3)]
        [(0, 3072), (3072, 6144), (6144, 10000)]
    """
    n, parts = positive_counts(n=n, parts=parts)
    (part,) = counts(part=part)
    if part >= parts:
        raise InputError(f"part must be between 0 and {parts - 1}, for {parts} parts; got {part}: count from 0")
    blocks = math.ceil(n / BLOCK)
    if parts > blocks:
        raise InputError(f"a part must have {BLOCK} draws at least; got {n} draws for {parts} parts: draw more")
    first, end = (BLOCK * (blocks * k // parts) for k in (part, part + 1))
    return first, min(end, n)


def _columns(samples: Samples) -> tuple[Tensor, ...]:
    columns = (samples.x, samples.log_q, samples.u, samples.cartesian, samples.potential)
    return tuple(column for column in columns if column is not None)


def _compare(samples: Samples, part: tuple[Tensor, ...], start: int, *, seed: int, first: int) -> None:
    """Refuses samples, of draws from `first` on, whose rows from draw `start` on are not those drawn now."""
    mine = _columns(samples[start - first :])[:3]
    its = tuple(column[: len(mine[0])] for column in part[:3])
    same = (samples.seed, samples.first) == (seed, first) and all(
        a.shape == b.shape for a, b in zip(mine, its, strict=True)
    )
    good = mine[2].isfinite() & its[2].isfinite() if same else torch.zeros(0)
    if not same or any(
        not torch.allclose(a[good].double(), b[good].double(), rtol=_SAME, atol=_SAME)
        for a, b in zip(mine, its, strict=True)
    ):
        raise InputError(
            f"samples to go on from must be draws of this generator with seed {seed}, from number {first} on; got "
            f"others, of seed {samples.seed} from number {samples.first} on, or from before it was trained further: "
            "write to another file, or remove the old one"
        )
