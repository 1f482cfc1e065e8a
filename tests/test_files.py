"""Files are written whole or not at all; a folder has one process at work."""

import os
import subprocess
import sys

import pytest

from boltzgen.errors import InputError
from boltzgen.files import exclusive, write_atomically


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "a.bin"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_a_full_disk_leaves_the_old_file_and_says_how_much_is_free(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError, match=r"cannot write .*a\.bin \(No space left on device, \d+ MiB free\): free some space"
    ):
        write_atomically(path, b"two")
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_in_use_is_refused_to_another_process_until_it_is_free(tmp_path):
    code = (
        "import sys; from boltzgen.files import exclusive; from boltzgen.errors import InputError\n"
        "try:\n    with exclusive(sys.argv[1]): print('mine')\nexcept InputError as error: print(error)"
    )

    def other():
        command = [sys.executable, "-c", code, str(tmp_path / "run")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with exclusive(tmp_path / "run"):
        assert f"where process {os.getpid()} on " in other()
    assert other() == "mine\n"


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder that can be written to"), exclusive(tmp_path / "file"):
        pass
