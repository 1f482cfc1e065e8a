"""The report as a browser shows it: on a wide window, on a narrow one, and on paper."""

import html
import re
import shutil
import subprocess

import pytest
import torch
from matplotlib.image import imread

from boltzgen.reporting import write_report
from boltzgen.training import History
from boltzgen.training.history import Round

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS, HEIGHT = (1400, 420), 3000
HARNESS = """<!doctype html><html><body style="margin: 0; display: flex; background: #fff">{frames}
<script>window.onload = () => document.title = [...document.querySelectorAll("iframe")].map(frame => {{
  const page = frame.contentDocument.documentElement;
  return page.scrollWidth + "/" + page.clientWidth;
}}).join(" ")</script></body></html>"""

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here"),
    pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning"),
]


def browser(folder, *options):
    """Runs Chromium without a window."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", *options,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module")
def draws():
    """φ and ψ of two trainings, in two wells."""
    generator = torch.Generator().manual_seed(0)
    wells = torch.tensor([-1.5, 1.0])
    return [
        (wells[torch.randint(2, (1500,), generator=generator)], 0.4 * torch.randn(2, 1500, generator=generator))
        for _ in range(2)
    ]


@pytest.fixture
def report(chain, draws, tmp_path):
    """A report with everything a report can hold."""
    one, other = (chain(centre + noise[0], centre - noise[1], 0.3 * noise[0], seed=k) for k, (centre, noise) in
                  enumerate(draws))  # fmt: skip
    history = History([3.0, 2.0, 1.0], [Round(1200.0, 0.4, 600.0, 1000, 60.0), Round(300.0, 0.8, 300.0, 1000, 90.0)])
    write_report(
        one,
        tmp_path / "report.html",
        others=[other],
        reference=other,
        history=history,
        evaluations={"energy": 10**7, "gradient": 10**6},
        commands=["boltzgen train " + "a_long_name_" * 20 + ".pdb --out run", "boltzgen sample run"],
        provenance={"sha256": {"/a/long/path/" + "folder/" * 20 + "structure.pdb": "0123456789abcdef" * 4}},
    )
    return tmp_path / "report.html"


def shown(report, folder):
    """The widths of what is shown and of the windows, wide and narrow, and a picture of both side by side."""
    page = html.escape(report.read_text(encoding="utf-8"), quote=True)
    frames = "".join(
        f'<iframe style="flex: none; border: 0; width: {width}px; height: {HEIGHT}px" srcdoc="{page}"></iframe>'
        for width in WIDTHS
    )
    harness = folder / "harness.html"
    harness.write_text(HARNESS.format(frames=frames), encoding="utf-8")
    dom = browser(folder, "--dump-dom", harness.as_uri())
    size = f"--window-size={sum(WIDTHS)},{HEIGHT}"
    browser(folder, size, f"--screenshot={folder / 'page.png'}", harness.as_uri())
    widths = re.search("<title>(.*?)</title>", dom)[1].split()
    return [tuple(map(int, pair.split("/"))) for pair in widths], imread(folder / "page.png")[..., :3]


def test_nothing_is_wider_than_the_window_and_no_part_of_it_is_blank(report, tmp_path):
    widths, picture = shown(report, tmp_path)
    assert widths == [(width, width) for width in WIDTHS]
    assert picture.shape[:2] == (HEIGHT, sum(WIDTHS))
    ink = picture.min(2) < 0.9
    for part in (ink[:, : WIDTHS[0]], ink[:, WIDTHS[0] :]):
        for k in range(0, HEIGHT, 500):
            assert 0.005 < part[k : k + 500].mean() < 0.7, k


def test_a_page_that_is_too_wide_is_seen_to_be(report, tmp_path):
    text = report.read_text(encoding="utf-8")
    report.write_text(text.replace("<h1>", '<h1 style="white-space: nowrap; width: 600px">'), encoding="utf-8")
    (wide, narrow), _ = shown(report, tmp_path)
    assert wide == (1400, 1400)
    assert narrow[0] > narrow[1] == 420


def test_it_prints(report, tmp_path):
    browser(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", report.as_uri())
    data = (tmp_path / "page.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(data) > 50_000
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 12
