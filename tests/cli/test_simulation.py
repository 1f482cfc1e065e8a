"""Replica exchange on the command line: what it writes, that it goes on to the same bits, and that its law is right."""

import json
import math
import multiprocessing
import os
import signal
import sys
from itertools import pairwise
from pathlib import Path

import mdtraj
import pytest
import torch

from boltzgen import Molecule, Samples, autosave
from boltzgen.cli import simulation
from boltzgen.cli.main import main

CONTEXT = multiprocessing.get_context("forkserver")  # pays for the imports once
CONTEXT.set_forkserver_preload(["boltzgen.cli.main", "boltzgen.molecule", "boltzgen.sampling", "pytest"])
SHORT = (("_EQUILIBRATION", 2), ("_STEPS", 4))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for name, value in SHORT:
        monkeypatch.setattr(simulation, name, value)


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


SIMULATE = ["simulate", "alanine_dipeptide", "--walkers", 3, "--hot", 350, "--json"]


def test_frames_are_written_and_a_simulation_goes_on_to_the_same_bits(capsys, tmp_path):
    code, out, err = run(capsys, *SIMULATE, "-n", 12, "--out", tmp_path / "a")
    assert code == 0, err
    assert json.loads(out)["n"] == 12
    again = f"boltzgen simulate alanine_dipeptide --walkers 3 --hot 350 --json -n 12 --out {tmp_path}/a"
    assert f"it goes on with: {again}\n" in err
    code, out, err = run(capsys, *SIMULATE, "-n", 30, "--out", tmp_path / "a")
    assert (code, "of 2 rounds of equilibration" in err, "10 of 10 rounds" in err) == (0, False, True)
    assert run(capsys, *SIMULATE, "-n", 30, "--out", tmp_path / "b")[0] == 0
    a, b = (Samples.load(tmp_path / name / "samples.npz") for name in "ab")
    assert a.positions().equal(b.positions())
    assert a.u.equal(b.u)
    assert len(a) == 30
    found = json.loads(out)
    assert len(found["acceptance"]) == len(found["swaps"]) + 1
    assert found["equilibration"] == 2
    code, _, err = run(capsys, *SIMULATE, "-n", 30, "--out", tmp_path / "a", "--seed", 2)
    assert code == 3
    assert "must belong to this simulation" in err


def life(arguments, number, write):
    """A simulation in a process of its own, which a signal reaches in the middle of its so-manieth write."""
    torch.set_num_threads(1)
    for name, value in SHORT:
        setattr(simulation, name, value)
    autosave._SECONDS = 0.0  # a checkpoint after every round
    replace, count = os.replace, iter(range(1, 1000))

    def disturbed(*paths):
        if next(count) == write:
            os.kill(os.getpid(), number)
        return replace(*paths)

    os.replace = disturbed
    sys.exit(main([str(a) for a in arguments]))


@pytest.mark.parametrize("write", [1, 4, 8])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)])
def test_a_simulation_that_is_killed_goes_on_to_the_same_bits(capsys, tmp_path, number, code, write):
    arguments = [*SIMULATE, "-n", 24, "--out", tmp_path / "a"]
    process = CONTEXT.Process(target=life, args=(arguments, number, write))
    process.start()
    process.join(120)
    assert process.exitcode == code
    assert not (tmp_path / "a" / "samples.npz").exists()
    assert run(capsys, *arguments)[0] == 0
    assert run(capsys, *SIMULATE, "-n", 24, "--out", tmp_path / "b")[0] == 0
    a, b = (Samples.load(tmp_path / name / "samples.npz") for name in "ab")
    assert len(a) == 24
    assert a.positions().equal(b.positions())
    assert a.u.equal(b.u)


def test_the_ensemble_has_equal_weights_the_energies_of_its_frames_and_no_log_z(capsys, tmp_path):
    assert run(capsys, *SIMULATE, "-n", 6, "--out", tmp_path)[0] == 0
    samples = Samples.load(tmp_path / "samples.npz")
    assert samples.log_w.eq(0).all()
    energy = Molecule.load("alanine_dipeptide").energy(300.0).energy(samples.positions().double())
    assert torch.allclose(energy, samples.u, atol=1e-3)
    frames = mdtraj.load(str(tmp_path / "frames.dcd"), top=str(tmp_path / "topology.pdb"))
    assert torch.allclose(torch.from_numpy(frames.xyz.copy()), samples.positions(), atol=1e-6)
    code, out, _ = run(capsys, "estimate", tmp_path / "samples.npz", "--json", "--strict")
    assert code == 5  # frames of a chain: their plain errors are too small
    assert "log_partition" not in json.loads(out)["estimates"]


def test_the_ladder_has_a_constant_ratio_and_ends_where_it_should():
    ladder = simulation._ladder(300.0, None, 22)
    assert (ladder[0], ladder[-1]) == (300.0, pytest.approx(1000.0))
    ratios = [b / a for a, b in pairwise(ladder)]
    assert max(ratios) == pytest.approx(min(ratios))
    assert math.log(ratios[0]) * math.sqrt(33) < 1 < math.log(ratios[0] * 1.1) * math.sqrt(33)
    assert simulation._ladder(300.0, 300.0, 22) == [300.0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["double_well"], "must be a molecule to be simulated"),
        (["alanine_dipeptide", "--hot", 200], "--hot must not be"),
    ],
)
def test_what_cannot_be_simulated_is_refused(capsys, tmp_path, arguments, says):
    code, _, err = run(capsys, "simulate", *arguments, "--out", tmp_path / "a")
    assert code == 3
    assert says in err
    assert not (tmp_path / "a").exists()


def test_the_folder_of_a_simulation_says_where_it_comes_from_as_that_of_a_training_does(capsys, tmp_path):
    for n in (6, 12):
        assert run(capsys, *SIMULATE, "-n", n, "--out", tmp_path)[0] == 0
    told = json.loads((tmp_path / "run.json").read_text())
    assert (told["kind"], told["system"], len(told["starts"])) == ("simulation", "alanine_dipeptide", 2)
    assert {name: told["settings"][name] for name in ("system", "n", "hot", "walkers", "seed", "temperature")} == {
        "system": "alanine_dipeptide", "n": 12, "hot": 350, "walkers": 3, "seed": 0, "temperature": None
    }  # fmt: skip
    resolved = told["resolved"]
    assert (resolved["temperature"], resolved["device"], resolved["temperatures"][0]) == (300.0, "cpu", 300.0)
    assert resolved["forcefield"] == ["amber96.xml", "implicit/obc1.xml"]
    molecule = Molecule.load("alanine_dipeptide")
    assert told["fingerprint"] == {"molecule": molecule.fingerprint}
    assert {"structure.pdb", "system.toml", "obc1.xml"} <= {Path(file).name for file in told["sha256"]}
    assert told["starts"][0]["versions"]["torch"] == torch.__version__
    before = (tmp_path / "run.json").read_bytes()
    assert run(capsys, *SIMULATE, "-n", 12, "--out", tmp_path, "--seed", 2)[0] == 3
    assert (tmp_path / "run.json").read_bytes() == before
    code, out, _ = run(capsys, "report", tmp_path, "--json")
    assert (code, json.loads(out)["provenance"]["fingerprint"]) == (0, told["fingerprint"])


def test_a_training_and_a_simulation_do_not_take_each_other_s_place(capsys, tmp_path):
    files = {}
    for name, command in (("md", [*SIMULATE, "-n", 6]), ("run", ["train", "butane", "--steps", 1, "--no-compile"])):
        assert run(capsys, *command, "--out", tmp_path / name)[0] == 0
        files |= {path: path.read_bytes() for path in (tmp_path / name).iterdir() if path.name != ".owner"}
    for wrong in (["train", "butane", "--steps", 1, "--out"], ["resume"]):
        code, _, err = run(capsys, *wrong, tmp_path / "md")
        assert (code, "must be the folder of a training; got that of a simulation, which goes on with `" in err) == (
            3,
            True,
        )
    code, _, err = run(capsys, *SIMULATE, "-n", 6, "--out", tmp_path / "run")
    assert (code, "must be the folder of a simulation; got that of a training, which goes on with `" in err) == (
        3,
        True,
    )
    assert all(path.read_bytes() == content for path, content in files.items())
    assert {path for name in ("md", "run") for path in (tmp_path / name).iterdir() if path.name != ".owner"} == set(
        files
    )
