"""Checkpoints that survive crashes and cannot run code: atomic, hashed, the last two kept."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointError, InputError
from .files import write_atomically

__all__ = ["load_checkpoint", "load_if_there", "save_checkpoint"]

_MAGIC = b"boltzgen checkpoint 1\n"


def save_checkpoint(
    path: str | os.PathLike[str], state: dict[str, Any], *, fingerprint: str = "", kind: str = "training"
) -> None:
    """Saves plain data (tensors, numbers, strings, lists, dicts); the file it replaces is kept as `.previous`.

    Arguments:
        path: the file.
        state: what to save.
        fingerprint: what the state belongs to; `load_checkpoint` refuses another one.
        kind: what the state is one of, a word; `load_checkpoint` refuses another one.
    """
    buffer = io.BytesIO()
    torch.save({"kind": kind, "fingerprint": fingerprint, "state": state}, buffer)
    payload = buffer.getvalue()
    target = Path(path)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")  # another process may save here too
    try:
        write_atomically(fresh, _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
        if _intact(target):  # what is damaged must not take the place of what is not
            with suppress(FileNotFoundError):  # another process was faster
                os.replace(target, _previous(target))
        os.replace(fresh, target)
    finally:
        with suppress(OSError):
            fresh.unlink()


def load_checkpoint(
    path: str | os.PathLike[str], *, fingerprint: str | None = None, kind: str = "training"
) -> dict[str, Any]:
    """The newest intact state saved at `path`: the file itself, else the one before it.

    Raises:
        InputError: if there is no such file, or it may not be read.
        CheckpointError: if none is intact, naming what is wrong with each; or if it belongs to something else.
    """
    target = Path(path)
    problems = []
    for candidate in [file for file in (target, _previous(target)) if file.exists()] or [target]:
        try:
            content = _read(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if content.get("kind", kind) != kind:
            raise CheckpointError(
                f"{candidate} must hold the state of a {kind}; got that of a {content['kind']}: name the other file of "
                "its folder"
            )
        if fingerprint is not None and content["fingerprint"] != fingerprint:
            raise CheckpointError(
                f"{candidate} must belong to this {kind}; got that of another: "
                "use another folder, the options it was made with, or begin anew if another version of boltzgen made it"
            )
        state: dict[str, Any] = content["state"]
        return state
    raise CheckpointError("; ".join(problems))


def load_if_there(path: str | os.PathLike[str], *, fingerprint: str, kind: str = "training") -> dict[str, Any] | None:
    """What `load_checkpoint` gives; None if nothing was saved at `path`."""
    there = Path(path).exists() or _previous(Path(path)).exists()
    return load_checkpoint(path, fingerprint=fingerprint, kind=kind) if there else None


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def _intact(path: Path) -> bool:
    """Whether the file is a checkpoint without damage; pickles are not opened."""
    try:
        _payload(path)
    except (CheckpointError, InputError):
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    payload = _payload(path)
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
        if not {"fingerprint", "state"} <= set(content):
            raise TypeError("no checkpoint")
    except Exception as error:
        what = f"{path} must hold plain data; got something else ({type(error).__name__}): do not trust this file"
        raise CheckpointError(what) from None
    return content


def _payload(path: Path) -> bytes:
    """What follows the header, whose SHA-256 the header tells."""
    if path.is_dir():
        raise InputError(f"a checkpoint must be a file; got the folder {path}: name the file inside it")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"a checkpoint must be a file that can be read; got {path} ({error.strerror}): check the path"
        ) from None
    header = len(_MAGIC) + 65
    if not data.startswith(_MAGIC) or len(data) < header:
        raise CheckpointError(f"{path} is cut short or no checkpoint of this version of boltzgen: use another")
    digest, payload = data[len(_MAGIC) : header - 1], data[header:]
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise CheckpointError(f"{path} is damaged (its SHA-256 does not match): use another copy")
    return payload
