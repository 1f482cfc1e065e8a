"""The self-test of an installation passes here, and says what is wrong elsewhere."""

import importlib.metadata
import json
import os
import platform
import shutil

import pytest
import torch

from boltzgen.cli import installation
from boltzgen.cli.main import main
from boltzgen.coordinates import InternalCoordinates
from boltzgen.run_folder import PACKAGES


def test_everything_works_here(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "everything works"
    assert torch.__version__ in out
    assert "Reference" in out
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if line[0] != " " and " " in line)
    for name in ("pydantic", "tqdm", "filelock"):
        assert rows[name] == importlib.metadata.version(name)


def test_every_row_tells_what_is_here(capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {name: facts[name] for name in ("Python", *PACKAGES)} == {
        "Python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}
    }  # fmt: skip
    assert {"Reference", "CPU"} <= set(facts["OpenMM platforms"])
    assert facts["C++ compiler"] in (shutil.which("g++"), shutil.which("c++"), shutil.which("clang++"), "none")
    assert (facts["processors"], facts["torch threads"]) == (os.cpu_count(), torch.get_num_threads())
    assert facts["GPU"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
    assert os.path.isfile(os.path.join(facts["installed in"], "cli", "installation.py"))
    assert facts["problems"] == []
    assert main(["doctor"]) == 0
    rows = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{rows}" for name in facts if name != "problems")


@pytest.mark.parametrize(("owner", "code"), [("boltzgen", 4), ("boltzgen-flows", 0)])
def test_another_distribution_that_owns_the_name_is_shown(owner, code, capsys, tmp_path, monkeypatch):
    planted = tmp_path / f"{owner.replace('-', '_')}-9.9.dist-info"
    planted.mkdir()
    (planted / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {owner}\nVersion: 9.9\n")
    (planted / "top_level.txt").write_text("boltzgen\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["doctor"]) == code
    shown = "PROBLEM: the distribution 'boltzgen' installs a package named boltzgen too: uninstall it, or use another"
    assert (shown in capsys.readouterr().out) == (code == 4)


def test_problems_are_named_and_end_with_code_4(capsys, monkeypatch):
    owners = {"boltzgen": ["boltzgen", "boltzgen-flows"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    original = InternalCoordinates._inverse
    monkeypatch.setattr(InternalCoordinates, "_inverse", lambda self, x, context: original(self, 1.01 * x, context))
    assert main(["doctor", "--json"]) == 4
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert any("'boltzgen' installs a package named boltzgen too" in problem for problem in problems)
    assert any("coordinates and energies" in problem for problem in problems)
    monkeypatch.setattr(installation, "_clashes", list)
    monkeypatch.setattr(InternalCoordinates, "_inverse", None)
    assert main(["doctor"]) == 4
    assert "PROBLEM: the self-test ended with TypeError" in capsys.readouterr().out


def test_plugins_that_lack_a_library_are_told_briefly(capsys, monkeypatch):
    missing = "cannot open shared object file: No such file or directory"
    said = f"Error loading library /a/b/libOpenMMOpenCL.so: libOpenCL.so.1: {missing}"
    names, failures = ["Reference"], [said, "something else"]
    monkeypatch.setattr("boltzgen.energies.openmm_platforms.platforms", lambda: (names, failures))
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["plugins left out"] == ["libOpenMMOpenCL.so: libOpenCL.so.1 not found", "something else"]
