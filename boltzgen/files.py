"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_atomically"]


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
        what = f"cannot write {target} ({error.strerror}): free some space or choose another folder"
        raise OSError(error.errno, what) from error
