"""The examples run with --quick; those that check themselves against an exact answer fail loudly."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(path, tmp_path):
    result = subprocess.run(
        [sys.executable, str(path), "--quick"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    end = result.stdout.splitlines()[-6:]
    beside = any(re.search(r"[-\d.]+ ± [\d.e-]+.* (exact|reference) -?[\d.]+", line) for line in end)
    assert beside or list(tmp_path.rglob("*.png")), "a number against a reference, or a figure"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) <= 120
