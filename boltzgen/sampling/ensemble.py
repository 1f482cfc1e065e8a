"""The weighted-ensemble file: arrays and metadata in an npz that cannot run code, claim false sizes, or rot unseen."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError, InputError
from ..files import write_atomically

__all__ = ["read_ensemble", "write_ensemble"]

_FORMAT = {"format": "boltzgen samples", "version": 1}

Array = npt.NDArray[Any]


def write_ensemble(path: str | os.PathLike[str], arrays: dict[str, Array], metadata: dict[str, Any]) -> None:
    """Writes arrays of numbers and JSON-able metadata; `numpy.load(path, allow_pickle=False)` reads them too.

    The file is an uncompressed npz with two more members, the strings `metadata` (JSON) and `sha256` (of all the rest).
    """
    members = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    members["metadata"] = np.array(json.dumps(_FORMAT | metadata))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, sha256=np.array(_digest(members)), **members)
    write_atomically(path, buffer.getvalue())


def read_ensemble(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and metadata of a file, bit for bit as written.

    Nothing is allocated that the file itself does not hold.

    Raises:
        InputError: if there is no such file, or it cannot be opened.
        CheckpointError: if it is something else, damaged, or of another version.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(
            f"samples must be in a file that can be read; got {os.fspath(path)!r} ({error.strerror}): check the path"
        ) from None
    with file:
        try:
            members = _members(file)
            intact = members.pop("sha256").item() == _digest(members)
            metadata = json.loads(members.pop("metadata").item())
            version = {key: metadata.pop(key, None) for key in _FORMAT}
        except Exception as error:  # whatever hostile bytes may do to zipfile, numpy and json
            raise CheckpointError(
                f"{Path(path)} must be a file written by Samples.save; got one that is damaged, cut short or "
                f"something else ({type(error).__name__}): use another copy"
            ) from None
    if not intact:
        raise CheckpointError(f"{Path(path)} must hold what was saved; its SHA-256 does not match: use another copy")
    if version != _FORMAT:
        raise CheckpointError(
            f"{Path(path)} must be {_wording(_FORMAT)}; got {_wording(version)}: "
            "use the release of boltzgen that wrote it"
        )
    return members, metadata


def _members(file: io.BufferedReader) -> dict[str, Array]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > os.fstat(file.fileno()).st_size:
            raise ValueError("a member claims more than the file holds")
        return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}


def _array(data: bytes) -> Array:
    """One npy member; its header is believed only where the length of the member agrees."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("npy version")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in "fU" or fortran_order or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError("npy header")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape).copy()


def _digest(members: dict[str, Array]) -> str:
    digest = hashlib.sha256()
    for name in sorted(members):
        array = np.ascontiguousarray(members[name])
        digest.update(f"{name} {array.dtype.str} {members[name].shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _wording(version: dict[str, Any]) -> str:
    return f"format {version['format']!r}, version {version['version']!r}"
