"""Several processes as one: what `torchrun` started shares the rows of a batch, and has them all in the end."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from . import errors
from .errors import BoltzgenError, InputError, RankError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Ranks", "distributed", "processors", "ranks"]

_TIMEOUT = timedelta(minutes=15)  # longest that one process may keep the others waiting: a trial of compiled code


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Ranks:
    """The processes that work together, as one of them sees it; a process by itself is one of one.

    Every process makes the same calls in the same order with the same arguments. What they compute together is the
    same for every number of processes, up to the order of sums.

    Attributes:
        rank: which of them this is; 0 reads and writes files, and speaks.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def leads(self) -> bool:
        """Whether this one reads and writes files, and speaks."""
        return self.rank == 0

    def share(self, n: int, rank: int | None = None) -> slice:
        """Which of n rows are this process's: contiguous parts, in the order of the ranks.

        Raises:
            InputError: if there are fewer rows than processes.
        """
        if n < self.size:
            raise InputError(f"{self.size} processes must have a row each; got {n} rows: use fewer processes")
        rank = self.rank if rank is None else rank
        return slice(n * rank // self.size, n * (rank + 1) // self.size)

    def shared(self, compute: Callable[[slice], tuple[Tensor, ...]], n: int) -> tuple[Tensor, ...]:
        """The n rows of each column that `compute` gives, a share of them computed by each process.

        Gradients flow back into the own share, multiplied by the number of processes; so the mean over the processes
        (`average_gradients`) is the gradient, also of terms of a loss that every process computes as a whole.
        """
        columns = compute(self.share(n))
        if self.size == 1:
            return columns
        lengths = [len(range(n)[self.share(n, rank)]) for rank in range(self.size)]
        return tuple(self.gathered(column, lengths) for column in columns)

    def gathered(self, rows: Tensor, lengths: Sequence[int]) -> Tensor:
        """The rows of all processes, lengths[r] from rank r, in the order of the ranks."""
        import torch

        if self.size == 1:
            return rows
        size = self.size
        mine = _brought(rows.detach())
        padded = mine.new_zeros(max(lengths), *mine.shape[1:])
        padded[: len(mine)] = mine
        found = [torch.empty_like(padded) for _ in range(size)]
        with _peers():
            torch.distributed.all_gather(found, padded)
        parts = [part[:length].to(rows.device) for part, length in zip(found, lengths, strict=True)]
        if rows.requires_grad:
            rows = rows.view_as(rows)
            rows.register_hook(lambda gradient: gradient * size)  # type: ignore[no-untyped-call]
        parts[self.rank] = rows
        return torch.cat(parts)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Puts the mean over the processes in place of each gradient."""
        import torch

        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = _brought(torch.cat([gradient.flatten() for gradient in gradients]))
        with _peers():
            torch.distributed.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split_with_sizes([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))  # to where it lies

    def highest(self, value: float) -> float:
        """The greatest of what the processes say."""
        import torch

        if self.size == 1:
            return value
        found = torch.tensor([value], dtype=torch.float64)
        with _peers():
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return float(found)

    def first(self, job: Callable[[], Any]) -> Any:
        """What `job` gives on rank 0, where alone it is done: plain data, on every process.

        An error of this package ends the job on every process.
        """
        if self.size == 1:
            return job()
        answer: Any = None
        if self.leads:
            try:
                answer = {"result": job()}
            except BoltzgenError as error:
                self._sent({"error": type(error).__name__, "words": str(error)})
                raise
        answer = self._sent(answer)
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["words"])
        return answer["result"]

    def _sent(self, answer: Any) -> Any:
        """Plain data from rank 0 to all."""
        import torch

        buffer = io.BytesIO()
        if self.leads:
            torch.save(answer, buffer)
        data = torch.frombuffer(bytearray(buffer.getvalue() or b"-"), dtype=torch.uint8)
        length = torch.tensor([len(data)])
        with _peers():
            torch.distributed.broadcast(length, 0)
            if not self.leads:
                data = torch.empty(int(length), dtype=torch.uint8)
            torch.distributed.broadcast(data, 0)
        if self.leads:
            return answer
        return torch.load(io.BytesIO(data.numpy().tobytes()), weights_only=True, map_location="cpu")


_active: ContextVar[Ranks] = ContextVar("ranks", default=Ranks())  # noqa: B039


def ranks() -> Ranks:
    """The processes that share the work: those of the `distributed` block, else this one alone."""
    return _active.get()


@contextmanager
def distributed() -> Iterator[Ranks]:
    """Within it, the processes that `torchrun` started share the work of `train`, `anneal` and `draw`.

    Batches and noise are those of a single process: each process computes its share of the rows, and gets the others'.
    Every process must make the same calls. Without torchrun this one is alone, and nothing changes.

    The processes speak by gloo, and by nccl of what lies on GPUs where each has one of its own; on every machine alike.
    They wait for each other before they part.

    Yields:
        This process among the others.

    Raises:
        InputError: if a process group of yours does not take tensors in main memory.
        RankError: if one of them was lost.

    Example:
        >>> with distributed() as ranks:
        ...     ranks.size
        1
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or ranks().size > 1:
        yield ranks()
        return
    import torch
    from torch import distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    own = not dist.is_initialized()
    if own:
        import torch.distributed.nn  # imported later it would keep our group as a default argument, and its threads

        with _peers():
            store, rank, size = next(dist.rendezvous("env://", timeout=_TIMEOUT))  # type: ignore[attr-defined]
            if os.environ.get("GROUP_WORLD_SIZE") == "1":
                # a launcher that restarts keeps its store, the addresses of the dead included
                start = f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}"
                store = dist.PrefixStore(start, store)  # type: ignore[attr-defined]
            dist.init_process_group(_backend(), store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    elif "cpu:" not in dist.get_backend_config():
        raise InputError(
            f"the process group must take tensors in main memory; got one of {dist.get_backend_config()}: make it with "
            'init_process_group("cpu:gloo,cuda:nccl")'
        )
    token = _active.set(Ranks(dist.get_rank(), dist.get_world_size()))
    try:
        yield ranks()
        with _peers():
            dist.barrier()
    finally:
        _active.reset(token)
        if own:
            dist.destroy_process_group()


def _backend() -> str:
    """By what the processes speak: nccl, which wants a GPU for each, knows no tensors in main memory; gloo does."""
    import torch

    here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    own = torch.distributed.is_nccl_available() and torch.cuda.device_count() >= here
    return "cpu:gloo,cuda:nccl" if own else "gloo"


def _brought(tensor: Tensor) -> Tensor:
    """The tensor where the processes exchange it: on its GPU if they speak by nccl, else in main memory.

    Of tensors on a GPU gloo does not gather.
    """
    import torch

    there = tensor.is_cuda and "cuda:nccl" in torch.distributed.get_backend_config()
    return (tensor if there else tensor.cpu()).contiguous()


@contextmanager
def _peers() -> Iterator[None]:
    """Turns what torch says when a peer is gone into one sentence."""
    try:
        yield
    except RuntimeError as error:
        words = str(error).partition("\n")[0].rpartition("] ")[2].partition(". ")[0] or type(error).__name__
        raise RankError(
            f"the processes of a distributed run must all live; one was lost, or kept the others waiting ({words}): "
            "start again, training goes on from its checkpoint"
        ) from error
