"""Files that survive: written whole or not at all, in a folder that one process at a time works in."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import InputError

__all__ = ["exclusive", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that whoever looks sees the old content or the new one, whatever happens in between.

    tmp → fsync → rename.

    Raises:
        OSError: if it cannot be written; the old file is intact and the message names the path.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        what = f"cannot write {target} ({error.strerror}{_room(target.parent)}): free some space or use another folder"
        raise OSError(error.errno, what) from error


@contextmanager
def exclusive(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Makes this process the only one at work in a folder, which is made if missing, for the time of a block.

    The lock goes with the process that holds it, however that ends.

    Raises:
        InputError: if another process works there, naming it, or the folder cannot be used.
    """
    place = Path(folder)
    lock, owner = FileLock(place / ".lock"), place / ".owner"
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        who = owner.read_text(errors="replace") if owner.exists() else "another process"
        raise InputError(
            f"{place} must not be in use; got one where {who} is at work: wait for it, or use another folder"
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


def _room(folder: Path) -> str:
    """Free space, in words, where the folder is or would be."""
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
        return f", {shutil.disk_usage(existing).free / 2**20:.0f} MiB free"
    except (OSError, StopIteration):
        return ""
