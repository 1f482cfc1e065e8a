"""The command line: the road from train to estimate on a toy, JSON, exit codes, one-sentence errors."""

import errno
import json
import math
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from boltzgen import BoltzmannGenerator, Molecule, Samples
from boltzgen.cli.main import _parser, main
from boltzgen.cli.printing import number
from boltzgen.coordinates import InternalCoordinates
from boltzgen.energies.toys import DoubleWell
from boltzgen.molecule import find
from boltzgen.reporting import results
from boltzgen.training import History

KEYS = {
    "system",
    "temperature",
    "n",
    "ess",
    "ess_fraction",
    "pareto_k",
    "verdict",
    "estimates",
    "evaluations",
    "seconds",
}


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_systems_are_listed(capsys):
    code, out, _ = run(capsys, "systems")
    assert code == 0
    assert "alanine_dipeptide" in out
    assert "double_well" in out
    _, out, _ = run(capsys, "systems", "--json")
    assert {"name", "title", "temperature"} <= set(json.loads(out)[0])


@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_train_sample_estimate_of_a_toy(capsys, tmp_path):
    folder = tmp_path / "my run"
    code, out, err = run(capsys, "train", "double_well", "--out", folder, "--minutes", 0.05, "--json")
    assert code == 0
    assert json.loads(out)["evaluations"]["gradient"] > 0
    assert "next: boltzgen sample" in err
    code, out, _ = run(capsys, "sample", folder, "-n", 3000, "--seed", 1, "--json")
    assert code == 0
    first = json.loads(out)
    assert first["n"] == 3000
    assert set(first) >= KEYS
    code, out, _ = run(capsys, "estimate", folder / "samples.npz", "--json", "--out", folder / "report")
    assert code == 0
    assert json.loads(out)["ess"] == pytest.approx(first["ess"], rel=1e-12)
    assert json.loads((folder / "report" / "results.json").read_text())["n"] == 3000
    code, _, _ = run(capsys, "sample", folder, "-n", 1000, "--seed", 1, "--out", tmp_path / "again.npz")
    assert code == 0


def test_ensembles_of_other_seeds_count_in_the_verdict(capsys, tmp_path):
    target = DoubleWell()
    x = target.sample(4000, seed=1)
    log_q = -target.energy(x) - target.log_partition()
    whole = Samples(x, log_q, target.energy(x))
    left = target.in_a(x)
    of_one_well = log_q[left] - math.log(float(left.double().mean()))
    lost = Samples(x[left], of_one_well, target.energy(x[left]))
    for name, samples in (("whole", whole), ("again", whole[:2000]), ("lost", lost)):
        samples.save(tmp_path / f"{name}.npz")
    estimate = ["estimate", tmp_path / "whole.npz", "--strict", "--json", "--others"]
    code, out, _ = run(capsys, *estimate, tmp_path / "again.npz")
    assert (code, json.loads(out)["verdict"]) == (0, "green")
    code, out, _ = run(capsys, *estimate, tmp_path / "lost.npz", "--out", tmp_path / "report")
    assert (code, json.loads(out)["verdict"]) == (5, "red")
    assert json.loads((tmp_path / "report" / "results.json").read_text())["verdict"] == "red"


@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_a_toy_keeps_its_parameters_and_its_temperature(capsys, tmp_path):
    system = tmp_path / "steep"
    system.mkdir()
    (system / "system.toml").write_text('title = "steep"\ntoy = "mueller_brown"\n[parameters]\nk = 0.15\n')
    code, _, _ = run(
        capsys, "train", system, "--temperature", 2.0, "--out", tmp_path / "run", "--minutes", 0.02, "--no-compile"
    )
    assert code == 0
    (system / "system.toml").unlink()
    code, out, err = run(capsys, "sample", tmp_path / "run", "-n", 200, "--json")
    assert code == 0, err
    assert json.loads(out)["temperature"] == 2.0


@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_a_torsion_is_estimated_beside_the_rest(capsys, tmp_path):
    generator = BoltzmannGenerator(Molecule.load("alanine_dipeptide"))
    generator.save(tmp_path / "generator.pt")
    code, _, _ = run(capsys, "sample", tmp_path / "generator.pt", "-n", 500, "--seed", 1)
    assert code == 0
    code, out, _ = run(capsys, "estimate", tmp_path / "samples.npz", "--torsion", "psi", "--json")
    assert code == 0
    names = set(json.loads(out)["estimates"])
    assert {"mean_potential_energy", "log_partition", "free_energy_difference_psi"} <= names


def test_check_tells_whether_a_molecule_can_be_sampled(capsys, monkeypatch):
    monkeypatch.setattr("boltzgen.reporting.checkup._STEPS", 20)  # of the dynamics
    code, out, err = run(capsys, "check", "alanine_dipeptide")
    assert code == 0
    assert "green  energy against OpenMM" in out
    assert "next: boltzgen train alanine_dipeptide" in err
    pdb, field = find("alanine_dipeptide").structure, ["--forcefield", "amber96.xml"]
    code, _, err = run(capsys, "check", pdb, *field)
    assert code == 0
    assert f"next: boltzgen train {pdb} --forcefield amber96.xml --out run" in err  # what was checked is trained
    code, out, err = run(capsys, "check", "alanine_dipeptide", "--hold", "omega_1", "--device", "auto")
    assert code == 0
    assert len([line for line in out.splitlines() if "circular" in line]) == 6  # without the two held ones
    assert "next: boltzgen train alanine_dipeptide --hold omega_1 --out run" in err
    code, _, err = run(capsys, "check", "double_well")
    assert code == 3
    assert "must be a molecule to be checked" in err
    original = InternalCoordinates._log_det
    monkeypatch.setattr(InternalCoordinates, "_log_det", lambda *args: original(*args) + 0.01)
    monkeypatch.setattr("boltzgen.reporting.checkup._training_time", lambda flow, target: math.inf)
    code, out, err = run(capsys, "check", "alanine_dipeptide", "--json")
    assert code == 4
    found = json.loads(out)
    assert found["status"] == "red"
    assert found["minutes"] is None  # JSON knows no infinity
    assert "got red for measure against the whole Jacobian: report it" in err


def test_an_untrained_generator_is_red_with_reasons_and_code_5_under_strict(capsys, tmp_path):
    BoltzmannGenerator(Molecule.load("alanine_dipeptide")).save(tmp_path / "generator.pt")
    sample = ["sample", tmp_path / "generator.pt", "-n", 300, "--out", tmp_path / "few.npz"]
    code, out, err = run(capsys, *sample)
    assert code == 0
    assert "verdict red" in out
    assert "→ train the flow longer" in out
    assert "Warning" not in err
    assert run(capsys, *sample, "--strict")[0] == 5
    assert run(capsys, "estimate", tmp_path / "few.npz", "--strict")[0] == 5
    code, out, err = run(capsys, "estimate", tmp_path / "few.npz", "--torsion", "chi1")
    assert (code, out) == (3, "")
    assert err.startswith("boltzgen: a torsion must be one of ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--no-compile"], "eager: asked for"), ([], "eager: the run is too short for compilation to pay")],
)
@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_training_says_in_one_line_why_it_does_not_compile(capsys, tmp_path, options, says):
    code, _, err = run(capsys, "train", "double_well", "--out", tmp_path, "--minutes", 0.02, *options)
    assert code == 0
    assert says in err


def test_an_energy_that_cannot_be_evaluated_ends_with_advice_and_code_4(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    train = ["train", "double_well", "--minutes"]
    assert run(capsys, *train, 0.02, "--out", folder)[0] == 0
    kept = {p.name: p.read_bytes() for p in folder.glob("*.pt*")}
    monkeypatch.setattr("boltzgen.energies.toys.DoubleWell._energy", lambda _, x: torch.full_like(x[:, 0], torch.nan))
    code, out, err = run(capsys, *train, 10, "--out", tmp_path / "other")
    assert (code, out) == (4, "")
    assert "100 steps in a row" in err
    assert "lower the learning rate" in err
    run(capsys, *train, 10, "--out", folder)
    assert {p.name: p.read_bytes() for p in folder.glob("*.pt*")} == kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "alanine_dipeptid", "--out", "x"], "alanine_dipeptide"),
        (["train", "nothing.pdb", "--out", "x"], "nothing.pdb"),
        (["sample", "nothing"], "nothing"),
        (["estimate", "nothing.npz"], "nothing.npz"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_code_3(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 3
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: COMMAND"),
        (["fly"], "see `boltzgen COMMAND --help`"),
        (["sample", "run", "--n", "5"], "unrecognized arguments: --n 5: see `boltzgen COMMAND --help`"),
        (["sample", "run", "-n", "five"], "see `boltzgen sample --help`"),
        (["demo", "--minutes", "-1"], "must be a positive number below 2^63; got -1"),
        (["demo", "--minutes", "ten"], "must be a positive number below 2^63; got 'ten'"),
        (["sample", "x", "-n", "0"], "must be a positive integer below 2^63; got 0"),
        (["sample", "x", "--threads", "99999999"], "must be an integer from 1 to 1024; got 99999999"),
        (["demo", "--seed", "-1"], "must be an integer from 0 to 2^63 - 1; got -1"),
        (["demo", "--seed", str(2**63)], "must be an integer from 0 to 2^63 - 1; got 9223372036854775808"),
    ],
)
def test_wrong_usage_is_code_2(capsys, arguments, says):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


def test_a_place_that_cannot_be_written_to_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "train", "double_well", "--out", tmp_path / "file" / "run", "--minutes", 0.01)
    assert code == 3
    assert "must be a folder that can be written to (Not a directory): choose another one" in err.splitlines()[-1]


def test_python_m_boltzgen_and_help_which_waits_for_no_library():
    command = [sys.executable, "-X", "importtime", "-m", "boltzgen", "train", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Example: boltzgen train" in result.stdout
    assert not re.search(r"\b(torch|openmm|mdtraj|numpy|matplotlib|pydantic)\b", result.stderr)


def test_the_help_of_every_command_is_a_page_with_an_example(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    parser = _parser()
    (commands,) = (action for action in parser._actions if action.choices)
    assert {"demo", "check", "simulate", "train", "sample", "report", "doctor"} <= set(commands.choices)
    for name, command in commands.choices.items():
        words = command.format_help()
        example = re.search(rf"Example: (boltzgen {name}( .*)?)$", words.strip())
        assert example, name
        assert parser.parse_args(shlex.split(example[1])[1:]).run
        assert len(words.splitlines()) <= 50, name


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_the_demo_writes_what_it_says(capsys, tmp_path):
    code, out, err = run(capsys, "demo", "--minutes", 0.5, "-n", 5000, "--out", tmp_path, "--json", "--seed", 3)
    assert code == 0
    shown = json.loads(out)
    assert set(shown) >= KEYS
    kept = json.loads((tmp_path / "results.json").read_text())
    assert {"ramachandran", "energies", "weights", "training"} <= set(kept.pop("pictures"))
    assert shown == kept
    assert f"it goes on with: boltzgen demo --minutes 0.5 -n 5000 --out {tmp_path} --json --seed 3\n" in err
    assert {"mean_potential_energy", "log_partition", "free_energy_difference_phi"} <= set(shown["estimates"])
    own, bundled = shown["seeds"]
    assert (own["seed"], bundled["seed"], set(bundled["estimates"])) == (4, 5, set(shown["estimates"]))
    assert bundled["ess_fraction"] > 0.7
    assert shown["reference"]["frames"]["n"] == 5000
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (told["settings"]["minutes"], told["settings"]["seed"], told["settings"]["device"]) == (0.5, 3, "cpu")
    assert shown["provenance"]["sha256"] == told["sha256"] != {}
    for name in ("ramachandran.png", "weights.png", "report.html", "run/generator.pt"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_the_demo_shows_the_bundled_generator_beside_the_one_it_trains(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(BoltzmannGenerator, "train", lambda self, **_: History(losses=[1.0]))
    code, out, _ = run(capsys, "demo", "-n", 1024, "--out", tmp_path)
    assert code == 0
    line = out.splitlines()[-1]
    samples = BoltzmannGenerator.load("alanine_dipeptide").sample(1024, seed=3)
    found = results(samples)
    assert line.startswith(f"the generator that comes with boltzgen: effective {found['ess']:.0f} (")
    for name, entry in found["estimates"].items():
        assert f"{name} {number(entry)}" in line
    assert found["ess_fraction"] > 0.7


def test_an_estimate_that_is_not_to_be_believed_is_called_so_also_if_the_weights_are_good(capsys, tmp_path):
    """A well in which next to nothing was drawn, beside one that was drawn well."""
    generator = BoltzmannGenerator.load("alanine_dipeptide")
    generator.sample(1024, seed=1).save(tmp_path / "few.npz")
    code, out, _ = run(capsys, "estimate", tmp_path / "few.npz")
    assert (code, "verdict amber" in out) == (0, True)
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert "kT   unreliable" in rows["free_energy_difference_phi"]
    assert "too few draws in state b" in rows["unreliable:"]
    assert "unreliable" not in rows["mean_potential_energy"]


@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_no_estimate_of_rows_that_are_not_independent_is_reliable(capsys, tmp_path):
    samples = BoltzmannGenerator.load("alanine_dipeptide").sample(2048, seed=1)
    for independent in (True, False):
        replace(samples, independent=independent).save(tmp_path / "rows.npz")
        _, out, _ = run(capsys, "estimate", tmp_path / "rows.npz", "--torsion", "psi", "--json")
        found = json.loads(out)["estimates"]
        assert found["free_energy_difference_psi"]["reliable"] is independent
        assert found["mean_potential_energy"]["reliable"] is independent


def test_the_tail_that_is_printed_is_the_one_that_is_judged(capsys, tmp_path):
    """Weights all but equal, two in a hundred up to twice as high: the plain fit finds a heavy tail."""
    generator = torch.Generator().manual_seed(0)
    log_w = 0.01 * torch.randn(4096, generator=generator, dtype=torch.float64)
    log_w[:80] = math.log(2) * torch.rand(80, generator=generator, dtype=torch.float64)
    Samples(torch.zeros(4096, 1), torch.zeros(4096), -log_w).save(tmp_path / "flat.npz")
    code, out, _ = run(capsys, "estimate", tmp_path / "flat.npz", "--json")
    assert (code, json.loads(out)["pareto_k"] > 0.7) == (0, True)
    _, out, _ = run(capsys, "estimate", tmp_path / "flat.npz")
    assert float(re.search(r"Pareto k (\S+), verdict amber", out)[1]) < 0.7


def test_a_place_for_a_report_is_looked_at_before_the_work(capsys, tmp_path, monkeypatch):
    torch.save({}, tmp_path / "file")
    Samples(torch.zeros(30, 1), torch.zeros(30), torch.zeros(30)).save(tmp_path / "a.npz")
    monkeypatch.setattr("boltzgen.reporting.default_estimates", None)
    for command in (
        ["estimate", tmp_path / "a.npz", "--out", tmp_path / "file"],
        ["report", tmp_path / "a.npz", "--out", f"{tmp_path}/folder/"],
        ["report", tmp_path / "a.npz", "--figures", tmp_path / "file"],
    ):
        code, _, err = run(capsys, *command)
        assert (code, len(err.splitlines())) == (3, 1), err
        assert "a file to write must have a name" in err or "which is no folder: choose another place" in err
        assert "Errno" not in err


def test_what_the_system_refuses_is_said_without_its_number(capsys):
    code, _, err = run(capsys, "init", "double_well", "--out", "/proc/x.toml")
    assert (code, err.startswith("boltzgen: cannot write /proc/x.toml (No such file or directory")) == (3, True)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "got Too many open files: look at its disk, memory"),
        (OSError("no such library"), "got no such library: look at its disk, memory and limits"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "a.txt"),
            "a.txt cannot be used (No such file): check the path",
        ),
    ],
)
def test_whatever_the_system_refuses_ends_in_a_sentence_with_a_remedy(error, says, capsys, monkeypatch):
    def refused():
        raise error

    monkeypatch.setattr("boltzgen.molecule.systems.available", refused)
    code, _, err = run(capsys, "systems")
    assert (code, len(err.splitlines()), says in err) == (3, 1, True), err


def test_a_full_disk_ends_in_a_sentence_with_a_remedy(capsys, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    code, _, err = run(capsys, "init", "double_well", "--out", tmp_path / "a.toml")
    assert (code, len(err.splitlines())) == (3, 1)
    assert re.search(r"cannot write .*a\.toml \(No space left on device, \d+ MiB free\): free some space", err)


def test_a_red_check_ends_in_a_sentence_with_a_remedy(capsys, monkeypatch):
    monkeypatch.setattr("boltzgen.reporting.checkup._STEPS", 20)
    monkeypatch.setattr("boltzgen.reporting.checkup._STEP_SIZE", 0.1)  # out of the chart
    original = InternalCoordinates._log_det
    monkeypatch.setattr(InternalCoordinates, "_log_det", lambda *args: original(*args) + 0.01)
    code, out, err = run(capsys, "check", "butane")
    assert (code, len(err.splitlines())) == (4, 1), err
    assert err.startswith("boltzgen: butane must pass its checks; got red for measure against the whole Jacobian, hot ")
    remedies = "report it with what `boltzgen doctor` prints; minimise the structure, or accept that what lies outside"
    assert f": {remedies}" in err
    assert out.count("→ minimise the structure, or accept that") == 1
