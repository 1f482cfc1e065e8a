"""A trajectory file knows how many whole frames it holds, wherever it is cut."""

import os

import mdtraj
import numpy as np
import pytest

from boltzgen.cli.whole_frames import contents

FRAMES = 12


def written(path, n_atoms, cell=False):
    topology = mdtraj.Topology()
    residue = topology.add_residue("X", topology.add_chain())
    for _ in range(n_atoms):
        topology.add_atom("C", mdtraj.element.carbon, residue)
    x = np.random.default_rng(1).normal(size=(FRAMES, n_atoms, 3)).astype("f4")
    trajectory = mdtraj.Trajectory(x, topology)
    if cell:
        trajectory.unitcell_lengths, trajectory.unitcell_angles = np.full((FRAMES, 3), 5.0), np.full((FRAMES, 3), 90.0)
    trajectory.save(str(path))
    return path.read_bytes()


@pytest.mark.parametrize("cell", [False, True])
@pytest.mark.parametrize("n_atoms", [5, 22])
@pytest.mark.parametrize("ending", ["dcd", "xtc", "trr"])
def test_whole_frames_are_counted_wherever_the_file_is_cut(tmp_path, ending, n_atoms, cell):
    path = tmp_path / f"a.{ending}"
    data = written(path, n_atoms, cell)
    whole = contents(path)
    assert (whole.n_atoms, whole.frames, whole.cut) == (n_atoms, FRAMES, False)
    counts = []
    for size in range(len(data) - 1, -1, -max(1, len(data) // 400)):
        os.truncate(path, size)
        try:
            found = contents(path)
        except ValueError:
            assert size < 300  # within the header
            continue
        assert found.frames < FRAMES
        assert found.cut or ending != "dcd"  # the others do not say how many there should be
        counts.append(found.frames)
    assert counts == sorted(counts, reverse=True)
    assert set(counts) == set(range(FRAMES))


@pytest.mark.parametrize("ending", ["dcd", "xtc", "trr"])
def test_what_is_no_trajectory_ends_in_words(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    data = written(path, 22)
    rng = np.random.default_rng(2)
    for spoilt in (b"", b"not a trajectory at all, but a text of some length" * 9, bytes(2000), rng.bytes(2000)):
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match="it "):
            contents(path)
    for _ in range(300):  # whatever a header says, reading it ends
        broken = bytearray(data)
        broken[rng.integers(0, 200)] = rng.integers(0, 256)
        path.write_bytes(broken)
        try:
            contents(path)
        except ValueError:
            continue


def test_the_precision_of_an_xtc_file_is_told_and_other_formats_are_not_judged(tmp_path):
    written(tmp_path / "a.xtc", 22)
    assert contents(tmp_path / "a.xtc").precision == 1000.0
    assert contents(tmp_path / "a.pdb") is None
