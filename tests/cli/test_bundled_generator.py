"""The trained generator that comes with the library: small, the one that was evaluated, and as good as its record."""

import dataclasses
import hashlib
import html
import json
import math

import pytest

import boltzgen as bg
from boltzgen.cli.main import main
from boltzgen.molecule import find
from boltzgen.reweighting import effective_sample_size
from boltzgen.units import kT

FOLDER = find("alanine_dipeptide").folder
RECORD = json.loads((FOLDER / "generator.json").read_text())
N = 4096


def test_it_is_small_and_the_one_that_was_evaluated():
    data = (FOLDER / "generator.pt").read_bytes()
    assert len(data) < 8e6
    assert RECORD["generator"] == {"file": "generator.pt", "sha256": hashlib.sha256(data).hexdigest()}
    text = (FOLDER.parent.parent / "CONTRIBUTING.md").read_text()
    assert RECORD["command"] in " ".join(text.split())
    assert (RECORD["system"], RECORD["n"], RECORD["seed"]) == ("alanine_dipeptide", 100_000, 1)
    history = bg.BoltzmannGenerator.load("alanine_dipeptide").history
    assert RECORD["evaluations"] == {"energy": history.energy + RECORD["n"], "gradient": history.gradient}
    assert RECORD["seconds"] == history.seconds


def test_it_is_as_good_as_its_record_says():
    samples = bg.BoltzmannGenerator.load("alanine_dipeptide").sample(N, seed=2)
    w = (samples.log_w - samples.log_w.max()).exp()
    share, spread = effective_sample_size(samples.log_w) / N, (w / w.mean()).square().std() / math.sqrt(N)
    assert share == pytest.approx(RECORD["ess_fraction"], abs=4 * float(spread))
    assert 4 * float(spread) < 0.15, "an untrained generator has next to none"
    mean = bg.expectation(samples.log_w, samples.potential * kT(300.0))
    known = RECORD["estimates"]["mean_potential_energy"]
    assert abs(mean.value - known["value"]) < 4 * math.hypot(mean.standard_error, known["standard_error"])


def test_the_report_of_its_draws_says_how_they_are_made_again(tmp_path, capsys):
    draws = tmp_path / "d.npz"
    assert main(["sample", "alanine_dipeptide", "-n", "2000", "--seed", "3", "--out", str(draws)]) == 0
    assert main(["report", str(draws)]) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / "results.json").read_text())
    again = [f"boltzgen sample alanine_dipeptide -n 2000 --seed 3 --out {draws}", f"boltzgen report {draws}"]
    assert found["made"]["commands"] == again
    assert found["evaluations"]["gradient"] == RECORD["evaluations"]["gradient"]
    assert all(command in html.unescape((tmp_path / "report.html").read_text()) for command in again)
    dataclasses.replace(bg.Samples.load(draws), seed=None).save(draws)
    assert main(["report", str(draws)]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["made"]["commands"] == []


def test_its_record_agrees_with_the_reference_of_the_system():
    reference = find("alanine_dipeptide").reference
    for name in ("mean_potential_energy", "free_energy_difference_phi"):
        entry, known = RECORD["estimates"][name], reference[name]
        assert entry["reliable"]
        error = math.hypot(entry["standard_error"], known["standard_error"])
        assert abs(entry["value"] - known["value"]) < 4 * error
