import base64
import copy
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch

from boltzgen.reporting import judge, write_report
from boltzgen.reporting.page import render
from boltzgen.reporting.tables import plus_minus
from boltzgen.reweighting import Estimate, effective_sample_size
from boltzgen.sampling import Samples
from boltzgen.training import History
from boltzgen.training.history import Round

CANARY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{0}&amp;"
VOID = {"meta", "img", "br"}
COMMANDS = ["boltzgen train 'a b' --out run", "boltzgen sample run -n 2000 --seed 11"]


class Page(HTMLParser):
    """Every tag with its attributes, and the text; unbalanced tags are an error."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.text, self.open = html, [], "", []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def samples():
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(2000, 5, 3, generator=generator)
    return Samples(
        positions.flatten(1),
        torch.zeros(2000),
        0.3 * torch.randn(2000, generator=generator, dtype=torch.float64),
        temperature=300.0,
        system="peptide",
        seed=11,
        cartesian=positions,
        potential=torch.rand(2000, generator=generator, dtype=torch.float64),
        topology={"atoms": [["C", "C", "X", "1", "A"]] * 5, "bonds": [[0, 1], [1, 2], [2, 3], [3, 4]]},
        torsions={"phi": [0, 1, 2, 3], "psi": [1, 2, 3, 4]},
    )


@pytest.fixture(scope="module")
def page(samples, tmp_path_factory):
    """A report of everything, and what its results.json holds."""
    folder = tmp_path_factory.mktemp("report")
    history = History(losses=[1.0], rounds=[Round(1200.0, 0.5, 300.0, 1000, 60.0)])
    known = {"value": 1.5, "standard_error": 0.25, "unit": "kJ/mol", "method": "a guess"}
    write_report(
        samples,
        folder / "x.html",
        evaluations={"energy": 123456, "gradient": 7},
        seconds=61.2,
        history=history,
        reference=samples,
        reference_values={"mean_potential_energy": known},
        commands=COMMANDS,
        provenance={"seed": 4},
    )
    page = Page((folder / "x.html").read_text(encoding="utf-8"))
    page.results = json.loads((folder / "results.json").read_text())
    return page


def test_the_page_loads_and_runs_nothing(page):
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("a")
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert all(not re.match("https?:", value or "") for value in attributes.values())


def test_pictures_are_inside_and_described(page):
    pictures = page.all("img")
    assert len(pictures) == len(page.all("figcaption")) == 7
    for picture in pictures:
        head, data = picture["src"].split(",")
        assert head == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
        assert len(picture["alt"]) > 15


def test_the_page_says_what_the_results_say(page, samples):
    found = page.results
    verdict = judge(samples)
    assert f"{found['verdict'].upper()}: {verdict.headline}" in page.text
    assert f"{found['ess']:.0f}" in page.text
    for check in verdict.checks:
        assert check.shown in page.text
        assert check.next_step in page.text
    for entry in found["estimates"].values():
        assert f"{entry['value']:.2f}"[:4] in page.text
    for words in ("peptide at 300 K", "123,456", "61 s", "2,000, 0 of them", "11"):
        assert words in page.text


def test_names_are_text_and_nothing_else(samples, tmp_path):
    estimate = Estimate(1.0, 0.1, (0.8, 1.2), 100.0, 100, 0.1, False, CANARY)
    write_report(samples, tmp_path / "x.html", system=CANARY, estimates={CANARY: (estimate, CANARY)})
    page = Page((tmp_path / "x.html").read_text(encoding="utf-8"))
    assert not page.all("script")
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert page.text.count(CANARY) == 6  # title, heading, name, unit, reason, card


def test_every_cell_says_what_it_is_for_windows_too_narrow_for_columns(page):
    labels = [cell["data-label"] for cell in page.all("td")]
    assert {"quantity", "value", "wanted", "95 % interval", "what it says"} <= set(labels)


def leaves(data, path=()):
    """Every number in plain data, with where it is; numbers in words are not among them."""
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in leaves(value, (*path, key))]
    if isinstance(data, list):
        return [leaf for k, value in enumerate(data) for leaf in leaves(value, (*path, k))]
    return [path] if isinstance(data, int | float) and not isinstance(data, bool) else []


def changed(data, path):
    other = copy.deepcopy(data)
    place = other
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = 1.5 * place[path[-1]] + 7
    return other


ONLY_IN_PICTURES = {"running", "profiles", "training", "pareto_k", "pictures"}
"""Of results.json: the numbers of curves, and what the checks say too."""


def without_pictures(html):
    """Nor the headings of sections that hold nothing else."""
    html = re.sub(r"<figure>.*?</figure>\n", "", html, flags=re.DOTALL).replace('<div class="beside"></div>', "")
    return re.sub(r"<h2>[^<]*</h2>\n\n(?=<h2>)", "", html)


def test_the_page_and_the_results_agree_on_every_number(page):
    """The page can be written anew from results.json alone, and each number there that changes, changes the page."""
    found, html = page.results, without_pictures(page.html)
    assert render(found, {}) == html
    shown = [path for path in leaves(found) if path[0] not in ONLY_IN_PICTURES]
    assert len(shown) > 80
    unseen = [path for path in shown if render(changed(found, path), {}) == html]
    # checks are written as "shown" beside the value; the limits of populations and u are there for programs
    assert {path[0] for path in unseen} <= {"checks", "basins", "extremes"}
    for path in unseen:
        assert path[-1] == "u" or "value" in path or "interval" in path or "standard_error" in path, path


def test_every_number_of_a_picture_is_in_the_results(page):
    """Under "pictures", but for those that the results have elsewhere."""
    assert set(page.results["pictures"]) == {"ramachandran", "profiles", "energies", "weights", "training"}
    assert set(page.results["pictures"]["profiles"]["reference"]) == set(page.results["profiles"]) == {"phi", "psi"}
    assert page.results["running"]["n"][-1] == page.results["n"]
    assert sum(page.results["pictures"]["weights"]["draws"]) == page.results["n"]


def test_trainings_of_other_seeds_stand_beside_each_other(samples, tmp_path):
    generator = torch.Generator().manual_seed(1)
    others = []
    for seed in (12, None):
        positions = torch.randn(1500, 5, 3, generator=generator)
        others.append(
            replace(
                samples[:1500], seed=seed, x=positions.flatten(1), cartesian=positions, log_q=torch.zeros(1500).double()
            )
        )
    found = write_report(samples, tmp_path / "x.html", others=others)
    page = Page((tmp_path / "x.html").read_text(encoding="utf-8"))
    own, first, _ = found["seeds"]
    assert [one["seed"] for one in found["seeds"]] == [11, 12, None]
    assert own["estimates"]["log_partition"] == found["estimates"]["log_partition"]
    assert first["ess"] == pytest.approx(float(effective_sample_size(others[0].log_w)))
    assert "this run" in page.text
    for one in found["seeds"]:
        assert f"{one['ess']:.0f} of {one['n']:,}, {100 * one['ess_fraction']:.1f} %" in page.text
        entry = one["estimates"]["log_partition"]
        assert plus_minus(entry["value"], entry["standard_error"]) in page.text
    html = without_pictures(page.html)
    for path in (("seeds", 1, "ess"), ("seeds", 2, "n"), ("seeds", 1, "estimates", "log_partition", "value")):
        assert render(changed(found, path), {}) != html
    assert render(found, {}) == html
    assert "Trainings from other seeds" not in Page(render(found | {"seeds": []}, {})).text


def test_estimates_are_written_as_everywhere_else(samples, tmp_path):
    estimate = Estimate(-3.3801, 0.0123, (-3.404, -3.356), 900.0, 1000, 0.1)
    write_report(samples, tmp_path / "x.html", estimates={"mine": (estimate, "nm")})
    text = Page((tmp_path / "x.html").read_text()).text
    assert f"{estimate} nm" in text
    assert "-3.404 to -3.356" in text


def test_how_to_make_it_again_is_said(page, samples):
    assert "\n".join(COMMANDS) in page.text
    assert page.results["made"]["commands"] == COMMANDS
    assert "Science 365" in page.text
    made = page.results["made"] | {"commands": []}
    assert "generator.sample(2000, seed=11)" in Page(render(page.results | {"made": made}, {})).text


def test_the_draws_to_look_at_are_listed_as_text(page):
    found = page.results["extremes"]
    assert len(page.all("details")) == len(found) > 2
    for one in found:
        assert one["pdb"] in page.text
        assert f"Draw {one['index']} as PDB" in page.text


def test_there_are_rules_for_paper(page):
    assert "@media print" in page.html
    assert "break-inside: avoid" in page.html
