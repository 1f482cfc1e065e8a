"""What every room asks of what it is given."""

from __future__ import annotations

import math
import operator
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["counts", "device_of", "four_atoms", "instances", "numbers", "positive_counts", "positive_numbers"]


def positive_counts(**values: Any) -> list[int]:
    """Positive integers as Python's, in the order given; those of numpy are integers too.

    Raises:
        InputError: naming the argument.
    """
    return _integers(values, 1, "positive", 1024)


def counts(**values: Any) -> list[int]:
    """Integers that are not negative as Python's, in the order given; those of numpy are integers too.

    Raises:
        InputError: naming the argument.
    """
    return _integers(values, 0, "non-negative", 1)


def positive_numbers(**values: Any) -> list[float]:
    """Positive, finite numbers as Python's, in the order given; those of numpy are numbers too.

    Raises:
        InputError: naming the argument.
    """
    for name, value in values.items():
        if not _real(value) or not 0 < float(value) < math.inf:
            raise InputError(f"{name} must be a positive number; got {value!r}: pass one above zero that is finite")
    return [float(value) for value in values.values()]


def numbers(**values: Any) -> list[float]:
    """Numbers as Python's, in the order given; those of numpy are numbers too.

    Raises:
        InputError: naming the argument.
    """
    for name, value in values.items():
        if not _real(value):
            raise InputError(f"{name} must be a number; got {value!r}: pass a plain one")
    return [float(value) for value in values.values()]


def device_of(wanted: Any) -> torch.device:
    """The device meant; "auto" is a GPU if there is one.

    Raises:
        InputError: if there is no such device.
    """
    import torch

    there = torch.cuda.device_count()
    if wanted == "auto":
        return torch.device("cuda" if there else "cpu")
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda") or (device.type == "cuda" and (device.index or 0) >= there):
        known = ", ".join(["auto", "cpu", *(f"cuda:{k}" for k in range(there))])
        raise InputError(f"device must be one of {known}; got {str(wanted)!r}: name one that torch can see here")
    return device


def four_atoms(atoms: Any, n_atoms: int) -> tuple[int, ...]:
    """The indices of the four different atoms of a torsion, of n_atoms in all.

    Raises:
        InputError: if they are anything else.
    """
    try:
        found = tuple(operator.index(k) for k in atoms)
    except TypeError:
        found = ()
    if not (len(found) == len(set(found)) == 4 and all(0 <= k < n_atoms for k in found)):
        raise InputError(
            f"a torsion must be four different atoms, numbers from 0 to {n_atoms - 1}; got {atoms!r}: "
            "give their indices in the topology, or the name of a torsion"
        )
    return found


def instances(**arguments: tuple[Any, type]) -> None:
    """Refuses an argument that is no instance of its class, given as name=(value, class).

    Raises:
        InputError: naming the argument.
    """
    for name, (value, kind) in arguments.items():
        if not isinstance(value, kind):
            raise InputError(
                f"{name} must be {_a(kind.__name__)}; got {_a(type(value).__name__)}: check the order of the arguments"
            )


def _integers(values: dict[str, Any], least: int, sort: str, example: int) -> list[int]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise InputError(f"{name} must be a {sort} integer; got {value!r}: pass e.g. {name}={example}")
    return [operator.index(value) for value in values.values()]


def _real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOaeio' else 'a'} {noun}"
