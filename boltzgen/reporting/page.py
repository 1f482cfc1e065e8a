"""The page a report is written on: a function of the plain results and the pictures, every name on it escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from . import tables
from .pictures import Picture
from .style import PAGE, STYLE
from .tables import Table

__all__ = ["render"]

Results = Mapping[str, Any]


class _Section(NamedTuple):
    """A heading and the HTML below it; left out if there is none."""

    heading: str
    parts: list[str]


def render(results: Results, pictures: Mapping[str, Picture]) -> str:
    """The HTML text of a report. Every number in it is one of the results, rounded to be read.

    Arguments:
        results: what `write_report` returns.
        pictures: by name; see `pictures.album`.
    """
    sections = "\n".join(
        f"<h2>{_text(section.heading)}</h2>\n{''.join(section.parts)}"
        for section in _sections(results, {name: _picture(picture) for name, picture in pictures.items()})
        if any(section.parts)
    )
    return PAGE.format(
        style=STYLE,
        title=_text(" at ".join([results["system"] or "Samples", *_temperature(results)])),
        status=results["verdict"],
        word=results["verdict"].upper(),
        headline=_text(results["headline"]),
        sections=sections,
    )


def _sections(results: Results, shown: Mapping[str, str]) -> Iterator[_Section]:
    def some(*names: str) -> list[str]:
        return [shown[name] for name in names if name in shown]

    yield _Section("Estimates", [_table(tables.headline(results)), *_beside(results)])
    yield _Section("Why trust them, or not", [_checks(results), *_seeds(results)])
    nothing = "" if results["extremes"] else "<p>No draw has a finite energy: there is nothing to show.</p>"
    yield _Section("Where the molecule goes", [nothing, *some("ramachandran", "profiles"), *_basins(results)])
    pair = some("energies", "weights")
    side_by_side = [f'<div class="beside">{"".join(pair)}</div>'] if pair else []
    yield _Section("The flow against its target", [*side_by_side, *some("running")])
    yield _Section("Bonds, angles and contacts", _geometry(results))
    yield _Section("Draws to look at first", [*_extremes(results), *some("structures"), *_listings(results)])
    yield _Section("Training", some("training"))
    yield _Section("How the numbers were made", [_table(tables.card(results)), _paragraph(_METHOD)])
    yield _Section("How to make them again, and to cite them", _reproduction(results))


def _beside(results: Results) -> list[str]:
    """The reference, if there is any."""
    reference = results["reference"]
    found = []
    if reference["values"]:
        found.append(_table(tables.reference_values(results)))
        found += [
            _paragraph(f"Reference of {tables.label(name)}: {entry['method']}", quiet=True)
            for name, entry in reference["values"].items()
        ]
    if reference["frames"] is not None:
        frames = reference["frames"]
        apart = (
            "."
            if frames["apart"] is None
            else f": {100 * frames['apart']:.3g} % of the probability over phi and psi lies elsewhere (bins of 15°), "
            f"where noise alone, of independent draws, would make it {100 * frames['noise']:.3g} %."
        )
        found.append(_paragraph(f"Compared with {frames['n']:,} reference configurations{apart}"))
    return found


def _checks(results: Results) -> str:
    def row(check: Mapping[str, Any]) -> list[str]:
        advice = f'<br><span class="quiet">Next: {_text(check["next_step"])}</span>' if check["next_step"] else ""
        light = f'<span class="light {check["status"]}">{check["status"]}</span>'
        cells = [_text(check[key]) for key in ("name", "shown", "wanted")]
        return [light, *cells, _text(check["meaning"]) + advice]

    head = ["", "check", "value", "wanted", "what it says"]
    return _markup(head, map(row, results["checks"]), numbers={1, 2, 3})


def _seeds(results: Results) -> list[str]:
    """Trainings from other seeds, if there are any."""
    if not results["seeds"]:
        return []
    return [_table(tables.seeds(results)), _paragraph(tables.SEEDS, quiet=True)]


def _basins(results: Results) -> list[str]:
    if not results["basins"]:
        return []
    return [_table(tables.basins(results)), _paragraph(tables.BASINS, quiet=True)]


def _geometry(results: Results) -> list[str]:
    if not results["geometry"]:
        return []
    return [_table(tables.geometry(results)), _paragraph(tables.GEOMETRY, quiet=True)]


def _extremes(results: Results) -> list[str]:
    return [_table(tables.extremes(results))] if results["extremes"] else []


def _listings(results: Results) -> list[str]:
    return [
        f"<details><summary>Draw {one['index']} as PDB</summary><pre>{_text(one['pdb'])}</pre></details>"
        for one in results["extremes"]
        if "pdb" in one
    ]


def _reproduction(results: Results) -> list[str]:
    commands = results["made"]["commands"] or tables.python_commands(results)
    again = f'<pre class="command">{_text(chr(10).join(commands))}</pre>' if commands else ""
    version = results["made"]["software"].get("boltzgen", "")
    cite = (
        f"Cite: boltzgen-flows {version}, Boltzmann generators for any molecule; and the method, F. Noé, S. Olsson, "
        "J. Köhler and H. Wu, Boltzmann generators, Science 365, eaaw1147 (2019). Pareto k: A. Vehtari, D. Simpson, "
        "A. Gelman, Y. Yao and J. Gabry, Pareto smoothed importance sampling, JMLR 25, 72 (2024)."
    )
    return [again, _paragraph(_AGAIN) if commands else "", _paragraph(cite)]


def _temperature(results: Results) -> list[str]:
    """In words, if the target has one."""
    return [f"{results['temperature']:g} K"] if results["made"]["molecule"] else []


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _paragraph(text: str, *, quiet: bool = False) -> str:
    kind = ' class="quiet"' if quiet else ""
    return f"<p{kind}>{_text(text)}</p>\n"


def _table(table: Table) -> str:
    return _markup(table.head, ([_text(cell) for cell in row] for row in table.rows), table.numbers)


def _markup(head: list[str], rows: Iterable[list[str]], numbers: set[int]) -> str:
    """A table of cells that are escaped already; the columns that hold numbers are not broken."""
    top = f"<thead><tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr></thead>" if head else ""
    body = ""
    for row in rows:
        cells = enumerate(zip(row, head or [""] * len(row), strict=True))
        body += f"<tr>{''.join(_cell(cell, label, k in numbers) for k, (cell, label) in cells)}</tr>"
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>\n'


def _cell(cell: str, label: str, number: bool) -> str:
    """A cell that says what it is where the window is too narrow for columns."""
    kind = ' class="number"' if number else ""
    return f'<td{kind} data-label="{_text(label)}">{cell}</td>'


def _picture(picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    kind = ' class="wide"' if picture.figure.get_figwidth() > _WIDE else ""
    image = f'<img{kind} src="data:image/svg+xml;base64,{data}" alt="{_text(picture.alt)}">'
    return f'<figure>{image}<figcaption class="quiet">{_text(picture.caption)}</figcaption></figure>\n'


_WIDE = 7.0
"""inches from which a picture has panels that a narrow window must not shrink: it is moved about there."""
_METHOD = (
    "Every draw x of the flow has the weight exp(−u(x)) / q(x). Estimates are weighted means over all the draws, "
    "nothing clipped or left out; their errors hold for independent draws. results.json, beside this file, holds every "
    "number of this page."
)
_AGAIN = (
    "Draw i depends on the seed and on i only: on the same machine, with the same versions, the draws are the same. "
    "A training that is bounded by time takes other steps on another machine, and gives another flow and other draws, "
    "but the same estimates within their errors."
)
