"""README and docs tell the truth: their Python blocks run, and the commands they name exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import boltzgen as bg

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


CODE = [pytest.param(code, id=f"{page.name}-{k}") for page in PAGES for k, code in enumerate(blocks(page, "python"))]


@pytest.mark.parametrize("code", CODE)
@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_python_blocks_run(code, tmp_path, monkeypatch, capsys):
    """With a training of seconds: what is tested is that the code runs, not the quality of its numbers."""
    monkeypatch.chdir(tmp_path)
    code = re.sub(r"minutes=\d+", "steps=30", code)
    code = re.sub(r"steps=\d[\d_]*", "steps=30", code).replace("100_000", "2_000")
    exec(compile(code, "page", "exec"), {"bg": bg, "__name__": "page"})


def test_commands_named_in_the_pages_exist():
    listing = subprocess.run([sys.executable, "-m", "boltzgen", "--help"], capture_output=True, text=True, check=True)
    for page in PAGES:
        for name in re.findall(r"^boltzgen (\w+)", "\n".join(blocks(page, "sh")), flags=re.MULTILINE):
            assert re.search(rf"^\s+{name}\b", listing.stdout, flags=re.MULTILINE), f"{page.name} names {name}"


def test_pages_link_to_files_that_exist():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_readme_gives_the_recorded_effective_sample_sizes():
    rows = json.loads((ROOT / "benchmarks" / "results" / "alanine_dipeptide.json").read_text())["seeds"]
    first, second, third = (f"{100 * row['ess_fraction']:.1f}" for row in rows)
    assert f"{first}, {second} and {third} %" in (ROOT / "README.md").read_text()


def test_the_makefile_has_the_two_commands():
    text = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in text for target in ("demo", "test"))
    assert "make demo" in (ROOT / "README.md").read_text()


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 50


def test_every_promise_about_faults_names_a_test_that_exists():
    rows = re.findall(r"^\|.*\|$", (ROOT / "docs" / "faults.md").read_text(), flags=re.MULTILINE)
    promises = [row for row in rows if not re.match(r"\|(-|\s*what goes wrong)", row)]
    assert len(promises) > 50
    for row in promises:
        (module, name) = re.search(r"\| `([\w/]+\.py)::(test_\w+)` \|$", row).groups()
        assert f"\ndef {name}(" in (ROOT / "tests" / module).read_text(), row
