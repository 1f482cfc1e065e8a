"""How many whole frames a trajectory file holds, which its readers do not tell: DCD, XTC and TRR, header by header."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["Contents", "contents"]

_XTC, _XTC_LARGE, _TRR = 1995, 2023, 1993


@dataclass(frozen=True)
class Contents:
    """What lies in a trajectory file.

    Attributes:
        n_atoms: of every frame.
        frames: those that are whole.
        cut: whether there is less than the header promises, or the beginning of another frame.
        precision: of an XTC file, steps per nm of its coarsest frame; None for the others.
    """

    n_atoms: int
    frames: int
    cut: bool
    precision: float | None = None


def contents(path: Path) -> Contents | None:
    """What lies in a DCD, XTC or TRR file by its headers and its size; None for other formats.

    Raises:
        OSError: if it cannot be read.
        ValueError: if there is not one whole header.
    """
    walk = {".dcd": _dcd, ".xtc": _xtc, ".trr": _trr}.get(path.suffix.lower())
    if walk is None:
        return None
    with open(path, "rb") as file:
        try:
            return walk(file, path.stat().st_size)
        except struct.error:
            raise ValueError("it ends within its header") from None


def _dcd(file: BinaryIO, size: int) -> Contents:
    """Fortran records of 4-byte lengths: header, titles, number of atoms; then a cell (if any), x, y, z per frame."""
    order = "<" if file.read(4) == struct.pack("<i", 84) else ">"
    header = struct.unpack(f"{order}4s20i", file.read(84))
    if header[0] != b"CORD":
        raise ValueError("it does not begin as a DCD file")
    promised, fixed, cell = header[1], header[9], header[11]
    file.seek(4, 1)
    (titles,) = struct.unpack(f"{order}i", file.read(4))
    file.seek(max(titles, 0) + 8, 1)
    (n_atoms,) = struct.unpack(f"{order}i", file.read(4))
    if n_atoms < 1:
        raise ValueError("it is damaged")
    if fixed:
        raise ValueError(f"{fixed} of its atoms are fixed")
    frames, rest = divmod(size - file.tell() - 4, 3 * (4 * n_atoms + 8) + (56 if cell else 0))
    return Contents(n_atoms, max(frames, 0), rest != 0 or frames < promised)


def _xtc(file: BinaryIO, size: int) -> Contents:
    """Frames of a fixed header and compressed positions whose length the frame tells; up to nine atoms are plain."""
    n_atoms, frames, end = 0, 0, 0
    precision: float | None = None
    while end < size:
        file.seek(end)
        header = file.read(92)
        magic, n = struct.unpack(">2i", header[:8]) if len(header) >= 8 else (_XTC, n_atoms)
        if magic not in (_XTC, _XTC_LARGE) or n < 1:
            raise ValueError("it is no XTC file, or damaged")
        n_atoms = n_atoms or n
        if n <= 9:
            end += 56 + 12 * n
        elif len(header) < 92:
            break
        else:
            (steps,) = struct.unpack(">f", header[56:60])
            precision = steps if precision is None else min(precision, steps)
            wide = magic == _XTC_LARGE
            length = struct.unpack(">q" if wide else ">i", header[88:92] + (file.read(4) if wide else b""))[0]
            if length < 0:
                raise ValueError("it is damaged")
            end += (96 if wide else 92) + (length + 3) // 4 * 4
        frames += end <= size
    if not n_atoms:
        raise ValueError("it is empty")
    return Contents(n_atoms, frames, end != size, precision)


def _trr(file: BinaryIO, size: int) -> Contents:
    """Frames of a header that tells the lengths of the box, virials, positions, velocities and forces that follow."""
    n_atoms, frames, end = 0, 0, 0
    while end < size:
        file.seek(end)
        header = file.read(76)
        if len(header) < 76:
            break
        magic, *_ = struct.unpack(">i", header[:4])
        if magic != _TRR:
            raise ValueError("it is no TRR file, or damaged")
        lengths = struct.unpack(">10i", header[24:64])
        n_atoms = n_atoms or struct.unpack(">i", header[64:68])[0]
        if min(n_atoms, *lengths) < 0 or not n_atoms:
            raise ValueError("it is damaged")
        bytes_a_number = lengths[2] // 9 or (lengths[7] or lengths[8] or lengths[9]) // (3 * n_atoms)
        end += 76 + 2 * bytes_a_number + sum(lengths)
        frames += end <= size
    if not n_atoms:
        raise ValueError("it is empty")
    return Contents(n_atoms, frames, end != size)
