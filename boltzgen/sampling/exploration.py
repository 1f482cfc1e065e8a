"""A search for what a flow has lost: hot dynamics from its own draws, which may leave them, cooled where it arrives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import positive_counts
from ..energies.energy import Energy
from ..errors import EnergyError, InputError
from ..flows.flow import Flow
from ..flows.noise import BLOCK, keyed_generator
from ..progress import show
from ..units import positive_temperature
from .drawing import check_draw, draw, weigh
from .samples import Samples, fresh_seed, systematic

__all__ = ["explore"]

_ACCEPTANCE = 0.65  # aimed at by the step size
_LONGEST = 1.0  # step, in units of the spread
_JITTER = 0.3  # relative spread of the steps, against trajectories that close on themselves
_MOVES = 3  # key of the random numbers, beside those of the flow's own draws


def explore(
    flow: Flow,
    target: Energy,
    n: int = 256,
    *,
    hot: float | None = None,
    trajectories: int = 100,
    steps: int = 10,
    circular: Tensor | Sequence[bool] | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> Samples:
    """Configurations that n short hot simulations find, each started at a draw of the flow, with their weights.

    Weights cannot see a mode that the flow never draws; dynamics knows nothing of the flow, and leaves. Half of the
    trajectories, Metropolised and Hamiltonian in the coordinates of the target, run at `hot`, the others cool it down
    to the target's temperature. Where a walker ends with a weight above all those drawn the flow gives next to no
    density:

        judge(samples, reference_log_w=explore(flow, target).log_w)

    What they find exists; what lies behind barriers too high for so few steps they do not find. The rows are no draws
    of the target, since the populations of modes are still those of the hot temperature, and no estimate should be
    made of them.

    Arguments:
        flow, target: as `draw` takes them; the target needs a gradient.
        n: number of walkers; they start at draws chosen by weight among 4096.
        hot: temperature of the first half in K; four times the target's if None.
        trajectories: of each walker.
        steps: leapfrog steps of a trajectory, one evaluation each. Their length is found on the way, in units of the
            spread each coordinate has among the draws.
        circular: which coordinates have the period 2π, booleans (d,); those of the molecule for its `Pullback`.
        seed: a non-negative integer; taken from the default generator of torch if None.
        progress: whether to show progress on standard error.

    Returns:
        Where the walkers end, with log q of the flow, or −3.4e38 where it gives no density. They are not independent.

    Raises:
        InputError: if flow, target and numbers do not fit, or hot lies below the temperature of the target.
        EnergyError: if no draw has a finite energy.

    Example:
        >>> target = toys.DoubleWell("bgflow")  # wells at x = ±1.4
        >>> flow = coupling_flow(2)  # N(0, 1), which reaches both
        >>> (explore(flow, target, 64, seed=1).x[:, 0] > 0).double().mean().item()
        0.5

    References:
        Duane, Kennedy, Pendleton & Roweth, Phys. Lett. B 195, 216 (1987). Neal, Stat. Comput. 6, 353 (1996), for
        heating and cooling in order to leave a mode.
    """
    check_draw(flow, target, n, BLOCK)
    positive_counts(trajectories=trajectories, steps=steps)
    hot = 4 * target.temperature if hot is None else positive_temperature(hot)
    if hot < target.temperature:
        raise InputError(
            f"hot must not lie below the target's temperature, {target.temperature:g}; got {hot:g}: barriers are "
            "crossed by heating"
        )
    circular = getattr(getattr(target, "bijection", None), "circular", None) if circular is None else circular
    if circular is not None:
        circular = torch.as_tensor(circular)
        if circular.dtype != torch.bool or circular.shape != target.event_shape:
            raise InputError(
                f"circular must be booleans of shape {tuple(target.event_shape)}; got {circular.dtype} of "
                f"{tuple(circular.shape)}: say of each coordinate whether it has the period 2π"
            )
    seed = fresh_seed(seed)
    generator = keyed_generator(seed, _MOVES)
    drawn = draw(flow, target, 4 * BLOCK, seed=seed)
    if drawn.n_failed == len(drawn):
        raise EnergyError(f"some of {len(drawn)} draws must have a finite energy; got none: check target and flow")
    device = next(flow.buffers()).device
    dtype = next((p.dtype for p in target.parameters() if p.is_floating_point()), torch.float64)
    x = drawn.x[systematic(drawn.log_w, n, generator)].to(device, dtype)
    low, high = drawn.x[drawn.u.isfinite()].to(device, dtype).quantile(x.new_tensor([0.16, 0.84]), dim=0)
    scale, step = (high - low) / 2, 0.1
    with show("exploring", visible=progress) as bar:
        for k in range(trajectories):
            # hot for the first half, then cooled, and a last tenth at the temperature of the target
            share = min(1.0, max(0.0, 2.5 * k / trajectories - 1.25))
            energy = target.at(hot * (target.temperature / hot) ** share)
            x, acceptance = _moved(energy, x, scale, circular, step, steps, generator)
            step = min(step * math.exp(acceptance - _ACCEPTANCE), _LONGEST)
            bar((k + 1) / trajectories, f"{k + 1} of {trajectories} trajectories")
    return weigh(flow, target, x)


def _moved(
    energy: Energy, x: Tensor, scale: Tensor, circular: Tensor | None, step: float, steps: int, random: torch.Generator
) -> tuple[Tensor, float]:
    """The walkers after one trajectory each of this law, in steps of step · scale; and the share accepted."""
    before, force = _forces(energy, x)
    v = torch.randn(x.shape, generator=random, dtype=torch.float64).to(x)
    spread = 1 + _JITTER * (2 * torch.rand(len(x), generator=random, dtype=torch.float64) - 1)
    dt = (step * spread).to(x).view(-1, *[1] * (x.ndim - 1))
    kinetic, place = v.double().square().flatten(1).sum(1) / 2, x
    for _ in range(steps):
        v = v + 0.5 * dt * scale * force
        place = place + dt * scale * v
        if circular is not None:
            place = torch.where(circular.to(x.device), torch.remainder(place + math.pi, 2 * math.pi) - math.pi, place)
        after, force = _forces(energy, place)
        v = v + 0.5 * dt * scale * force
    gain = before - after + kinetic - v.double().square().flatten(1).sum(1) / 2
    uniform = torch.rand(len(x), generator=random, dtype=torch.float64).to(gain)
    accepted = uniform.log() < gain  # NaN is a refusal
    return torch.where(accepted.view(dt.shape), place, x), float(accepted.double().mean())


def _forces(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """u(x) and −∂u/∂x, zero where u is infinite."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        u = energy.energy(x)
        (slope,) = torch.autograd.grad(torch.where(u.isfinite(), u, 0.0).sum(), x)
    return u.detach().double(), -slope.nan_to_num(0.0, 0.0, 0.0)
