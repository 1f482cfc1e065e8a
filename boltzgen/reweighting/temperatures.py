"""Free energy, mean energy, heat capacity and entropy as functions of temperature, from the draws made for one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from ..units import positive_temperature
from .estimate_array import EstimateArray
from .moments import spread
from .observables import as_observable
from .pareto import pareto_k
from .ratio import Ratio, log_of_mean, ratio_of_means, with_influences
from .reliability import doubts, warn
from .weights import Array, as_log_weights, effective_sample_size, scaled_weights, with_support

__all__ = ["Thermodynamics", "at_temperature", "thermodynamics"]


@dataclass(frozen=True, eq=False)
class Thermodynamics:
    """Configurational thermodynamics at m temperatures; energies in kT₀, the unit the potential was given in.

    `curves.mean_energy * kT(T₀)` is in kJ/mol. The momenta are left out: they add ½ R T for each of their degrees of
    freedom to the energy. S refers to the measure of the coordinates and is known up to a constant,
    and F up to T times it.

    Attributes:
        temperatures: T, (m,).
        free_energy: F(T) = −(T/T₀) ln Z(T), in kT₀.
        mean_energy: ⟨U⟩(T), in kT₀.
        heat_capacity: C(T) = Var(U)/(R T²), in units of R.
        entropy: S(T) = (⟨U⟩ − F)/T, in units of R.
        ess: effective sample size of the weights at each temperature, (m,).
        pareto_k: k̂ of the weights at each temperature, (m,).
    """

    temperatures: Array
    free_energy: EstimateArray
    mean_energy: EstimateArray
    heat_capacity: EstimateArray
    entropy: EstimateArray
    ess: Array
    pareto_k: Array

    @property
    def reliable(self) -> npt.NDArray[np.bool_]:
        """At which temperatures the numbers may be believed, as far as the weights there can tell."""
        return self.free_energy.reliable


def at_temperature(log_w: Tensor | npt.ArrayLike, potential: Tensor | npt.ArrayLike, old: float, new: float) -> Array:
    """Log-weights of the same draws at another temperature, log w + (1 − T₀/T)·U/kT₀.

    Arguments:
        log_w: log-weights at T₀, shape (n,); −inf is a draw of weight zero, at every temperature.
        potential: U/kT₀ at each draw, what a temperature divides, shape (n,); not the log-determinant of coordinates.
        old, new: T₀ and T, in K.

    Returns:
        Log-weights at T, shape (n,), float64. How far they reach Pareto k tells.

    Raises:
        InputError: if log_w or potential is not what it must be, or a temperature is not positive.

    Example:
        >>> at_temperature([0.0, 0.0], [1.0, 3.0], 300.0, 150.0)
        array([-1., -3.])
    """
    log_w = with_support(as_log_weights(log_w))
    potential = as_observable("potential", log_w, potential)
    # zero where the weight is, so that 0 · inf does not arise
    return log_w + (1 - positive_temperature(old) / positive_temperature(new)) * potential


def thermodynamics(
    log_w: Tensor | npt.ArrayLike,
    potential: Tensor | npt.ArrayLike,
    temperatures: Iterable[float],
    *,
    drawn_at: float,
) -> Thermodynamics:
    """F, ⟨U⟩, C and S at any temperatures, from the weighted draws made for one.

    ⟨U⟩, C and S are consistent, Z(T) is unbiased. Away from T₀ the weights grow uneven: beyond the reach of the draws,
    k̂ and ESS of the weights at that temperature say so, and the estimates are not `reliable`. Errors are those of
    independent draws: too small for frames of a simulation, whose correlation is not seen here (`chain_average`).

    Arguments:
        log_w: log-weights of independent draws at T₀, shape (n,): `samples.log_w`.
        potential: U/kT₀ at each draw, shape (n,): `samples.potential`, or `samples.u` of a target without coordinates.
        temperatures: T, in K.
        drawn_at: T₀, in K: `samples.temperature`.

    Raises:
        InputError: as `at_temperature`; if there are no temperatures.

    Warns:
        UnreliableEstimateWarning: naming the temperatures at which nothing may be believed.

    Example:
        >>> x = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> u = 0.5 * x.square().sum(-1)  # a harmonic well in three dimensions
        >>> curves = thermodynamics(torch.zeros(20_000), u, [1.0, 1.2], drawn_at=1.0)
        >>> print(curves.mean_energy[1])  # 3/2 T
        1.818 ± 0.014

    References:
        Ferrenberg & Swendsen, Phys. Rev. Lett. 61, 2635 (1988).
    """
    try:
        several = list(temperatures)
    except TypeError:
        raise InputError(
            f"temperatures must be several, or a list of one; got {temperatures!r}: put it in []"
        ) from None
    ladder = np.array([positive_temperature(t) for t in several], dtype=np.float64)
    if not len(ladder):
        raise InputError("temperatures must hold at least one; got none: pass e.g. [300.0, 310.0]")
    log_w = with_support(as_log_weights(log_w))
    potential = as_observable("potential", log_w, potential)
    found, reasons, sizes, shapes = [], [], [], []
    for t in ladder:
        log_w_t, ratio = at_temperature(log_w, potential, drawn_at, t), t / drawn_at
        found.append(_at_one(log_w_t, potential, ratio))
        reasons.append("; ".join(doubts(log_w_t)))
        sizes.append(effective_sample_size(log_w_t))
        shapes.append(pareto_k(log_w_t))
    beyond = [f"{t:g} K: {why}" for t, why in zip(ladder, reasons, strict=True) if why]
    warn(f"out of reach at {' / '.join(beyond)}" if beyond else "")
    why, ess, k = np.array(reasons), effective_sample_size(log_w), pareto_k(log_w)
    free_energy, mean_energy, heat_capacity, entropy = (
        EstimateArray(value, error, (low, high), ess, len(log_w), k, why)
        for value, error, low, high in np.array(found).transpose(1, 2, 0)
    )
    return Thermodynamics(ladder, free_energy, mean_energy, heat_capacity, entropy, np.array(sizes), np.array(shapes))


def _at_one(log_w: Array, potential: Array, ratio: float) -> tuple[Ratio, Ratio, Ratio, Ratio]:
    """F, ⟨U⟩, C and S at the temperature T = ratio · T₀ that log_w is for."""
    w = scaled_weights(log_w)
    log_z, error, low, high = log_of_mean(log_w)
    free_energy = Ratio(-ratio * log_z, ratio * error, -ratio * high, -ratio * low)
    mean = ratio_of_means(w * potential, w)
    capacity = Ratio(*(moment / ratio**2 for moment in spread(w, potential)))
    return free_energy, mean, capacity, _entropy(w, potential / ratio, log_z)


def _entropy(w: Array, u: Array, log_z: float) -> Ratio:
    """⟨u⟩ + ln Z: two estimates from the same draws, whose influences add."""
    n, total = len(w), float(w.sum())
    mean = float(w.dot(u)) / total
    if n < 2 or w.max() >= total * (1 - 1e-9):
        return Ratio(mean + log_z, math.inf, -math.inf, math.inf)
    return with_influences(mean + log_z, w * (u - mean) / (total - w) + (w * n / total - 1) / (n - 1))
