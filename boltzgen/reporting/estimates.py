"""What is estimated if nothing else is asked for, and how it settles as draws are added."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import UnreliableEstimateWarning
from ..reweighting import Estimate, effective_sample_size, expectation, free_energy_difference, log_partition
from ..reweighting.reliability import warn
from ..sampling import Samples
from ..units import kT
from .plain import finite

__all__ = ["Estimates", "default_estimates", "of_samples", "running"]

Estimates = Mapping[str, tuple[Estimate, str]]

_FIRST = 100
"""draws below which nothing can be said."""


def default_estimates(samples: Samples) -> dict[str, tuple[Estimate, str]]:
    """What is estimated if nothing else is asked for: name → (estimate, unit); nothing if every weight is zero.

    For a molecule ⟨U⟩, log Z, and with a torsion called "phi" the free-energy difference from φ < 0 to φ > 0;
    ⟨u⟩ and log Z otherwise. Draws that are not independent know no log Z: their weights are relative, and no error bar
    made of them is reliable.

    Warns:
        UnreliableEstimateWarning: if one of them must not be believed.
    """
    if samples.n_failed == len(samples):
        return {}
    log_w = samples.log_w
    log_z = {"log_partition": (log_partition(log_w), "")} if samples.independent else {}
    if samples.potential is None:
        return {"mean_reduced_energy": (of_samples(samples, expectation(log_w, samples.u)), "kT")} | log_z
    energy = of_samples(samples, expectation(log_w, samples.potential * kT(samples.temperature)))
    estimates = {"mean_potential_energy": (energy, "kJ/mol")} | log_z
    if "phi" in samples.torsions:
        phi = samples.torsion("phi")
        difference = of_samples(samples, free_energy_difference(log_w, phi < 0, phi > 0))
        estimates["free_energy_difference_phi"] = (difference, "kT")
    return estimates


def of_samples(samples: Samples, estimate: Estimate) -> Estimate:
    """An estimate made of the single weights of samples: not reliable unless these are independent draws.

    Warns:
        UnreliableEstimateWarning: if they are not.
    """
    if samples.independent:
        return estimate
    why = "the rows are not independent draws"
    warn(why)
    return replace(estimate, reliable=False, why="; ".join(filter(None, [estimate.why, why])))


def running(samples: Samples, *, points: int = 24) -> dict[str, Any]:
    """Effective sample size and the default estimates of the first m draws, for a growing m.

    Draws are independent and come in the order in which they were drawn: an estimate that drifts by more than its
    error, or an effective sample size that falls back, shows weights that are too heavy to be averaged.

    Arguments:
        samples: draws, in their own order.
        points: numbers of draws looked at, in a constant ratio from 100 to all of them.

    Returns:
        Plain data: {"n": [m, …], "ess": […], "estimates": {name: {"unit", "value": […], "standard_error": […]}}};
        None for what is not finite.

    Example:
        >>> samples = Samples(torch.zeros(400, 1), torch.zeros(400), torch.zeros(400))
        >>> found = running(samples, points=3)
        >>> found["n"], found["ess"], found["estimates"]["log_partition"]["value"]
        ([100, 200, 400], [100.0, 200.0, 400.0], [0.0, 0.0, 0.0])
    """
    n = len(samples)
    counts = [int(m) for m in np.unique(np.geomspace(min(_FIRST, n), n, points).round())]
    parts = [samples[:m] for m in counts]
    with warnings.catch_warnings(action="ignore", category=UnreliableEstimateWarning):  # few draws are unreliable
        tables = [default_estimates(part) for part in parts]
    series = {
        name: {
            "unit": unit,
            "value": [finite(table[name][0].value) if name in table else None for table in tables],
            "standard_error": [finite(table[name][0].standard_error) if name in table else None for table in tables],
        }
        for name, (_, unit) in tables[-1].items()
    }
    return {"n": counts, "ess": [effective_sample_size(part.log_w) for part in parts], "estimates": series}
