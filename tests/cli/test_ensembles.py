"""Commands on drawn ensembles."""

import json
from dataclasses import replace

import mdtraj
import numpy as np
import pytest
import torch

from boltzgen import BoltzmannGenerator, Molecule, Samples, toys
from boltzgen.cli.main import main
from boltzgen.flows import coupling_flow
from boltzgen.sampling import draw


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """Draws of an untrained generator, and the same ones given almost equal weights."""
    path = tmp_path_factory.mktemp("drawn") / "samples.npz"
    samples = BoltzmannGenerator(Molecule.load("alanine_dipeptide")).sample(400, seed=1)
    good = samples[torch.isfinite(samples.u)]
    good.log_q.copy_(-good.u)
    good.save(path)
    return path


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_reweight_tabulates_temperatures_and_says_what_is_out_of_reach(capsys, ensemble):
    code, out, _ = run(capsys, "reweight", ensemble, "--temperature", 300.5, 900, "--json")
    assert code == 0
    first, near, far = json.loads(out)["temperatures"]
    assert [row["temperature"] for row in (first, near, far)] == [300.0, 300.5, 900.0]
    assert first["reliable"]
    assert not far["reliable"]
    mean = Samples.load(ensemble).potential.mean() * 8.31446261815324e-3 * 300
    assert first["mean_potential_energy"]["value"] == pytest.approx(float(mean), rel=1e-9)
    code, out, err = run(capsys, "reweight", ensemble, "--temperature", 900)
    assert code == 0
    assert out.splitlines()[-1].endswith("out of reach")
    assert "Warning" not in err


def test_export_writes_frames_that_mdtraj_reads(capsys, ensemble, tmp_path):
    pdb, dcd = tmp_path / "sub" / "a.pdb", tmp_path / "a.dcd"
    assert run(capsys, "export", ensemble, pdb, "-n", 7)[0] == 0
    assert run(capsys, "export", ensemble, dcd, "-n", 7)[0] == 0
    assert mdtraj.load(str(dcd), top=str(pdb)).xyz.shape == (7, 22, 3)
    for name in ("a.xyzzy", "a.lammpstrj"):  # not known; not without a box
        code, _, err = run(capsys, "export", ensemble, tmp_path / name)
        assert code == 3
        assert "must end in a format that mdtraj writes for molecules without a box, such as .dcd" in err
        assert len(err.splitlines()) == 1


def test_an_export_takes_no_files_place_unless_it_is_told_to(capsys, ensemble, tmp_path):
    out = tmp_path / "a.pdb"
    out.write_text("mine")
    code, _, err = run(capsys, "export", ensemble, out, "-n", 3)
    assert (code, len(err.splitlines())) == (3, 1)
    assert "a.pdb must not exist yet; got one that does: name another, or put the frames in its place" in err
    assert out.read_text() == "mine"
    assert run(capsys, "export", ensemble, out, "-n", 3, "--overwrite")[0] == 0
    assert mdtraj.load(str(out)).n_frames == 3


def test_what_can_be_made_again_is_written_anew(capsys, tmp_path):
    drawn = tmp_path / "toy.npz"
    draw(coupling_flow(2), toys.DoubleWell(), 200, seed=1).save(drawn)
    report = ["report", drawn, "--out", tmp_path / "r.html", "--figures", tmp_path / "figures"]
    report_files = [tmp_path / "r.html", tmp_path / "results.json", tmp_path / "figures" / "weights.svg"]
    estimate = ["estimate", drawn, "--out", tmp_path / "e"]
    for command, files in ((report, report_files), (estimate, [tmp_path / "e" / "results.json"])):
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text("old")
        assert run(capsys, *command)[0] == 0
        assert all(len(file.read_text()) > 1000 for file in files)


def test_export_of_all_draws_has_their_weights_beside_it(capsys, tmp_path):
    samples = BoltzmannGenerator(Molecule.load("alanine_dipeptide")).sample(50, seed=1)
    samples.u[7] = torch.inf  # whose weight is zero
    samples.save(tmp_path / "drawn.npz")
    out = tmp_path / "a.dcd"
    code, said, _ = run(capsys, "export", tmp_path / "drawn.npz", out, "--all", "--json")
    assert (code, json.loads(said)) == (0, {"written": str(out), "n": 50, "weights": f"{out}.log_w.txt"})
    frames = mdtraj.load(str(out), top=samples.to_mdtraj().topology).xyz
    assert frames == pytest.approx(samples.positions().numpy(), abs=1e-6)
    assert np.array_equal(np.loadtxt(f"{out}.log_w.txt"), samples.log_w.numpy())  # to the last bit, and −inf
    assert samples.log_w[7] == -torch.inf


def test_hdf5_holds_the_same_frames(capsys, ensemble, tmp_path):
    pytest.importorskip("tables")
    out = tmp_path / "a.h5"
    assert run(capsys, "export", ensemble, out, "--all")[0] == 0
    samples = Samples.load(ensemble)
    assert mdtraj.load(str(out)).xyz == pytest.approx(samples.positions().numpy(), abs=1e-6)
    assert np.loadtxt(f"{out}.log_w.txt").tolist() == samples.log_w.tolist()


def test_merge_pools_the_draws(capsys, ensemble, tmp_path):
    one, other = Samples.load(ensemble), tmp_path / "other.npz"
    BoltzmannGenerator(Molecule.load("alanine_dipeptide")).sample(100, seed=2).save(other)
    code, _, err = run(capsys, "merge", ensemble, other, "--out", tmp_path / "both.npz")
    both = Samples.load(tmp_path / "both.npz")
    assert (code, len(both)) == (0, len(one) + 100)
    assert f"{len(both)} draws" in err
    assert both.log_w[: len(one)].equal(one.log_w)
    code, _, err = run(capsys, "merge", other, ensemble, other, "--out", tmp_path / "twice.npz")
    assert code == 3
    assert "draws that are there already" in err


def test_correlated_frames_know_no_free_energy(capsys, ensemble, tmp_path):
    replace(Samples.load(ensemble), independent=False).save(tmp_path / "md.npz")
    code, out, _ = run(capsys, "reweight", tmp_path / "md.npz", "--temperature", 301, "--json")
    assert code == 0
    assert all(row["free_energy"]["value"] is None for row in json.loads(out)["temperatures"])
    assert run(capsys, "reweight", tmp_path / "md.npz", "--temperature", 301)[1].count("not known") == 2


def test_a_toy_has_no_temperature(capsys, tmp_path):
    draw(coupling_flow(2), toys.DoubleWell(), 100, seed=1).save(tmp_path / "toy.npz")
    code, _, err = run(capsys, "reweight", tmp_path / "toy.npz", "--temperature", 310)
    assert code == 3
    assert "must hold a molecule's energies" in err


def test_what_is_out_of_reach_is_null_in_json(capsys, ensemble):
    code, out, _ = run(capsys, "reweight", ensemble, "--temperature", 0.01, "--json")
    assert code == 0
    far = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["temperatures"][1]
    assert far["heat_capacity"]["standard_error"] is None


def test_hdf5_without_its_package_is_one_sentence(capsys, ensemble, tmp_path, monkeypatch):
    monkeypatch.setattr("boltzgen.cli.ensembles.find_spec", lambda name: None)
    code, out, err = run(capsys, "export", ensemble, tmp_path / "a.h5")
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert ".h5 must be written with the package tables; it is not installed: pip install tables" in err


def test_an_export_is_whole_or_not_there(capsys, ensemble, tmp_path, monkeypatch):
    (tmp_path / "a.dcd").write_bytes(b"old")

    def half(self, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(mdtraj.Trajectory, "save", half)
    assert run(capsys, "export", ensemble, tmp_path / "a.dcd", "--overwrite")[0] == 130
    assert (tmp_path / "a.dcd").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.dcd"]
    assert run(capsys, "export", ensemble, tmp_path)[0] == 3
    assert run(capsys, "merge", ensemble, ensemble, "--out", tmp_path)[0] == 3


def test_errors_of_correlated_frames_are_not_called_reliable(capsys, ensemble, tmp_path):
    frames = replace(Samples.load(ensemble), independent=False)
    frames.save(tmp_path / "frames.npz")
    code, out, err = run(capsys, "reweight", tmp_path / "frames.npz", "--temperature", 300.5, "--json")
    assert code == 0
    assert not any(row["reliable"] for row in json.loads(out)["temperatures"])
    assert "correlated: errors below are those of independent draws, and too small" in err


def test_more_than_memory_holds_is_refused_in_a_sentence(capsys, ensemble, tmp_path):
    code, _, err = run(capsys, "export", ensemble, tmp_path / "a.dcd", "-n", 10**13)
    assert (code, len(err.splitlines())) == (3, 1)
    assert "the work must fit into memory" in err
    assert not (tmp_path / "a.dcd").exists()
