import base64
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch

from boltzgen.reporting import judge, write_report
from boltzgen.reweighting import Estimate
from boltzgen.sampling import Samples
from boltzgen.training import History
from boltzgen.training.history import Round

CANARY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{0}&amp;"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Every tag with its attributes, and the text; unbalanced tags are an error."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
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


@pytest.fixture
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
        topology={"atoms": [["C", "C", "X", "1", "A"]] * 5, "bonds": []},
        torsions={"phi": [0, 1, 2, 3], "psi": [1, 2, 3, 4]},
    )


@pytest.fixture
def page(samples, tmp_path):
    history = History(losses=[1.0], rounds=[Round(1200.0, 0.5, 300.0, 1000, 60.0)])
    evaluations = {"energy": 123456, "gradient": 7}
    write_report(samples, tmp_path / "x.html", evaluations=evaluations, seconds=61.2, history=history)
    return Page((tmp_path / "x.html").read_text(encoding="utf-8"))


def test_the_page_loads_and_runs_nothing(page):
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("a")
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert all(not re.match("https?:", value or "") for value in attributes.values())


def test_pictures_are_inside_and_described(page):
    pictures = page.all("img")
    assert len(pictures) == len(page.all("figcaption")) == 5
    for picture in pictures:
        head, data = picture["src"].split(",")
        assert head == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
        assert len(picture["alt"]) > 15


def test_the_page_says_what_the_results_say(page, samples, tmp_path):
    found = json.loads((tmp_path / "results.json").read_text())
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
