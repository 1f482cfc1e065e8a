"""The draws beside what is known from elsewhere: reference values, and reference configurations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import instances
from ..errors import InputError, UnreliableEstimateWarning
from ..reweighting import effective_sample_size
from ..sampling import Samples
from .estimates import Estimates, default_estimates
from .maps import map_distance
from .plain import finite, plain_estimate

__all__ = ["beside", "compared"]

_KNOWN = ("value", "standard_error", "unit", "method")


def compared(
    samples: Samples,
    estimates: Estimates,
    reference: Samples | None,
    values: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Reference values with the distance in standard errors of the difference, and how far the maps are apart.

    Arguments:
        samples: draws.
        estimates: name → (estimate, unit).
        reference: weighted configurations of the same target, if there are any.
        values: known values of estimates by name, each {value, standard_error, unit, method}.

    Returns:
        Plain data: {"values": {name: {value, standard_error, unit, method, sigmas}}, "frames": None or {n, apart,
        noise}}; apart and noise as of `map_distance`, None without torsions phi and psi.

    Raises:
        InputError: if the reference is of another molecule or temperature, or a value is in another unit.
    """
    found: dict[str, Any] = {"values": {}, "frames": None}
    for name, (estimate, unit) in estimates.items():
        if name not in values:
            continue
        known = values[name]
        missing = [key for key in _KNOWN if key not in known]
        if missing:
            raise InputError(
                f"the reference value of {name} must say {', '.join(_KNOWN)}; got none for {', '.join(missing)}: add it"
            )
        if known["unit"] != unit:
            raise InputError(
                f"the reference value of {name} must be in {unit or 'no unit'}; got {known['unit']!r}: convert it"
            )
        error = math.hypot(known["standard_error"], estimate.standard_error)
        apart = abs(estimate.value - known["value"])
        sigmas = finite(apart / error) if error > 0 and math.isfinite(apart) else None
        found["values"][name] = {key: known[key] for key in _KNOWN}
        found["values"][name]["sigmas"] = sigmas
    if reference is not None:
        _same_target(samples, reference)
        maps = {"phi", "psi"} <= set(samples.torsions) and samples.n_failed < len(samples)
        apart, noise = map_distance(samples, reference) if maps else (None, None)
        found["frames"] = {"n": len(reference), "apart": apart, "noise": noise}
    return found


def beside(samples: Samples, estimates: Estimates, others: Sequence[Samples]) -> list[dict[str, Any]]:
    """What draws of trainings from other seeds are worth, and what they say of the same quantities; the own ones first.

    Returns:
        Plain data, empty without others: {seed, n, ess, ess_fraction, estimates: {name: …}} of each, with the
        default estimates that all of them have.
    """
    if not others:
        return []
    with warnings.catch_warnings(action="ignore", category=UnreliableEstimateWarning):  # the table says it
        tables = [estimates, *(default_estimates(other) for other in others)]
    names = [name for name in estimates if all(name in table for table in tables)]
    return [
        {
            "seed": one.seed,
            "n": len(one),
            "ess": (ess := effective_sample_size(one.log_w)),
            "ess_fraction": ess / len(one),
            "estimates": {name: plain_estimate(*table[name]) for name in names},
        }
        for one, table in zip([samples, *others], tables, strict=True)
    ]


def _same_target(samples: Samples, reference: Samples) -> None:
    instances(reference=(reference, Samples))
    if samples.topology is None:
        same = reference.topology is None and samples.x.shape[1:] == reference.x.shape[1:]
    else:
        same = reference.topology is not None and reference.topology["atoms"] == samples.topology["atoms"]
    if not same or not math.isclose(samples.temperature, reference.temperature, rel_tol=1e-3):
        raise InputError(
            f"reference must be of the same target at the same temperature; got {reference!r} beside {samples!r}: "
            "simulate that, or reweight it with reference.at(temperature)"
        )
    if set(samples.torsions) - set(reference.torsions):
        raise InputError(
            f"reference must know the torsions {', '.join(samples.torsions)}; got {', '.join(reference.torsions)}: "
            "make both from the same molecule"
        )
