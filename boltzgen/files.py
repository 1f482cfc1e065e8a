"""Files that survive: written whole or not at all, in a folder that one process at a time works in."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import InputError

__all__ = ["as_path", "atomically", "exclusive", "require_writable", "sweep", "write_atomically"]

_HALF_WRITTEN = re.compile(r"\..+\.\d+\.(tmp(\..*)?|new)")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def as_path(path: Any) -> Path:
    """The path meant by a text or by what stands for one.

    Raises:
        InputError: if it is anything else.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(text := os.fspath(path), str) or "\0" in text:
        raise InputError(f"a path must be text or a pathlib.Path; got {path!r}: pass e.g. 'run/samples.npz'")
    return Path(path)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that whoever looks sees the old content or the new one, whatever happens in between.

    tmp → fsync → rename.

    Raises:
        OSError: if it cannot be written; the old file is intact and the message names the path.
    """
    with atomically(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to for the time of a block, which becomes the file where the block ends well.

    It has the file's own ending, and its folder is made if missing. Nothing is left of it where the block does not end
    well, by an interruption too.

    Raises:
        OSError: if it cannot be written; the old file is intact and the message names the path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomically(Path(folder) / "new" / "a.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     (Path(folder) / "new" / "a.txt").read_text()
        'whole'
    """
    target = as_path(path)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is None:  # not the system's word, but that of whoever wrote
            raise
        what = f"cannot write {target} ({error.strerror}{_room(target.parent)}): {_remedy(error, target)}"
        raise OSError(error.errno, what) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sweep(folder: str | os.PathLike[str]) -> None:
    """Removes what processes that were killed within a write left in a folder, of which this one is the only user."""
    for path in Path(folder).iterdir():
        if _HALF_WRITTEN.fullmatch(path.name) and not path.is_dir():
            with suppress(OSError):
                path.unlink()


def require_writable(path: str | os.PathLike[str]) -> None:
    """Refuses a file that could not be written, before the work whose result it shall hold.

    Raises:
        InputError: if it is a folder, or lies in a place where nothing can be written.
    """
    target = Path(path)
    if target.is_dir() or os.fspath(path).endswith(os.sep):
        raise InputError(
            f"a file to write must have a name; got the folder {target}: add one, such as {target / 'out'}"
        )
    place = next((p for p in target.absolute().parents if os.path.lexists(p)), Path())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        why = "write-protected" if place.is_dir() else "no folder"
        raise InputError(
            f"{target} must lie where files can be written; got {place}, which is {why}: choose another place"
        )


@contextmanager
def exclusive(folder: str | os.PathLike[str], *, file: str = "") -> Iterator[None]:
    """Makes this process the only one at work in a folder, which is made if missing, for the time of a block.

    The lock goes with the process that holds it, however that ends.

    Arguments:
        folder: which.
        file: name of the one file in it that is meant, where others may be at work on other files.

    Raises:
        InputError: if another process works there, naming it, or the folder cannot be used.
    """
    place = as_path(folder)
    hidden = f".{file}" if file else ""
    lock, owner = FileLock(place / f"{hidden}.lock"), place / f"{hidden}.owner"
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        who = owner.read_text(errors="replace") if owner.exists() else "another process"
        raise InputError(
            f"{place / file} must not be in use; got one where {who} is at work: wait for it, or use another "
            f"{'file' if file else 'folder'}"
        ) from None
    except OSError as error:
        raise InputError(
            f"{place} must be a folder that can be written to ({error.strerror}): choose another one"
        ) from None
    try:
        write_atomically(owner, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        lock.release()


def _remedy(error: OSError, target: Path) -> str:
    if error.errno in _FULL:
        return "free some space or use another folder"
    if target.is_dir():
        return "add the name of a file"
    return "check the path and who may write there, or use another folder"


def _room(folder: Path) -> str:
    """Free space, in words, where the folder is or would be."""
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
        return f", {shutil.disk_usage(existing).free / 2**20:.0f} MiB free"
    except (OSError, StopIteration):
        return ""
