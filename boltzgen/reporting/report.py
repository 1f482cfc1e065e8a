"""A run shown to others: one HTML file that needs nothing else, and every number on it as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor

from ..energies.energy import Evaluations
from ..errors import InputError
from ..files import as_path, write_atomically
from ..reweighting import effective_sample_size, pareto_k
from ..sampling import Samples
from .bonds import geometry
from .comparison import beside, compared
from .estimates import Estimates, default_estimates, running
from .maps import profile_numbers
from .outliers import extremes
from .page import render
from .pictures import album, write_figures
from .plain import as_json, plain_estimate
from .verdict import Check, Verdict, judge
from .wells import Basin, basins

if TYPE_CHECKING:
    from ..training import History

__all__ = ["results", "write_report"]


def results(
    samples: Samples,
    *,
    estimates: Estimates | None = None,
    system: str | None = None,
    evaluations: Evaluations | Mapping[str, int] | None = None,
    seconds: float | None = None,
    others: Sequence[Samples] = (),
    reference_log_w: Samples | Tensor | npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """The headline numbers as plain data, with which `results.json` begins.

    Its keys are system, temperature (K), n, ess, ess_fraction, pareto_k, verdict ("green", "amber" or "red"), estimates
    {name: {value, standard_error, unit, interval, reliable, why}}, evaluations {energy, gradient} and seconds. A number
    that is not finite, or not known, is None: k̂ is −inf for weights without a tail, and an error is infinite for a
    state never drawn.

    Arguments:
        samples: draws.
        estimates: name → (estimate, unit); `default_estimates` if None.
        system: what was sampled; the name the samples carry if None.
        evaluations: ledger of the target, training included.
        seconds: wall-clock time of the whole work.
        others: draws of generators trained independently, for the verdict; see `judge`.
        reference_log_w: log-weights of configurations known to exist, for the verdict; see `judge`.
    """
    estimates = default_estimates(samples) if estimates is None else estimates
    verdict = judge(samples, reference_log_w=reference_log_w, others=others)
    found = _headline(samples, verdict, estimates, system, evaluations, seconds)
    return {key: as_json(value) for key, value in found.items()}


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
    reference: Samples | None = None,
    reference_log_w: Samples | Tensor | npt.ArrayLike | None = None,
    reference_values: Mapping[str, Mapping[str, Any]] | None = None,
    commands: Sequence[str] = (),
    figures: str | os.PathLike[str] | None = None,
    forces: str = "",
) -> dict[str, Any]:
    """Writes a self-contained HTML report, and `results.json` beside it, which holds every number on the page.

    The page holds the verdict with its reasons, the estimates, basins, pictures, bonds and contacts, the draws to look
    at first, and how all of it was made and is made again. It runs no script and loads nothing.

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
        reference: weighted configurations of the same target from another source, those of `boltzgen simulate` say:
            their maps, profiles and energies are shown beside those of the draws.
        reference_log_w: log-weights of configurations known to exist, for the verdict; see `judge`. Those of the
            reference are `generator.weigh(reference.positions()).log_w`.
        reference_values: known values of estimates by name, each {value, standard_error, unit, method}, as
            `molecule.reference` has them for its own temperature.
        commands: the command lines that make these numbers again, in their order.
        figures: folder for the pictures as SVG and PNG files; not written if None.
        forces: which force of the molecule is evaluated where, and why, a line each: what `energy.describe()` says.

    Returns:
        What `results.json` holds: `results`, and under further keys whatever else the page shows.

    Raises:
        InputError: if the path is a folder, there are no samples, or the reference is of another target.
        OSError: if a file cannot be written; an older one is left intact.
    """
    path = as_path(path)
    if path.is_dir():
        raise InputError(f"path must name an HTML file; got the folder {str(path)!r}: add a name such as report.html")
    if isinstance(commands, str):
        raise InputError(f"commands must be a list of command lines; got the text {commands!r}: put it into a list")
    verdict = judge(samples, reference_log_w=reference_log_w, others=others)
    estimates = default_estimates(samples) if estimates is None else estimates
    found = _headline(samples, verdict, estimates, system, evaluations, seconds)
    found |= {
        "headline": verdict.headline,
        "checks": [_check(one) for one in verdict.checks],
        "seeds": beside(samples, estimates, others),
        "reference": compared(samples, estimates, reference, reference_values or {}),
        **_details(samples),
        "training": None if history is None else {"seconds": history.seconds, "steps": len(history.losses)},
        "made": {
            "molecule": samples.topology is not None,
            "failed": samples.n_failed,
            "seed": samples.seed,
            "software": _software(),
            "commands": list(commands),
            "forces": forces.splitlines(),
        },
    }
    if provenance is not None:
        found["provenance"] = provenance
    shown = album(samples, history=history, reference=reference)
    found["pictures"] = {name: picture.numbers for name, picture in shown.items() if picture.numbers}
    found = {key: as_json(value) for key, value in found.items()}
    # a name from the command line may hold bytes that are no text: they become character references
    write_atomically(path, render(found, shown).encode("utf-8", "xmlcharrefreplace"))
    write_atomically(path.with_name("results.json"), _written(found))
    if figures is not None:
        write_figures({name: picture.figure for name, picture in shown.items()}, figures)
    return found


def _written(found: dict[str, Any]) -> bytes:
    """As text to be read, but for the many numbers of the pictures: those of each are in a line."""
    rest = json.dumps({key: value for key, value in found.items() if key != "pictures"}, indent=2, allow_nan=False)
    lines = [f"    {json.dumps(name)}: {json.dumps(own, allow_nan=False)}" for name, own in found["pictures"].items()]
    pictures = ",\n".join(lines)
    return f'{rest[:-2]},\n  "pictures": {{\n{pictures}\n  }}\n}}\n'.encode()


def _headline(
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
        "pareto_k": pareto_k(samples.log_w),
        "verdict": verdict.status,
        "estimates": {name: plain_estimate(estimate, unit) for name, (estimate, unit) in estimates.items()},
        "evaluations": {kind: ledger.get(kind) for kind in ("energy", "gradient")},
        "seconds": seconds,
    }


def _details(samples: Samples) -> dict[str, Any]:
    """What the draws themselves tell, as plain data; empty where every weight is zero, or there is no molecule."""
    drawn, molecule = samples.n_failed < len(samples), samples.topology is not None
    return {
        "running": running(samples) if drawn else None,
        "basins": [_basin(one) for one in basins(samples)] if drawn and samples.torsions else [],
        "profiles": profile_numbers(samples) if drawn and samples.torsions else {},
        "geometry": [asdict(row) for row in geometry(samples)] if drawn and molecule else [],
        "extremes": extremes(samples) if drawn else [],
    }


def _check(check: Check) -> dict[str, Any]:
    return asdict(check) | {"shown": check.shown}


def _basin(basin: Basin) -> dict[str, Any]:
    return {
        "centre": basin.centre,
        "limits": {name: list(limits) for name, limits in basin.limits.items()},
        "population": plain_estimate(basin.population, ""),
        "free_energy": None if basin.free_energy is None else plain_estimate(basin.free_energy, "kT"),
        "flow": basin.flow,
    }


def _software() -> dict[str, str]:
    found = {}
    with suppress(importlib.metadata.PackageNotFoundError):
        found["boltzgen"] = importlib.metadata.version("boltzgen-flows")
    return found | {"torch": torch.__version__, "Python": platform.python_version()}
