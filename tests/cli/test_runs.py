"""Run folders on the command line: refused commands change nothing, interrupted ones go on, draws are topped up."""

import hashlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import openmm
import pytest
import torch

import boltzgen as bg
from boltzgen import Samples
from boltzgen.autosave import Autosave
from boltzgen.checkpoint import load_checkpoint
from boltzgen.cli.main import main
from boltzgen.files import exclusive
from boltzgen.molecule import find
from boltzgen.training import History

pytestmark = pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert main(["train", "double_well", "--out", str(folder), "--minutes", "0.02"]) == 0
    return folder


def test_a_refused_command_leaves_the_run_folder_as_it_was(capsys, trained):
    before = {p.name: p.read_bytes() for p in trained.iterdir() if p.is_file()}
    code, _, err = run(capsys, "train", "mueller_brown", "--out", trained, "--minutes", 0.02)
    assert code == 3
    assert "must belong to this training" in err
    assert {p.name: p.read_bytes() for p in trained.iterdir() if p.is_file()} == before
    assert run(capsys, "sample", trained, "-n", 200, "--out", trained / "after.npz")[0] == 0


def test_a_device_that_is_not_there_is_refused_and_one_that_is_remembered(capsys, trained, tmp_path):
    for command in (["train", "double_well", "--out", tmp_path / "run"], ["sample", trained], ["demo"]):
        code, _, err = run(capsys, *command, "--device", "cuda:99")
        assert (code, "device must be one of auto, cpu" in err) == (3, True)
    assert run(capsys, "sample", trained, "-n", 100, "--device", "auto", "--out", tmp_path / "auto.npz")[0] == 0
    assert json.loads((trained / "run.json").read_text())["settings"]["device"] == "cpu"


def test_a_run_folder_named_as_its_system_goes_on(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(capsys, "train", "double_well", "--out", "double_well", "--minutes", 0.01)[0] == 0
    assert run(capsys, "resume", "double_well")[0] == 0


def test_draws_have_the_seed_of_the_training(capsys, tmp_path):
    assert run(capsys, "train", "double_well", "--out", tmp_path, "--minutes", 0.01, "--seed", 7)[0] == 0
    assert run(capsys, "sample", tmp_path, "-n", 50)[0] == 0
    assert Samples.load(tmp_path / "samples.npz").seed == 7


def test_the_run_folder_says_where_it_comes_from(trained):
    record = json.loads((trained / "run.json").read_text())
    assert record["system"] == "double_well"
    assert record["settings"]["minutes"] == 0.02
    (start,) = record["starts"][:1]
    assert start["versions"]["torch"] == torch.__version__
    file = find("double_well").folder / "system.toml"
    assert record["sha256"] == {str(file.absolute()): hashlib.sha256(file.read_bytes()).hexdigest()}
    assert record["resolved"] == {"forcefield": None, "temperature": 1.0, "device": "cpu"}
    assert record["fingerprint"] == {
        "molecule": None, "generator": bg.BoltzmannGenerator.load(trained).fingerprint
    }  # fmt: skip


def test_what_was_chosen_for_a_training_and_the_hashes_of_its_files_are_remembered(capsys, tmp_path, monkeypatch):
    """A PDB file without a force field, a temperature or a device."""
    monkeypatch.setattr(bg.BoltzmannGenerator, "train", lambda self, about, **_: told.append(about) or History([1.0]))
    told, pdb, frames = [], tmp_path / "mine.pdb", tmp_path / "frames.npz"
    shutil.copy(find("alanine_dipeptide").structure, pdb)
    bg.BoltzmannGenerator.load("alanine_dipeptide").sample(200, seed=1).save(frames)
    train = ["train", pdb, "--data", frames, "--device", "auto", "--out", tmp_path / "run"]
    assert run(capsys, *train)[0] == 0
    (about,) = told
    assert about["resolved"]["forcefield"] == ["amber14-all.xml", "implicit/obc2.xml"]
    assert about["resolved"]["temperature"] == 300.0
    assert about["resolved"]["device"] == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert about["settings"]["device"] == "auto"  # as told: another machine may go on
    assert {Path(file).name for file in about["sha256"]} == {"mine.pdb", "frames.npz", "amber14-all.xml", "obc2.xml"}
    assert about["sha256"][str(pdb)] == hashlib.sha256(pdb.read_bytes()).hexdigest()
    pdb.write_bytes(pdb.read_bytes() + b"REMARK\n")
    assert run(capsys, *train)[0] == 0
    assert told[1]["sha256"][str(pdb)] != about["sha256"][str(pdb)]
    assert told[1]["fingerprint"] == about["fingerprint"]


def test_resume_goes_on_as_told_and_knows_its_own_folders(capsys, trained, tmp_path):
    code, out, err = run(capsys, "resume", trained, "--json")
    assert code == 0, err
    assert json.loads(out)["run"] == str(trained)
    assert f"it goes on with: boltzgen resume {trained}" in err
    assert run(capsys, "resume", tmp_path)[0] == 3
    (tmp_path / "run.json").write_text("{")
    code, _, err = run(capsys, "resume", tmp_path)
    assert (code, len(err.splitlines())) == (3, 1)
    assert "run.json must be the record of a training; got one that is damaged" in err


def under_way(command, folder, starts):
    """The process of a command, as soon as its training has begun for the so-manieth time in the folder "run"."""
    child = subprocess.Popen(
        [sys.executable, "-m", *shlex.split(command)], cwd=folder, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    record = folder / "run" / "run.json"
    while child.poll() is None and not (record.exists() and len(json.loads(record.read_text())["starts"]) == starts):
        time.sleep(0.05)
    assert child.poll() is None, child.stderr.read()
    return child


def ended(child, number, path):
    """The exit code of a training after a signal, and the command that goes on; its checkpoint must be newer."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    time.sleep(0.2)
    child.send_signal(number)
    while child.poll() is None and not (path.exists() and path.stat().st_mtime_ns > before):
        time.sleep(0.05)
    if number == signal.SIGUSR1:
        assert child.poll() is None, "it only saves"
        child.kill()
    _, err = child.communicate(timeout=120)
    return child.returncode, re.findall("go(?:es)? on with: (.*)", err)[-1]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, -signal.SIGKILL)]
)
def test_a_training_that_is_terminated_says_how_to_go_on_and_does(number, code, capsys, tmp_path):
    """SIGUSR1 saves and goes on; what is killed after that goes on from there, by the command said at the start."""
    checkpoint = tmp_path / "run" / "training.pt"
    child = under_way("boltzgen train double_well --minutes 5 --out run", tmp_path, 1)
    if number == signal.SIGTERM:
        found, _, err = run(capsys, "train", "double_well", "--out", tmp_path / "run", "--no-compile")
        assert (found, f"run must not be in use; got one where process {child.pid} on " in err) == (3, True)
    found, again = ended(child, number, checkpoint)
    assert (found, again) == (code, "boltzgen resume run")
    steps = len(load_checkpoint(checkpoint)["history"]["losses"])
    assert steps > 0
    assert ended(under_way(again, tmp_path, 2), number, checkpoint)[0] == code
    assert len(load_checkpoint(checkpoint)["history"]["losses"]) > steps


def test_a_training_killed_as_soon_as_it_says_how_to_go_on_does(tmp_path):
    boltzgen = [sys.executable, "-m", "boltzgen"]
    train = [*boltzgen, "train", "double_well", "--out", "run", "--minutes", "0.02"]
    with subprocess.Popen(train, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        said = next(line for line in child.stderr if "goes on with: " in line)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    again = shlex.split(said.partition("goes on with: ")[2])
    assert again == ["boltzgen", "resume", "run"]
    assert not (tmp_path / "run" / "generator.pt").exists()
    subprocess.run([*boltzgen, *again[1:]], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "run" / "generator.pt").exists()


def test_a_training_goes_on_where_it_is_told_to_run(capsys, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("samples*"))
    code, _, err = run(capsys, "resume", tmp_path / "run", "--device", "cuda:99")
    assert (code, "device must be one of auto, cpu" in err) == (3, True)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["settings"]["minutes"] = 0.04  # something is left to train
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert run(capsys, "resume", tmp_path / "run", "--device", "auto", "--threads", 1)[0] == 0
    told = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert (told["device"], told["minutes"]) == ("auto", 0.04)
    assert run(capsys, "resume", tmp_path / "run")[0] == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"] == told


def test_draws_of_a_training_that_was_interrupted_are_refused_with_the_way_to_end_it(capsys, tmp_path):
    generator = bg.BoltzmannGenerator(find("double_well"))
    generator.train(steps=20, run_dir=tmp_path, progress=False)
    (tmp_path / "generator.pt").unlink()
    code, _, err = run(capsys, "sample", tmp_path)
    assert (code, len(err.splitlines())) == (3, 1)
    assert "got one that was interrupted: go on with `boltzgen resume`" in err


def test_a_refused_training_does_not_say_how_it_goes_on(capsys, tmp_path):
    code, _, err = run(capsys, "train", "double_well", "--out", tmp_path / "run", "--data", tmp_path / "none.npz")
    assert (code, "resume" in err) == (3, False)


def test_a_training_stops_in_time_with_all_saved_and_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    limits = []

    class Soon(threading.Timer):
        """Does not wait for the hour, but for the training to be under way."""

        def run(self):
            limits.append(self.interval)
            while getattr(signal.getsignal(signal.SIGTERM), "__name__", "") != Autosave._ask.__name__:
                if self.finished.wait(0.02):
                    return
            self.function(*self.args)

    run_folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Timer", Soon)
        code, out, err = run(capsys, "train", "double_well", "--minutes", 5, "--out", run_folder, "--max-time", 235)
    assert (code, out, limits) == (143, "", [235 * 60.0])
    assert err.splitlines()[-1] == f"interrupted; go on with: boltzgen resume {run_folder}"
    assert len(load_checkpoint(run_folder / "training.pt")["history"]["losses"]) > 0
    before = threading.active_count()
    assert run(capsys, "train", "double_well", "--out", tmp_path / "b", "--minutes", 0.01, "--max-time", 9)[0] == 0
    assert threading.active_count() == before  # the clock is stopped


def test_init_writes_what_train_takes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "init", "double_well")
    assert (code, "train --config double_well.toml" in err) == (0, True)
    assert run(capsys, "init", "double_well")[0] == 3
    train = ["train", "--config", "double_well.toml", "--out", "run", "--minutes", 0.01, "--seed", 4]
    assert run(capsys, *train)[0] == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert (settings["system"], settings["seed"], settings["minutes"]) == ("double_well", 4, 0.01)
    (tmp_path / "double_well.toml").write_text('system = "double_well"\nminuts = 3\n')
    code, _, err = run(capsys, *train)
    assert (code, err) == (2, err.splitlines()[0] + "\n")
    assert "did you mean 'minutes'?" in err


def test_a_force_field_for_what_brings_its_own_is_refused(capsys, tmp_path):
    for command in (["train", "alanine_dipeptide", "--out", tmp_path / "run"], ["check", "alanine_dipeptide"]):
        code, _, err = run(capsys, *command, "--forcefield", "foo.xml")
        assert code == 2
        assert "--forcefield must come with a PDB file" in err
    assert not (tmp_path / "run").exists()


def test_sample_tops_up_to_the_same_draws_and_overwrites_nothing(capsys, trained, tmp_path):
    sample = ["sample", trained, "--out", tmp_path / "a.npz", "-n"]
    assert run(capsys, *sample, 1500)[0] == 0
    code, _, err = run(capsys, *sample, 4000)
    assert (code, "holds 1500 draws already" in err) == (0, True)
    assert f"it goes on with: boltzgen sample {trained} --out {tmp_path}/a.npz -n 4000\n" in err
    assert run(capsys, "sample", trained, "--out", tmp_path / "b.npz", "-n", 4000)[0] == 0
    a, b = (Samples.load(tmp_path / name) for name in ("a.npz", "b.npz"))
    assert a.log_w.equal(b.log_w)
    content = (tmp_path / "a.npz").read_bytes()
    code, _, err = run(capsys, *sample, 5000, "--seed", 9)
    assert (code, "must be draws of this generator with seed 9" in err) == (3, True)
    assert (tmp_path / "a.npz").read_bytes() == content
    code, _, err = run(capsys, *sample, 100, "--seed", 9, "--overwrite")
    assert (code, "-n 100 --seed 9\n" in err) == (0, True), "to go on is not to overwrite"
    assert len(Samples.load(tmp_path / "a.npz")) == 100


def test_a_file_of_draws_is_of_one_sample_at_a_time_and_parts_are_drawn_side_by_side(capsys, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("samples*"))
    sample = ["sample", tmp_path / "run", "-n", 2000]
    with exclusive(tmp_path / "run", file="samples.npz"):
        code, _, err = run(capsys, *sample)
        assert (code, len(err.splitlines())) == (3, 1)
        assert f"{tmp_path}/run/samples.npz must not be in use; got one where process " in err
        assert not (tmp_path / "run" / "samples.npz").exists()
        assert run(capsys, *sample, "--shard", "0/2")[0] == 0
        assert run(capsys, *sample, "--out", tmp_path / "other.npz")[0] == 0
    assert run(capsys, *sample)[0] == 0


def test_a_place_for_the_draws_is_looked_at_before_drawing(capsys, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("boltzgen.sampling.extension.extend", None)
    for out, says in ((tmp_path, "must have a name; got the folder"), (trained / "run.json" / "a.npz", "no folder")):
        code, _, err = run(capsys, "sample", trained, "--out", out)
        assert code == 3
        assert says in err


def test_another_kind_of_checkpoint_is_named(capsys, trained):
    code, _, err = run(capsys, "sample", trained / "training.pt")
    assert (code, len(err.splitlines())) == (3, 1)
    assert "must hold the state of a generator; got that of a training" in err


def test_a_report_replaces_no_file_that_is_no_page(capsys, trained, tmp_path):
    structure = tmp_path / "mine.pdb"
    structure.write_text("ATOM")
    code, _, err = run(capsys, "report", trained, "--out", structure)
    assert (code, f"--out must name a page, .html; got {structure}" in err) == (3, True)
    assert structure.read_text() == "ATOM"


def test_report_tells_of_draws_and_training(capsys, trained):
    assert run(capsys, "sample", trained, "-n", 2000, "--seed", 1)[0] == 0
    code, out, err = run(capsys, "report", trained, "--json")
    assert code == 0
    results, page = json.loads(out), (trained / "report.html").read_text()
    written = json.loads((trained / "results.json").read_text())
    assert written.pop("pictures")
    assert results == written
    assert results["provenance"]["system"] == "double_well"
    assert results["evaluations"]["gradient"] > 0
    assert f"torch {torch.__version__}" in page
    assert "Course of the training" in page
    assert f"written: {trained}/report.html" in err
    code, out, _ = run(capsys, "report", trained / "samples.npz", "--out", trained / "plain.html", "--json")
    assert (code, "provenance" in json.loads(out)) == (0, False)


def test_the_report_of_a_molecule_says_which_force_went_where_and_why(capsys, tmp_path):
    butane = find("butane").molecule()
    system, restraint = openmm.XmlSerializer.clone(butane.system), openmm.CustomCVForce("100*d^2")
    restraint.addCollectiveVariable("d", openmm.RMSDForce(butane.positions))
    system.addForce(restraint)
    generator = bg.BoltzmannGenerator(bg.Molecule.from_openmm(system, butane.topology, butane.positions))
    generator.save(tmp_path / "generator.pt")
    generator.sample(1000, seed=1).save(tmp_path / "samples.npz")
    code, out, _ = run(capsys, "report", tmp_path, "--json")
    assert code == 0
    forces = json.loads(out)["made"]["forces"]
    assert "NonbondedForce: torch, NonbondedPairs" in forces
    assert forces[-1] == "CustomCVForce: OpenMM, Reference platform, since this kind of force is not compiled"
    assert "force: CustomCVForce" in (tmp_path / "report.html").read_text()


def test_draws_from_before_a_further_training_are_reported_without_it(capsys, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    assert run(capsys, "sample", tmp_path / "run", "-n", 2000, "--overwrite")[0] == 0
    generator = bg.BoltzmannGenerator.load(tmp_path / "run")
    generator.train(steps=50, progress=False)
    generator.save(tmp_path / "run" / "generator.pt")
    code, out, err = run(capsys, "report", tmp_path / "run", "--json")
    assert (code, "was trained further since these draws" in err) == (0, True)
    assert (json.loads(out)["evaluations"]["energy"], json.loads(out)["training"]) == (None, None)


def test_a_red_report_is_code_5_under_strict_and_one_without_draws_is_refused(capsys, trained, tmp_path):
    assert run(capsys, "sample", trained, "-n", 200, "--out", tmp_path / "all.npz")[0] == 0
    Samples.load(tmp_path / "all.npz")[:20].save(tmp_path / "samples.npz")  # too few to judge by
    assert run(capsys, "report", tmp_path, "--strict")[0] == 5
    assert run(capsys, "report", tmp_path)[0] == 0
    (tmp_path / "samples.npz").unlink()
    code, _, err = run(capsys, "report", tmp_path)
    assert (code, "must hold draws; got none: boltzgen sample" in err) == (3, True)


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory):
    """The run folder of a generator that knows the left one of two wells, and reference draws of it and of both."""
    folder = tmp_path_factory.mktemp("collapsed")
    generator = bg.BoltzmannGenerator(find("double_well"))
    known = generator.target.sample(4000, seed=1).float()
    left = known[known[:, 0] < 0]
    bg.train(generator.flow, lambda q: bg.forward_kl(q, left), steps=300, progress=False)
    target, rate = generator.target, 2e-4
    bg.train(generator.flow, lambda q: bg.reverse_kl(q, target, 256), steps=300, learning_rate=rate, progress=False)
    generator.save(folder / "generator.pt")
    generator.sample(4000, seed=1).save(folder / "samples.npz")
    for name, x in (("both", known), ("left", left)):
        u = generator.target.energy(x).detach()
        Samples(x, -u, u, system="DoubleWell", independent=False).save(folder / f"{name}.npz")
    return folder


def test_a_reference_the_flow_does_not_know_is_red_and_one_that_it_knows_is_not(capsys, collapsed):
    """A flow that holds one of two wells, whose weights are good."""
    for reference, status in (("both", 5), ("left", 0)):
        code, out, _ = run(
            capsys, "report", collapsed, "--reference", collapsed / f"{reference}.npz", "--strict", "--json"
        )
        results = json.loads(out)
        coverage = next(check for check in results["checks"] if check["name"] == "coverage")
        assert (code, coverage["status"]) == (status, "red" if status else "green")
        assert results["verdict"] == ("red" if status else "green")


def test_a_run_folder_stands_for_the_draws_in_it(capsys, collapsed, tmp_path):
    code, by_folder, _ = run(capsys, "estimate", collapsed, "--json")
    assert (code, by_folder) == (0, run(capsys, "estimate", collapsed / "samples.npz", "--json")[1])
    code, _, err = run(capsys, "estimate", tmp_path)
    assert (code, len(err.splitlines()), f"{tmp_path}/samples.npz" in err) == (3, 1, True)


def test_a_reference_cannot_be_weighed_without_the_generator_that_drew(capsys, collapsed, tmp_path):
    draws, reference = collapsed / "samples.npz", collapsed / "both.npz"
    page = tmp_path / "page.html"
    code, out, err = run(capsys, "report", draws, "--reference", reference, "--out", page, "--json")
    assert (code, "coverage is not tested: only the run folder" in err) == (0, True)
    assert json.loads(out)["verdict"] == "amber"
    bg.BoltzmannGenerator(find("double_well"), seed=1).save(tmp_path / "generator.pt")
    Samples.load(draws).save(tmp_path / "samples.npz")
    code, out, err = run(capsys, "report", tmp_path, "--reference", reference, "--json")
    assert (code, "was trained further since these draws" in err) == (0, True)
    assert json.loads(out)["verdict"] == "amber"


def test_draws_of_the_same_generator_are_no_other_training(capsys, collapsed, tmp_path):
    """They agree with one another whatever both lost."""
    assert run(capsys, "sample", collapsed, "-n", 2000, "--seed", 7, "--out", tmp_path / "again.npz")[0] == 0
    code, _, err = run(capsys, "report", collapsed, "--others", tmp_path / "again.npz")
    assert (code, len(err.splitlines())) == (3, 1)
    assert "again.npz, drawn from the same generator: train another" in err


def test_parts_of_a_draw_merge_into_it(capsys, trained, tmp_path):
    whole = tmp_path / "whole.npz"
    assert run(capsys, "sample", trained, "-n", 3000, "--out", whole)[0] == 0
    for part in (2, 0, 1):
        code, _, err = run(capsys, "sample", trained, "-n", 3000, "--shard", f"{part}/3")
        assert code == 0
        assert f"boltzgen merge {trained}/samples-*-of-3.npz" in err
    parts = sorted(trained.glob("samples-*-of-3.npz"), reverse=True)
    assert run(capsys, "merge", *parts, "--out", tmp_path / "merged.npz")[0] == 0
    assert (tmp_path / "merged.npz").read_bytes() == whole.read_bytes()
    code, _, err = run(capsys, "merge", parts[0], parts[2], "--out", tmp_path / "hole.npz")
    assert (code, "follow one another" in err) == (3, True)


def test_a_part_under_another_name_is_named_in_what_comes_next(capsys, trained, tmp_path):
    part = tmp_path / "mine.npz"
    code, _, err = run(capsys, "sample", trained, "-n", 3000, "--shard", "1/2", "--out", part)
    assert (code, f"next: boltzgen merge {part} THE_OTHER_PARTS --out {tmp_path}/samples.npz" in err) == (0, True)


@pytest.mark.parametrize("wrong", ["3/3", "-1/2", "1", "a/b", "0/0"])
def test_a_part_is_one_of_several(capsys, wrong):
    with pytest.raises(SystemExit) as stop:
        main(["sample", "run", f"--shard={wrong}"])
    assert stop.value.code == 2
    assert "I/N" in capsys.readouterr().err


@pytest.mark.timeout(240)
def test_two_processes_train_draw_and_fail_as_one(tmp_path):
    torchrun = [Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc-per-node", 2]

    def boltzgen(*arguments, launcher=(sys.executable,)):
        command = [*launcher, "-m", "boltzgen", *arguments]
        return subprocess.run([str(a) for a in command], capture_output=True, text=True, check=False, timeout=200)

    folder = tmp_path / "run"
    done = boltzgen("train", "double_well", "--out", folder, "--minutes", 0.02, launcher=torchrun)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained ") == 1
    assert done.stderr.count(f"goes on with: boltzgen resume {folder} --processes 2") == 1
    assert boltzgen("sample", folder, "-n", 3000, "--processes=2").returncode == 0
    one = tmp_path / "one.npz"
    assert boltzgen("sample", folder, "-n", 3000, "--out", one).returncode == 0
    assert (folder / "samples.npz").read_bytes() == one.read_bytes()
    wrong = boltzgen("train", "double_wall", "--out", tmp_path / "wrong", "--processes", 2)
    assert (wrong.returncode, wrong.stderr.count("boltzgen: ")) == (3, 1), wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_commands_that_do_not_share_work_refuse_company(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = run(capsys, "systems")
    assert (code, "start it without torchrun" in err) == (2, True)
    code, _, err = run(capsys, "train", "double_well", "--out", "never", "--processes", "2")
    assert (code, "drop one of them" in err) == (2, True)
