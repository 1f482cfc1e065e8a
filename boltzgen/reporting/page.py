"""The page a report is written on: self-contained, without scripts, every name on it escaped."""

from __future__ import annotations

import base64
import html
import io
import platform
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure

from ..reweighting import Estimate
from ..sampling import Samples
from .plots import energy_histogram, free_energy_profiles, ramachandran, training_curve, weight_histogram
from .verdict import Check, Verdict

if TYPE_CHECKING:
    from ..training import History

__all__ = ["render"]

_LABELS = {
    "mean_potential_energy": "⟨U⟩, mean potential energy",
    "mean_reduced_energy": "⟨u⟩, mean reduced energy",
    "log_partition": "log Z, in the coordinates of the flow",
    "free_energy_difference_phi": "ΔF, φ < 0 → φ > 0",
}


def render(
    samples: Samples,
    verdict: Verdict,
    estimates: Mapping[str, tuple[Estimate, str]],
    results: Mapping[str, Any],
    history: History | None,
) -> str:
    """The HTML text of a report.

    Arguments:
        samples: draws.
        verdict: on them.
        estimates: name → (estimate, unit).
        results: the same run as plain data, see `report.results`.
        history: record of the training, if it is to be shown.
    """
    pictures = "".join(_picture(*figure) for figure in _figures(samples, history))
    return _PAGE.format(
        style=_STYLE,
        title=_text(" at ".join([results["system"] or "Samples", *_temperature(samples)])),
        status=verdict.status,
        word=verdict.status.upper(),
        headline=_text(verdict.headline),
        estimates=_table(
            ["quantity", "value ± standard error", "95 % interval", "reliable"],
            [_estimate_row(name, estimate, unit) for name, (estimate, unit) in estimates.items()],
        ),
        checks=_table(["", "check", "value", "wanted", "what it says"], map(_check_row, verdict.checks)),
        pictures=pictures or "<p>No draw has a finite energy: there is nothing to show.</p>",
        card=_table([], ([_text(key), _text(value)] for key, value in _card(samples, results))),
    )


def _estimate_row(name: str, estimate: Estimate, unit: str) -> list[str]:
    value = str(estimate).split(" (unreliable")[0]  # the reasons have a column of their own
    low, high = estimate.interval
    cells = (
        _LABELS.get(name, name),
        f"{value} {unit}",
        f"{low:.5g} to {high:.5g}",
        "yes" if estimate.reliable else f"no: {estimate.why}",
    )
    return [_text(cell) for cell in cells]


def _check_row(check: Check) -> list[str]:
    advice = f'<br><span class="quiet">Next: {_text(check.next_step)}</span>' if check.next_step else ""
    light = f'<span class="light {check.status}">{check.status}</span>'
    return [light, _text(check.name), _text(check.shown), _text(check.wanted), _text(check.meaning) + advice]


def _figures(samples: Samples, history: History | None) -> Iterator[tuple[Figure, str, str]]:
    """(figure, what it shows, how to read it)."""
    if samples.n_failed < len(samples):
        if {"phi", "psi"} <= set(samples.torsions):
            yield (
                ramachandran(samples),
                "Ramachandran maps: free energy over the torsions phi and psi, of the flow and reweighted",
                "Left, what the flow draws; right, the same draws with their weights: the equilibrium. The more alike, "
                "the better the flow. White: never drawn.",
            )
        if samples.torsions:
            yield (
                free_energy_profiles(samples),
                "Free-energy profiles over torsions, with bands of 95 % confidence",
                "Reweighted; the deepest bin is at 0. A band is that of its bin alone.",
            )
        yield (
            energy_histogram(samples),
            "Histograms of the energy of the draws, of the flow and reweighted",
            "The curves must overlap: reweighting cannot supply energies that the flow never draws.",
        )
        yield (
            weight_histogram(samples),
            "Histogram of the log-weights of the draws about the logarithm of their mean",
            "A perfect flow has all its weights at 0. A long tail to the right: few draws carry the estimates.",
        )
    if history is not None and (history.rounds or history.losses):
        yield (
            training_curve(history),
            "Course of the training",
            "In each round the flow is fitted to its own weighted draws, at the next lower temperature."
            if history.rounds
            else "The loss of every step.",
        )


def _card(samples: Samples, results: Mapping[str, Any]) -> list[tuple[str, str]]:
    evaluations, seconds, unknown = results["evaluations"], results["seconds"], "not recorded"
    return [
        ("system", results["system"] or unknown),
        *(("temperature", temperature) for temperature in _temperature(samples)),
        ("draws", f"{len(samples):,}, {samples.n_failed:,} of them without a finite energy"),
        ("seed of the draws", unknown if samples.seed is None else str(samples.seed)),
        ("energy evaluations", unknown if evaluations["energy"] is None else f"{evaluations['energy']:,}"),
        ("and with gradient", unknown if evaluations["gradient"] is None else f"{evaluations['gradient']:,}"),
        ("wall-clock time", unknown if seconds is None else f"{seconds:.0f} s"),
        ("software of this report", f"torch {torch.__version__}, Python {platform.python_version()}"),
        *((f"training: {key}", _plain(value)) for key, value in results.get("provenance", {}).items()),
    ]


def _plain(value: Any) -> str:
    """Plain data as people read them."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items() if item is not None)
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _temperature(samples: Samples) -> list[str]:
    """In words, if the target has one."""
    return [] if samples.topology is None else [f"{samples.temperature:g} K"]


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _table(head: list[str], rows: Any) -> str:
    """A table of cells that are escaped already."""
    top = f"<thead><tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr></thead>" if head else ""
    body = "".join(f"<tr>{''.join(map(_cell, row, head or [''] * len(row)))}</tr>" for row in rows)
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _cell(cell: str, label: str) -> str:
    """A cell that says what it is where the window is too narrow for columns."""
    return f'<td data-label="{_text(label)}">{cell}</td>'


def _picture(figure: Figure, alt: str, caption: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{_text(alt)}">'
    return f'<figure>{image}<figcaption class="quiet">{_text(caption)}</figcaption></figure>'


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.verdict { border-left: .5rem solid; padding: .7rem 1rem; background: #f5f5f5; }
.verdict.green { border-color: #00735a; }
.verdict.amber { border-color: #e69f00; }
.verdict.red { border-color: #b3261e; }
.light { display: inline-block; min-width: 3.6rem; border-radius: .3rem; text-align: center; font-size: .85rem;
  color: #fff; }
.light.green { background: #00735a; }
.light.amber { background: #e69f00; color: #1b1b1b; }
.light.red { background: #b3261e; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid #ddd; }
thead + tbody td:nth-child(2), thead + tbody td:nth-child(3), td:nth-child(4):nth-last-child(2) { white-space: nowrap; }
.quiet { color: #555; }
figure { margin: 1.2rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; }
@media screen and (max-width: 44rem) {
  thead { display: none; }
  tr { display: block; padding: .4rem 0; border-bottom: 1px solid #ddd; }
  td, thead + tbody td { display: block; padding: .1rem 0; border: 0; white-space: normal; overflow-wrap: anywhere; }
  td:first-child { font-weight: 600; }
  thead + tbody td:not(:first-child)::before { content: attr(data-label) ": "; color: #555; }
}
@media print {
  body { margin: 0; max-width: none; }
  .light { border: 1px solid #555; }
  tr { break-inside: avoid; }
}
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="verdict {status}"><strong>{word}</strong>: {headline}</p>
<h2>Estimates</h2>
{estimates}
<h2>Why trust them, or not</h2>
{checks}
<h2>Pictures</h2>
{pictures}
<h2>How they were made</h2>
{card}
<p>Every draw x of the flow has the weight exp(&minus;u(x)) / q(x). Estimates are weighted means over all the draws,
nothing clipped or left out; their errors hold for independent draws. results.json, beside this file, holds the same
numbers.</p>
</body>
</html>
"""
