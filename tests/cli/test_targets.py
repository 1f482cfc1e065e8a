"""What a command is about may be named by its files, of other programs too."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import boltzgen as bg
from boltzgen import Molecule
from boltzgen.cli.main import main
from boltzgen.cli.targets import target_of
from boltzgen.errors import ConfigurationError, InputError
from boltzgen.training import History

DATA = Path(__file__).parents[1] / "molecule" / "data"


@pytest.fixture
def files(tmp_path):
    for name in ("ala.prmtop", "ala.inpcrd", "ala.top", "ala.gro"):
        shutil.copy(DATA / name, tmp_path)
    return tmp_path


def energy(molecule):
    return molecule.energy(300.0).energy(torch.tensor(molecule.positions)[None])


@pytest.mark.filterwarnings("ignore:Non-optimal GB parameters")  # OpenMM's advice on this file's radii
def test_a_topology_is_read_with_the_positions_beside_it(files):
    prmtop, inpcrd, top, gro = (files / name for name in ("ala.prmtop", "ala.inpcrd", "ala.top", "ala.gro"))
    assert energy(target_of(str(prmtop), None)) == energy(Molecule.from_amber(prmtop, inpcrd))
    assert energy(target_of(str(top), None)) == energy(Molecule.from_gromacs(top, gro))
    wet = target_of(str(prmtop), ["OBC2"])
    assert energy(wet) == energy(Molecule.from_amber(prmtop, inpcrd, implicit_solvent="OBC2"))
    assert energy(wet) < energy(target_of(str(prmtop), None)) - 10
    inpcrd.rename(files / "ala.rst7")
    prmtop.rename(files / "ala.parm7")
    assert target_of(str(files / "ala.parm7"), None).n_atoms == 22


def test_a_topology_without_positions_and_a_solvent_that_is_none_are_told_in_a_sentence(files):
    (files / "ala.inpcrd").unlink()
    with pytest.raises(
        InputError, match=r"ala.prmtop must have its positions beside it; got no .*ala.inpcrd or .*rst7: "
    ):
        target_of(str(files / "ala.prmtop"), None)
    with pytest.raises(InputError, match=r"no.prmtop must be a topology; got no such file"):
        target_of(str(files / "no.prmtop"), None)
    with pytest.raises(ConfigurationError, match=r"--forcefield must come with .* got it with .*ala.top, which brings"):
        target_of(str(files / "ala.top"), ["OBC2"])
    (files / "ala.rst7").write_text("nothing of the kind")
    with pytest.raises(InputError, match=r"implicit_solvent must be None or one of HCT, .* got 'OBC2 foo.xml'"):
        target_of(str(files / "ala.prmtop"), ["OBC2", "foo.xml"])


def test_a_file_of_another_kind_is_told_which_are_read(files):
    (files / "ala.psf").write_text("PSF")
    with pytest.raises(InputError, match=r"file must end in \.pdb, .*\.top; got .*ala\.psf: .*CHARMM's files$"):
        target_of(str(files / "ala.psf"), None)


@pytest.mark.filterwarnings("ignore:Non-optimal GB parameters")
def test_a_training_remembers_both_files_wherever_it_is_resumed(files, monkeypatch):
    told = []
    monkeypatch.setattr(bg.BoltzmannGenerator, "train", lambda self, about, **_: told.append(about) or History([1.0]))
    monkeypatch.chdir(files)
    assert main(["train", "ala.prmtop", "--forcefield", "OBC2", "--out", "run"]) == 0
    assert main(["train", "ala.top", "--out", "run"]) == 0
    (amber, gromacs) = told
    assert {Path(file).name for file in amber["sha256"]} == {"ala.prmtop", "ala.inpcrd"}
    assert {Path(file).name for file in gromacs["sha256"]} == {"ala.top", "ala.gro"}
    assert (amber["resolved"]["forcefield"], gromacs["resolved"]["forcefield"]) == (["OBC2"], None)
    assert amber["settings"]["system"] == str(files / "ala.prmtop")


@pytest.mark.filterwarnings("ignore:Non-optimal GB parameters")
def test_what_was_checked_is_trained_and_can_be_configured(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    monkeypatch.setattr("boltzgen.reporting.checkup._STEPS", 20)
    assert main(["check", "ala.prmtop", "--forcefield", "OBC2", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["status"] == "green"
    assert "next: boltzgen train ala.prmtop --forcefield OBC2 --out run" in printed.err
    assert main(["init", "ala.top"]) == 0
    assert "forcefield" not in (files / "ala.toml").read_text()
