"""Files are written whole or not at all; a folder has one process at work."""

import os
import subprocess
import sys

import pytest

from boltzgen.errors import InputError
from boltzgen.files import atomically, exclusive, require_writable, sweep, write_atomically


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


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.bin", b"one")
    assert not list(tmp_path.iterdir())


def test_what_writes_by_itself_gets_a_path_of_the_same_ending(tmp_path):
    path = tmp_path / "picture.png"
    with atomically(path) as temporary:
        temporary.write_bytes(b"half")
        assert temporary.suffix == ".png"
        assert not path.exists()
    assert path.read_bytes() == b"half"
    with pytest.raises(ZeroDivisionError), atomically(path) as temporary:
        temporary.write_bytes(b"whole")
        raise ZeroDivisionError
    assert path.read_bytes() == b"half"
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_the_remedy_fits_the_reason(tmp_path):
    with pytest.raises(OSError, match=r"cannot write .* \(Is a directory.*: add the name of a file"):
        write_atomically(tmp_path, b"one")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"check the path and who may write there"):
        write_atomically(tmp_path / "file" / "a.bin", b"one")


def test_a_file_that_could_not_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    require_writable(tmp_path / "new" / "a.bin")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="must have a name; got the folder"):
        require_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file, which is no folder: choose another place"):
        require_writable(tmp_path / "file" / "a.bin")
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match="which is write-protected"):
        require_writable(tmp_path / "a.bin")


@pytest.mark.parametrize("path", [None, 3, b"bytes", "a\0b", ["a"]])
def test_what_is_no_path_is_named(path):
    import boltzgen as bg

    generator = bg.BoltzmannGenerator(bg.toys.DoubleWell())
    samples = generator.sample(30, seed=1)
    for call in (
        lambda: write_atomically(path, b""),
        lambda: generator.save(path),
        lambda: bg.BoltzmannGenerator.load(path),
        lambda: bg.write_report(samples, path),
        lambda: samples.save(path),
    ):
        with pytest.raises(InputError, match=r"a path must be text or a pathlib\.Path; got"):
            call()
    if path is not None:
        with pytest.raises(InputError, match="a path must be text"):
            generator.train(run_dir=path, steps=1)


def test_only_what_was_left_half_written_in_the_folder_itself_is_swept(tmp_path):
    run, outside = tmp_path / "run", tmp_path / ".mine.1.tmp.npz"
    (run / "sub").mkdir(parents=True)
    kept = [outside, run / "samples.npz", run / ".hidden", run / "sub" / ".a.1.tmp.pt", run / "a.1.tmp.pt"]
    for file in kept:
        file.write_text("mine")
    (run / ".folder.1.tmp").mkdir()
    left, link = run / ".training.17.tmp.pt", run / ".link.17.tmp.npz"
    left.write_text("half")
    link.symlink_to(outside)
    sweep(run)
    assert not left.exists()
    assert not link.is_symlink()
    assert all(file.read_text() == "mine" for file in kept)
    assert (run / ".folder.1.tmp").is_dir()
