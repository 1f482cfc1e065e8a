import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from boltzgen.errors import CheckpointError, InputError
from boltzgen.sampling.ensemble import read_ensemble, write_ensemble

ARRAYS = {"x": np.arange(12, dtype=np.float32).reshape(4, 3), "u": np.array([0.5, -1.0, np.inf, 2.0])}
METADATA = {"system": "Bütan", "seed": 3, "nothing": None, "torsions": {"φ": [0, 1, 2, 3]}}


@pytest.fixture
def path(tmp_path):
    write_ensemble(tmp_path / "samples.npz", ARRAYS, METADATA)
    return tmp_path / "samples.npz"


def rewritten(path, change, **options):
    """The file again, its members put through `change(name, bytes)`."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, change(name, data))


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **options)
    return buffer.getvalue()


def test_arrays_and_metadata_come_back(path):
    arrays, metadata = read_ensemble(path)
    assert metadata == METADATA
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].tobytes() == array.tobytes()
    assert not [name for name in os.listdir(path.parent) if name != path.name]


def test_an_array_may_lie_in_memory_as_it_likes(tmp_path):
    array = np.arange(12.0).reshape(3, 4).T[::2]
    write_ensemble(tmp_path / "x.npz", {"x": array}, {})
    assert np.array_equal(read_ensemble(tmp_path / "x.npz")[0]["x"], array)


def test_numpy_reads_the_file_too(path):
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(archive["u"], ARRAYS["u"])
        assert json.loads(archive["metadata"].item())["seed"] == 3


def test_every_flipped_bit_is_caught_or_does_not_matter(path):
    data = path.read_bytes()
    caught = 0
    positions = range(0, len(data), 3)
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= 1 << position // 3 % 8
        path.write_bytes(damaged)
        try:
            arrays, metadata = read_ensemble(path)
        except CheckpointError as error:
            caught += "samples.npz" in str(error)
        else:  # a byte of the archive's own bookkeeping, such as a date
            assert metadata == METADATA
            assert all(arrays[name].tobytes() == array.tobytes() for name, array in ARRAYS.items())
    assert caught > 0.7 * len(positions)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"samples\.npz must be a file written by Samples\.save"):
        read_ensemble(path)


def test_changed_numbers_with_a_sound_archive_are_caught_by_the_hash(path):
    rewritten(path, lambda name, data: npy(ARRAYS["u"] + 1e-15) if name == "u.npy" else data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        read_ensemble(path)


@pytest.mark.parametrize("content", [b"", b"MODEL 1", b"PK\x05\x06" + bytes(18)])
def test_another_kind_of_file_is_refused(tmp_path, content):
    (tmp_path / "x.pdb").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pdb"):
        read_ensemble(tmp_path / "x.pdb")


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.npz"):
        read_ensemble(tmp_path / "none.npz")
    with pytest.raises(InputError, match="directory"):
        read_ensemble(tmp_path)


def test_another_version_is_refused(path, monkeypatch):
    monkeypatch.setattr("boltzgen.sampling.ensemble._FORMAT", {"format": "boltzgen samples", "version": 2})
    write_ensemble(path, ARRAYS, METADATA)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="version 2: use the release"):
        read_ensemble(path)


def test_a_pickle_never_runs(path, tmp_path):
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    assert pickle.dumps(Payload())
    rewritten(path, lambda name, data: npy(np.array([Payload()]), allow_pickle=True) if name == "u.npy" else data)
    with pytest.raises(CheckpointError):
        read_ensemble(path)
    with pytest.raises(TypeError):
        write_ensemble(path, {"x": np.array([Payload()])}, {})
    assert not canary.exists()


def test_a_compressed_bomb_is_refused_before_it_unfolds(path):
    rewritten(
        path, lambda name, data: npy(np.zeros(10**6)) if name == "u.npy" else data, compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 20_000
    with pytest.raises(CheckpointError, match="ValueError"):
        read_ensemble(path)


def test_a_header_that_claims_more_than_there_is_is_refused_before_allocating(path):
    honest = npy(np.zeros((4, 3)))
    lie = honest.replace(b"(4, 3)", b"(9999999999, 9999999999)").replace(b" " * 18 + b"\n", b"\n")
    assert len(lie) == len(honest)
    assert lie != honest
    rewritten(path, lambda name, data: lie if name == "x.npy" else data)
    with pytest.raises(CheckpointError, match="ValueError"):
        read_ensemble(path)


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"samples\.npz"):
        write_ensemble(path, {"x": np.zeros(3)}, {})
    monkeypatch.undo()
    assert read_ensemble(path)[1] == METADATA
    assert os.listdir(path.parent) == [path.name]
