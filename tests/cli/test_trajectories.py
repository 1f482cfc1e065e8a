"""Frames of a simulation on the command line: every format comes to the same numbers, every mistake is named."""

import json

import mdtraj
import numpy as np
import pytest
import torch

from boltzgen import Molecule, Samples
from boltzgen.cli.main import main
from boltzgen.cli.trajectories import load_frames
from boltzgen.energies.toys import DoubleWell
from boltzgen.errors import CheckpointError, InputError
from boltzgen.sampling.trajectory import as_trajectory


@pytest.fixture(scope="module")
def molecule():
    return Molecule.load("alanine_dipeptide")


@pytest.fixture(scope="module")
def trajectory(molecule):
    noise = 0.003 * torch.randn(20, 22, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return as_trajectory(torch.tensor(molecule.positions) + noise, molecule.topology_data)


def saved(trajectory, path):
    trajectory.save(str(path))
    return str(path)


def load(molecule, *files, weights=None, strict=False):
    return load_frames([str(file) for file in files], weights, molecule, seed=0, strict=strict)


@pytest.mark.parametrize("ending", ["dcd", "xtc", "trr", "nc", "pdb", "gro", "xyz"])
@pytest.mark.filterwarnings("ignore:Warning. The 'netCDF4' Python package", "ignore:.*rounds positions")
def test_every_format_comes_to_the_same_frames(tmp_path, capfd, molecule, trajectory, ending):
    x = load(molecule, saved(trajectory, tmp_path / f"a.{ending}"))
    assert (x.shape, x.dtype) == ((20, 22, 3), torch.float64)
    torch.testing.assert_close(x, torch.from_numpy(trajectory.xyz).double(), atol=6e-4, rtol=0)
    assert capfd.readouterr().out == ""  # the readers' talk is not among the results


def test_several_files_are_one_after_the_other(tmp_path, molecule, trajectory):
    files = [saved(part, tmp_path / f"{k}.dcd") for k, part in enumerate((trajectory[:5], trajectory[5:]))]
    torch.testing.assert_close(load(molecule, *files), torch.from_numpy(trajectory.xyz).double(), atol=1e-6, rtol=0)


def test_rounded_positions_are_taken_with_a_notice(tmp_path, molecule, trajectory):
    """0.8 kT of noise in the energies of 22 atoms: enough to learn from, too much for a weight."""
    rounded = saved(trajectory, tmp_path / "a.xtc")
    with pytest.warns(
        UserWarning, match=r"a\.xtc rounds positions to 0\.001 nm: enough to learn from, but its energies"
    ):
        x = load(molecule, rounded)
    energy = molecule.energy(300.0)
    noise = energy.energy(x) - energy.energy(torch.from_numpy(trajectory.xyz).double())
    assert 0.1 < noise.std() < 5
    load(molecule, saved(trajectory, tmp_path / "a.dcd"))  # warnings are errors


@pytest.mark.filterwarnings("ignore:.*rounds positions")
@pytest.mark.parametrize("ending", ["dcd", "xtc", "trr"])
def test_of_a_file_cut_short_the_whole_frames_are_used_with_a_warning(tmp_path, molecule, trajectory, ending):
    path = tmp_path / f"a.{ending}"
    data = (saved(trajectory, path) and path).read_bytes()
    path.write_bytes(data[: int(0.97 * len(data))])
    with pytest.warns(UserWarning, match=rf"a\.{ending} is cut short: its 19 whole frames are used"):
        x = load(molecule, path)
    torch.testing.assert_close(x, torch.from_numpy(trajectory.xyz[:19]).double(), atol=6e-4, rtol=0)
    with pytest.raises(InputError, match=rf"a\.{ending} must be whole under --strict; got one cut short after 19"):
        load(molecule, path, strict=True)
    for size, says in ((0, "an empty file"), (200 if ending == "xtc" else 300, "whole frame|cannot read")):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=says):
            load(molecule, path)


@pytest.mark.parametrize("ending", ["dcd", "xtc", "trr", "nc", "pdb", "gro", "xyz"])
@pytest.mark.filterwarnings("ignore:Warning. The 'netCDF4' Python package")
def test_the_atoms_of_another_molecule_are_refused(tmp_path, molecule, trajectory, ending):
    with pytest.raises(InputError, match="22 atoms"):
        load(molecule, saved(trajectory.atom_slice(range(21)), tmp_path / f"a.{ending}"))


def test_other_elements_at_the_same_places_are_named(tmp_path, molecule, trajectory):
    path = tmp_path / "a.pdb"
    lines = (saved(trajectory, path) and path).read_text().splitlines()
    path.write_text("\n".join(f"{x[:76]} N{x[78:]}" if x.startswith("ATOM      1") else x for x in lines))
    with pytest.raises(InputError, match=r"got ACE1-H1 of N where ACE1-H1 is H"):
        load(molecule, path)


def test_positions_rounded_too_much_are_refused(tmp_path, molecule, trajectory):
    path = tmp_path / "a.xtc"
    data = bytearray((saved(trajectory, path) and path).read_bytes())
    data[56:60] = np.array(100.0, dtype=">f4").tobytes()
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"positions to 0\.001 nm; got steps of 0\.01 nm"):
        load(molecule, path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.dcd", None, "none there"),
        ("folder", "", "a folder"),
        ("a.dcd", b"x" * 500, r"in a format that mdtraj reads; got one that it cannot read \(it does not begin"),
        ("a.pdb", b"", "got an empty file"),
        ("a.txt", b"1 2 3", "cannot read"),
        ("a.h5", b"x", "package tables; it is not installed"),
        ("a.npz", b"PK", "npz"),
    ],
)
def test_what_is_no_trajectory_is_refused_in_a_sentence(tmp_path, molecule, name, content, says):
    path = tmp_path / name
    if content == "":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises((InputError, CheckpointError), match=says) as caught:
        load(molecule, path)
    assert "\n" not in str(caught.value)


def ensemble(path, log_w):
    target = DoubleWell()
    x = target.sample(len(log_w), seed=1)
    u, log_w = target.energy(x), torch.as_tensor(log_w, dtype=torch.float64)
    never = log_w == -torch.inf
    Samples(x, torch.where(never, 0.0, -u - log_w), torch.where(never, torch.inf, u)).save(path)
    return x.double()


def test_an_ensemble_counts_by_its_weights(tmp_path):
    w = np.array([1.0, 3.0, 0.0, 4.0] * 50)
    with np.errstate(divide="ignore"):
        x = ensemble(tmp_path / "a.npz", np.log(w))
    chosen = load(None, tmp_path / "a.npz")
    counts = (chosen[:, None] == x).all(-1).sum(0)
    assert len(chosen) == 200
    assert (counts - torch.from_numpy(w / 2)).abs().max() < 1  # systematic resampling: to within one
    ensemble(tmp_path / "b.npz", np.zeros(200))
    assert load(None, tmp_path / "b.npz").equal(x)


def test_a_text_file_gives_a_weight_to_every_frame_of_all_files(tmp_path, molecule, trajectory):
    files = [saved(part, tmp_path / f"{k}.dcd") for k, part in enumerate((trajectory[:5], trajectory[5:]))]
    weights = tmp_path / "w.txt"
    weights.write_text(" ".join(["0"] * 19) + "\n2.5\n")
    x = load(molecule, *files, weights=str(weights))
    torch.testing.assert_close(x, torch.from_numpy(trajectory.xyz[19:]).double().expand(20, 22, 3), atol=1e-6, rtol=0)
    for content, says in (
        ("1 2 3", "a weight per frame, 20; got 3"),
        ("1 " * 19 + "-1", "not negative"),
        ("1 " * 19 + "nan", "finite"),
        ("0 " * 20, "not all zero"),
        ("1 " * 19 + "x", "must hold numbers"),
    ):
        weights.write_text(content)
        with pytest.raises(InputError, match=says):
            load(molecule, *files, weights=str(weights))
    with pytest.raises(InputError, match="file that can be read"):
        load(molecule, *files, weights=str(tmp_path / "none"))


def test_frames_in_angstrom_are_refused_on_the_command_line(capsys, tmp_path, trajectory):
    wrong = mdtraj.Trajectory(10 * trajectory.xyz, trajectory.topology)
    path = saved(wrong, tmp_path / "a.dcd")
    code = main(["train", "alanine_dipeptide", "--out", str(tmp_path / "run"), "--data", path, "--minutes", "1"])
    err = capsys.readouterr().err
    assert (code, "ångström" in err.splitlines()[-1]) == (3, True)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_a_training_starts_from_data_and_resumes_with_them_from_any_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ensemble(tmp_path / "a.npz", np.zeros(300))
    (tmp_path / "a.toml").write_text('system = "double_well"\ndata = ["a.npz"]\nminutes = 0.02\n')
    assert main(["train", "--config", "a.toml", "--out", "run"]) == 0
    assert "starts from 300 frames of a.npz" in capsys.readouterr().err
    told = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert told["data"] == [str(tmp_path / "a.npz")]
    monkeypatch.chdir("/")
    assert main(["resume", str(tmp_path / "run")]) == 0
    ensemble(tmp_path / "a.npz", np.zeros(299))
    assert main(["resume", str(tmp_path / "run")]) == 3
    assert "must belong to this training" in capsys.readouterr().err
    assert main(["train", "double_well", "--weights", "w", "--out", str(tmp_path / "b")]) == 2
    assert "weights must come with the data" in capsys.readouterr().err
