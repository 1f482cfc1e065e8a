"""Where flow and physics meet: draws from the one, weighed by the other."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .. import __version__
from ..arguments import instances, positive_counts
from ..energies.combinators import Pullback
from ..energies.energy import Energy
from ..errors import InputError
from ..flows.flow import Flow
from ..flows.noise import BLOCK
from ..processes import ranks
from ..progress import show
from .samples import Samples, fresh_seed

__all__ = ["draw", "reweight", "weigh"]

_BETWEEN_MEETINGS = 32  # passes that a process makes before it waits for the others
_SAME_PLACE = 1e-3  # nm, between positions of one configuration computed twice in float32
_NO_DENSITY = torch.finfo(torch.float32).min  # log q where the flow gives none: a weight above all others, yet finite


def draw(
    flow: Flow,
    target: Energy,
    n: int,
    *,
    seed: int | None = None,
    batch_size: int = BLOCK,
    progress: bool = False,
) -> Samples:
    """n independent draws of a flow, with their weights for a target: log w = −u(x) − log q(x).

    Draw i depends on (seed, i) only: a longer draw starts with the shorter one, bit for bit. Energies are those of the
    target in float64 (a target with parameters of its own is evaluated in theirs), without gradient, each counted once
    in `target.evaluations`. Within `distributed()` the processes share the work, and each gets all the draws.

    Arguments:
        flow: a flow on the configurations of the target, without context.
        target: any exact energy; for a `Pullback` on the coordinates of a molecule the samples know the molecule too.
        n: number of draws.
        seed: a non-negative integer; taken from the default generator of torch if None.
        batch_size: rows that pass through flow and target at once on an accelerator, rounded up to whole blocks of
            1024; more than one block may change the last bits there. On a CPU it is always one, and no bit changes.
        progress: whether to show progress on standard error.

    Returns:
        The draws. One for which x, log q or u is not finite has u = +inf, weight 0, and counts in n.

    Raises:
        InputError: if the target is a training aid, or flow, target and numbers do not fit.

    Example:
        >>> from boltzgen.energies import toys
        >>> from boltzgen.flows import coupling_flow
        >>> samples = draw(coupling_flow(2), toys.DoubleWell(), 1000, seed=1)
        >>> len(samples), samples.log_w.dtype
        (1000, torch.float64)
    """
    check_draw(flow, target, n, batch_size)
    seed = fresh_seed(seed)
    parts: list[tuple[Tensor, ...]] = []
    worth = Worth()
    with torch.no_grad(), show("drawing", visible=progress, unit="draws") as bar:
        for start, columns in weighed_blocks(flow, target, 0, n, seed=seed, batch_size=batch_size):
            parts.append(columns)
            done = start + len(columns[0])
            worth.add(columns)
            bar(done / n, f"{done} of {n}, {worth}", count=done)
    return as_samples(target, parts, flow, seed=seed, independent=flow.base.independent)


class Worth:
    """The effective share of the draws so far, (Σw)² / (n Σw²), printed as people read it.

    Arguments:
        parts: columns x, log q, u and further ones, of draws there already.
    """

    def __init__(self, parts: Sequence[tuple[Tensor, ...]] = ()) -> None:
        self.n, self.sums = 0, torch.full((2,), -math.inf, dtype=torch.float64)
        for columns in parts:
            self.add(columns)

    def add(self, columns: tuple[Tensor, ...]) -> None:
        """Counts further draws in."""
        log_q, u = (column.double().cpu() for column in columns[1:3])
        log_w = torch.where(u.isfinite(), -u - log_q, -math.inf)
        self.n += len(log_w)
        self.sums = torch.logaddexp(self.sums, torch.stack([log_w.logsumexp(0), (2 * log_w).logsumexp(0)]))

    def __str__(self) -> str:
        first, second = self.sums.tolist()
        share = math.exp(2 * first - second) / self.n if math.isfinite(first) else 0.0
        return f"effective {100 * share:.1f} %"


def weighed_blocks(
    flow: Flow, target: Energy, first: int, end: int, *, seed: int, batch_size: int
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """The draws from `first`, the beginning of a block, to `end`, a few blocks at a time, by all processes together.

    Yields:
        Number of the first draw, and what `weighed` gives of it and those that follow.
    """
    team, rows = ranks(), rows_at_once(batch_size, next(flow.buffers()).device)
    longest, start = 1 if team.size == 1 else _BETWEEN_MEETINGS, first
    while start < end:
        share = rows * min(longest, math.ceil((end - start) / (team.size * rows)))  # the last ones are shared evenly
        lengths = [min(max(end - start - rank * share, 0), share) for rank in range(team.size)]
        mine, wanted, parts = start + team.rank * share, lengths[team.rank], []
        # who has nothing left to draw still has columns of the right shape to give, of length zero
        for begin in range(mine, mine + max(wanted, 1), rows):
            some = min(rows, mine + wanted - begin)
            blocks = range(begin // BLOCK, begin // BLOCK + max(1, math.ceil(some / BLOCK)))
            parts.append(weighed(target, *flow.sample_blocks(seed, blocks), some))
        target.evaluations.energy += sum(lengths) - wanted  # those of the other processes
        columns = (torch.cat(column) for column in zip(*parts, strict=True))
        yield start, tuple(team.gathered(column, lengths) for column in columns)
        start += team.size * share


def reweight(samples: Samples, target: Energy, *, batch_size: int = BLOCK, progress: bool = False) -> Samples:
    """The same draws with their weights for another target: new energies u(x), the same x and log q.

    For another force field, temperature or bias; the answer is, bit for bit, that of drawing for this target from the
    start. How far it reaches Pareto k tells: `judge` the result. For a temperature alone, `samples.at(T)` needs no
    evaluation. Frames of a simulation stay correlated: estimators, which take rows for independent, then give errors
    that are too small.

    Arguments:
        samples: draws of a flow.
        target: any exact energy of the same configurations x, for a molecule on the same internal coordinates.
        batch_size: rows evaluated at once, as for `draw`.
        progress: whether to show progress on standard error.

    Returns:
        The draws; as independent as those given, and failed where the flow gave no configuration or this energy is
        not finite.

    Raises:
        InputError: if there are no samples, the target is a training aid, or its configurations are others.

    Example:
        >>> samples = draw(coupling_flow(2), toys.DoubleWell(), 1000, seed=1)
        >>> reweight(samples, toys.DoubleWell("snf")).log_w.equal(
        ...     draw(coupling_flow(2), toys.DoubleWell("snf"), 1000, seed=1).log_w
        ... )
        True
    """
    instances(samples=(samples, Samples), target=(target, Energy))
    positive_counts(batch_size=batch_size)
    _check_exact(target)
    n, shape = len(samples), tuple(samples.x.shape[1:])
    if not n or shape != tuple(target.event_shape):
        raise InputError(
            f"samples must be draws of configurations {tuple(target.event_shape)}, the target's; got {n} of {shape}: "
            "pass the energy of the same coordinates"
        )
    device = next((value.device for value in (*target.parameters(), *target.buffers())), samples.x.device)
    rows = rows_at_once(batch_size, device)
    parts = []
    with torch.no_grad(), show("reweighting", visible=progress) as bar:
        for start in range(0, n, rows):
            x, log_q = (column[start : start + rows].to(device) for column in (samples.x, samples.log_q))
            wanted, missing = len(x), -len(x) % BLOCK
            x, log_q = torch.cat([x, x.new_zeros(missing, *shape)]), torch.cat([log_q, log_q.new_zeros(missing)])
            parts.append(weighed(target, x, log_q, wanted))
            bar((start + wanted) / n, f"{start + wanted} of {n}")
    found = as_samples(
        target,
        parts,
        samples.provenance.get("flow"),
        seed=samples.seed,
        first=samples.first,
        independent=samples.independent,
    )
    _check_places(samples, found)
    return found


def weigh(flow: Flow, target: Energy, x: Tensor, *, batch_size: int = BLOCK) -> Samples:
    """Configurations from elsewhere with the weights that a flow would give them: log w = −u(x) − log q(x).

    They are no draws of the flow, and no estimate should be made of them. What their weights tell is whether the flow
    knows them: `judge(samples, reference_log_w=weigh(flow, target, x).log_w)`.

    Arguments:
        flow, target: as `draw` takes them.
        x: configurations of the target (m, *event).
        batch_size: rows evaluated at once, as for `draw`.

    Returns:
        The configurations, with log q of the flow, or −3.4e38 where it gives no density.

    Raises:
        InputError: if there are none, or flow, target and configurations do not fit.

    Example:
        >>> known = torch.tensor([[0.0, 0.0], [1.4, 0.0]])  # a barrier and a well
        >>> weigh(coupling_flow(2), toys.DoubleWell("bgflow"), known).log_w.argmax().item()
        1
    """
    instances(x=(x, Tensor))
    check_draw(flow, target, len(x) if x.ndim else 0, batch_size)
    if x.shape[1:] != target.event_shape:
        raise InputError(
            f"x must be configurations (m, {', '.join(map(str, target.event_shape))}) of the target; got "
            f"{tuple(x.shape)}: pass those of the same coordinates"
        )
    home = next(flow.buffers())
    rows, parts = rows_at_once(batch_size, home.device), []
    with torch.no_grad():
        for start in range(0, len(x), rows):
            some = x[start : start + rows].detach().to(home)
            log_q = flow.log_prob(some).clamp_min(_NO_DENSITY)
            parts.append(weighed(target, some, log_q, len(some)))
    return as_samples(target, parts, flow, seed=None, independent=False)


def as_samples(
    target: Energy,
    parts: list[tuple[Tensor, ...]],
    flow: Flow | str | None,
    *,
    seed: int | None,
    first: int = 0,
    independent: bool = True,
) -> Samples:
    """What `weighed` found, with the name of the target, and the hashes of it and of the flow, or that hash itself."""
    provenance = {"boltzgen": __version__, "target": _hash_of(target)}
    if flow is not None:
        provenance["flow"] = flow if isinstance(flow, str) else _hash_of(flow)
    molecule = getattr(target.bijection, "molecule", None) if isinstance(target, Pullback) else None
    x, log_q, u, *of_molecule = (torch.cat(column) for column in zip(*parts, strict=True))
    if molecule is None:
        system, topology, torsions = type(target).__name__, None, {}
    else:
        system, topology, torsions = molecule.name, molecule.topology_data, molecule.torsions
    return Samples(
        x,
        log_q,
        u,
        temperature=target.temperature,
        system=system,
        seed=seed,
        first=first,
        independent=independent,
        cartesian=of_molecule[0] if of_molecule else None,
        potential=of_molecule[1] if of_molecule else None,
        topology=topology,
        torsions={name: [int(i) for i in atoms] for name, atoms in torsions.items()},
        provenance=provenance,
    )


def _hash_of(what: Energy | Flow) -> str:
    """Tells a flow from one trained further, and a target from another of the same name.

    Coordinates enter as what y means, not as the structure they were made from, whose last bits depend on the machine.
    """
    digest = hashlib.sha256()
    if isinstance(what, Flow):
        digest.update(what.architecture.encode())
        for value in what.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    elif isinstance(what, Pullback):
        chart = getattr(what.bijection, "fingerprint", type(what.bijection).__qualname__)
        digest.update(f"{what.inner.fingerprint} {chart}".encode())
    else:
        digest.update(what.fingerprint.encode())
    return digest.hexdigest()[:16]


def weighed(target: Energy, x: Tensor, log_q: Tensor, n: int) -> tuple[Tensor, ...]:
    """x, log q, u, and for a molecule positions and U/kT, of the first n rows, in main memory."""
    given = x.clone()
    # whole blocks always, as a row's bits may depend on how many there are; energies that go frame by frame skip NaN
    given[n:] = torch.nan
    u, of_molecule = evaluated(target, given)
    target.evaluations.energy -= len(x) - n
    return recorded(x, log_q, u, of_molecule, n)


def evaluated(target: Energy, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """u in float64, and for a molecule positions and U/kT, from one evaluation in the target's precision."""
    x = x.to(next((p.dtype for p in target.parameters() if p.is_floating_point()), torch.float64))
    if isinstance(target, Pullback) and getattr(target.bijection, "molecule", None) is not None:
        u, positions, potential = target.evaluate(x)
        return u.double(), (positions.detach().float(), potential.detach().double())
    return target.energy(x).double(), ()


def recorded(x: Tensor, log_q: Tensor, u: Tensor, of_molecule: Sequence[Tensor], n: int) -> tuple[Tensor, ...]:
    """The first n rows as samples keep them, in main memory: finite, u = +inf where they have no weight."""
    placed = x.isfinite().flatten(1).all(1) & ~log_q.isnan()
    u = torch.where(u.isfinite() & log_q.isfinite() & placed, u, torch.inf)
    log_q = torch.where(placed, log_q.double(), -torch.inf)  # of no configuration: other targets cannot weigh it either
    columns = [x.nan_to_num(0.0, 0.0, 0.0), log_q, u]
    if of_molecule:
        positions, potential = of_molecule
        columns += [positions.nan_to_num(0.0, 0.0, 0.0), potential.nan_to_num(torch.inf, torch.inf)]
    return tuple(column[:n].cpu() for column in columns)


def rows_at_once(batch_size: int, device: torch.device) -> int:
    """Whole blocks; on a CPU, where wide batches gain little and may change the last bits of a row, only one."""
    return BLOCK if device.type == "cpu" else BLOCK * math.ceil(batch_size / BLOCK)


def check_draw(flow: Flow, target: Energy, n: int, batch_size: int) -> None:
    """Refuses what cannot be drawn, or weighed."""
    instances(flow=(flow, Flow), target=(target, Energy))
    positive_counts(n=n, batch_size=batch_size)
    _check_exact(target)
    if flow.event_shape != target.event_shape:
        raise InputError(
            f"flow and target must have configurations of one shape; got {tuple(flow.event_shape)} and "
            f"{tuple(target.event_shape)}: build the flow for this target"
        )
    if flow.context_size:
        raise InputError(
            f"flow must need no context; got one of size {flow.context_size}: draw from flow.given(context)"
        )


def _check_exact(target: Energy) -> None:
    if not target.exact:
        raise InputError(
            f"target must be an exact density; got {type(target).__name__}, a training aid or one made of it, whose "
            "weights aim at another law: draw with the energy it softens"
        )


def _check_places(samples: Samples, found: Samples) -> None:
    """That one x means one set of positions, before and after."""
    before, after = samples.cartesian, found.cartesian
    if before is None or after is None:
        return
    good = samples.u.isfinite() & found.u.isfinite()
    apart = float((after - before)[good].abs().max()) if before.shape == after.shape and good.any() else 0.0
    if before.shape != after.shape or apart > _SAME_PLACE:
        raise InputError(
            f"target must place the atoms where the samples have them; got them {apart:.3g} nm apart, or others: build "
            "it on the same coordinates, Pullback(energy, coordinates)"
        )
