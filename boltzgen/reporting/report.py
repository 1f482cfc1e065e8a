"""A run shown to others: one HTML file that needs nothing else, and its headline numbers as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..energies.energy import Evaluations
from ..errors import InputError
from ..files import write_atomically
from ..reweighting import Estimate, effective_sample_size, expectation, free_energy_difference, log_partition, pareto_k
from ..sampling import Samples
from ..units import kT
from .page import render
from .verdict import Verdict, judge

if TYPE_CHECKING:
    from ..training import History

__all__ = ["default_estimates", "results", "write_report"]

Estimates = Mapping[str, tuple[Estimate, str]]


def default_estimates(samples: Samples) -> dict[str, tuple[Estimate, str]]:
    """What is estimated if nothing else is asked for: name → (estimate, unit); nothing if every weight is zero.

    For a molecule ⟨U⟩, log Z, and with a torsion called "phi" the free-energy difference from φ < 0 to φ > 0;
    ⟨u⟩ and log Z otherwise. Draws that are not independent know no log Z: their weights are relative.

    Warns:
        UnreliableEstimateWarning: if one of them must not be believed.
    """
    if samples.n_failed == len(samples):
        return {}
    log_w = samples.log_w
    log_z = {"log_partition": (log_partition(log_w), "")} if samples.independent else {}
    if samples.potential is None:
        return {"mean_reduced_energy": (expectation(log_w, samples.u), "kT")} | log_z
    energy = expectation(log_w, samples.potential * kT(samples.temperature))
    estimates = {"mean_potential_energy": (energy, "kJ/mol")} | log_z
    if "phi" in samples.torsions:
        phi = samples.torsion("phi")
        estimates["free_energy_difference_phi"] = (free_energy_difference(log_w, phi < 0, phi > 0), "kT")
    return estimates


def results(
    samples: Samples,
    *,
    estimates: Estimates | None = None,
    system: str | None = None,
    evaluations: Evaluations | Mapping[str, int] | None = None,
    seconds: float | None = None,
    others: Sequence[Samples] = (),
) -> dict[str, Any]:
    """The headline numbers as plain data, what `results.json` holds.

    Its keys are system, temperature (K), n, ess, ess_fraction, pareto_k, verdict ("green", "amber" or "red"), estimates
    {name: {value, standard_error, unit}}, evaluations {energy, gradient} and seconds. A number that is not finite, or
    not known, is None: k̂ is −inf for weights without a tail, and an error is infinite for a state never drawn.

    Arguments:
        samples: draws.
        estimates: name → (estimate, unit); `default_estimates` if None.
        system: what was sampled; the name the samples carry if None.
        evaluations: ledger of the target, training included.
        seconds: wall-clock time of the whole work.
        others: draws of generators trained independently, for the verdict; see `judge`.
    """
    estimates = default_estimates(samples) if estimates is None else estimates
    return _results(samples, judge(samples, others=others), estimates, system, evaluations, seconds)


def write_report(
    samples: Samples,
    path: str | os.PathLike[str],
    *,
    estimates: Estimates | None = None,
    system: str | None = None,
    evaluations: Evaluations | Mapping[str, int] | None = None,
    seconds: float | None = None,
    history: History | None = None,
    others: Sequence[Samples] = (),
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a self-contained HTML report, and `results.json` beside it.

    The page holds the verdict with its reasons, the estimates, the pictures and how they were made. It runs no script
    and loads nothing.

    Arguments:
        samples: draws.
        path: of the HTML file.
        estimates: name → (estimate, unit); `default_estimates` if None.
        system: what was sampled; the name the samples carry if None.
        evaluations: ledger of the target, training included.
        seconds: wall-clock time of the whole work.
        history: record of the training, to be shown as a curve.
        others: draws of generators trained independently, for the verdict; see `judge`.
        provenance: plain data that say where the draws come from, shown as they are and kept in results.json.

    Returns:
        What `results.json` holds; see `results`.

    Raises:
        InputError: if the path is a folder, or there are no samples.
        OSError: if a file cannot be written; an older one is left intact.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"path must name an HTML file; got the folder {str(path)!r}: add a name such as report.html")
    verdict = judge(samples, others=others)
    estimates = default_estimates(samples) if estimates is None else estimates
    found = _results(samples, verdict, estimates, system, evaluations, seconds)
    if provenance is not None:
        found["provenance"] = dict(provenance)
    page = render(samples, verdict, estimates, found, history)
    # a name from the command line may hold bytes that are no text: they become character references
    write_atomically(path, page.encode("utf-8", "xmlcharrefreplace"))
    write_atomically(path.with_name("results.json"), (json.dumps(found, indent=2, allow_nan=False) + "\n").encode())
    return found


def _results(
    samples: Samples,
    verdict: Verdict,
    estimates: Estimates,
    system: str | None,
    evaluations: Evaluations | Mapping[str, int] | None,
    seconds: float | None,
) -> dict[str, Any]:
    ledger = asdict(evaluations) if isinstance(evaluations, Evaluations) else evaluations or {}
    ess = effective_sample_size(samples.log_w)
    return {
        "system": samples.system if system is None else system,
        "temperature": samples.temperature,
        "n": len(samples),
        "ess": ess,
        "ess_fraction": ess / len(samples),
        "pareto_k": _finite(pareto_k(samples.log_w)),
        "verdict": verdict.status,
        "estimates": {
            name: {"value": _finite(e.value), "standard_error": _finite(e.standard_error), "unit": unit}
            for name, (e, unit) in estimates.items()
        },
        "evaluations": {kind: ledger.get(kind) for kind in ("energy", "gradient")},
        "seconds": None if seconds is None else _finite(seconds),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
