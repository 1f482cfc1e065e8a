"""What a multistate estimator takes, from flows, energies and the runs of a simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..coordinates import InternalCoordinates
from ..coordinates.frames import in_chart
from ..energies import Energy, Pullback
from ..errors import InputError
from ..flows import Flow
from ..sampling import ReplicaExchange, Samples, Simulation
from .chains import autocorrelation_time
from .free_energies import mbar_arrays
from .reliability import FEWEST, warn
from .weights import Array

__all__ = ["multistate_arrays"]

Draws = Samples | Simulation | ReplicaExchange | Tensor | None
_ROWS = 4096  # evaluated at once


def multistate_arrays(states: Sequence[Energy | Flow], draws: Sequence[Draws]) -> tuple[Array, npt.NDArray[np.int64]]:
    """Reduced potentials u_kn and numbers of draws N_k of K states, for `pymbar.MBAR(u_kn, N_k)`.

    A flow is a state with u = −log q, whose free energy is 0: that of a target next to it is −log Z.

    Arguments:
        states: energies and flows of the same configurations.
        draws: what was drawn from each of them, in the same order: independent `Samples` of a flow; the run of
            `simulate` or `replica_exchange` for a state whose energy is that of its temperature, the lowest of a
            ladder; a tensor of independent configurations; or None. Of a run every τ-th frame of each walker is taken,
            with the longest autocorrelation time τ among its energy and its coordinates; its frames of a molecule are
            brought onto the internal coordinates of the states.

    Returns:
        u_kn (K, N), float64, and N_k (K,).

    Raises:
        InputError: if states and draws do not fit, samples are correlated, or as `mbar_arrays`.

    Warns:
        UnreliableEstimateWarning: if a run is worth fewer than 25 independent frames.

    Example:
        >>> target, flow = toys.DoubleWell(), coupling_flow(2)
        >>> u_kn, N_k = multistate_arrays([flow, target], [draw(flow, target, 100, seed=1), target.sample(50, seed=2)])
        >>> u_kn.shape, N_k
        ((2, 150), array([100,  50]))

    References:
        Shirts & Chodera, J. Chem. Phys. 129, 124105 (2008).
    """
    if len(states) != len(draws):
        raise InputError(
            f"draws must be given for each of {len(states)} states; got {len(draws)}: pass None for what was not drawn"
        )
    for state in states:
        if not isinstance(state, Energy | Flow):
            raise InputError(f"a state must be an Energy or a Flow; got {type(state).__name__}: pass either")
    places = [
        torch.empty(0, *state.event_shape) if drawn is None else _configurations(state, drawn)
        for state, drawn in zip(states, draws, strict=True)
    ]
    return mbar_arrays([np.stack([_potential(state, x) for state in states]) for x in places])


def _potential(state: Energy | Flow, x: Tensor) -> Array:
    """Reduced potentials of configurations in a state, (n,); +inf where it excludes them."""
    device = next((value.device for value in (*state.parameters(), *state.buffers())), x.device)
    dtype = next((value.dtype for value in state.parameters() if value.is_floating_point()), torch.float64)
    x, found = x.to(device, dtype), [torch.empty(0, dtype=torch.float64)]
    with torch.no_grad():
        for part in torch.split(x, _ROWS):
            found.append(-state.log_prob(part).double().cpu())
    return torch.cat(found).numpy()


def _configurations(state: Energy | Flow, drawn: Draws) -> Tensor:
    """Independent configurations of a state, (n, *event)."""
    if isinstance(drawn, Samples):
        if not drawn.independent or not isinstance(state, Flow):
            raise InputError(
                f"samples must be independent draws of a flow, and stand for that flow; got {drawn!r} of a "
                f"{type(state).__name__}: for a simulation pass the run itself, what simulate or replica_exchange gave"
            )
        return drawn.x
    if isinstance(drawn, Simulation | ReplicaExchange):
        return _thinned(state, drawn)
    if not isinstance(drawn, Tensor):
        raise InputError(
            f"draws must be Samples, a run, a tensor or None; got {type(drawn).__name__}: pass them as a tensor"
        )
    return drawn


def _thinned(state: Energy | Flow, run: Simulation | ReplicaExchange) -> Tensor:
    lowest = float(run.temperatures[0]) if isinstance(run, ReplicaExchange) else run.temperature
    if isinstance(state, Flow) or not math.isclose(state.temperature, lowest, rel_tol=1e-6):
        raise InputError(
            f"a run must stand for the energy at its temperature, {lowest:g}; got {type(state).__name__}"
            f"{'' if isinstance(state, Flow) else f' at {state.temperature:g}'}: use energy.at({lowest:g})"
        )
    n, walkers = run.x.shape[:2]
    x = _chart(state, run.x.flatten(0, 1)).reshape(n, walkers, *state.event_shape)
    u = _potential(state, x.flatten(0, 1)).reshape(n, walkers, 1)
    series = np.concatenate([u, x.flatten(2).double().cpu().numpy()], 2)
    moving = np.ptp(series, axis=(0, 1)) > 0
    times = [np.mean([autocorrelation_time(walker) for walker in column]) for column in series.T[moving]]
    tau = max(times, default=n)  # what never moved is worth one frame
    kept = x[:: math.ceil(tau)]
    found: Tensor = kept.flatten(0, 1)
    if len(found) < FEWEST:
        warn(f"a run is worth only {len(found)} independent frames, at least {FEWEST} are needed", stacklevel=6)
    return found


def _chart(energy: Energy, frames: Tensor) -> Tensor:
    """Frames as the configurations of an energy: of a molecule as internal coordinates."""
    chart: Any = getattr(energy, "bijection", None)
    if isinstance(energy, Pullback) and isinstance(chart, InternalCoordinates):
        y, _ = in_chart(chart, frames)
        if len(y) != len(frames):
            raise InputError(
                f"a run must lie in the chart as a whole; got {len(frames) - len(y)} of {len(frames)} frames outside: "
                "thin the others, and pass their coordinates as a tensor"
            )
        return y
    return frames
