"""The toys by name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from ...errors import InputError
from ..energy import Energy
from .gaussians import Gaussian, GaussianMixture40
from .particles import DW4, LJ13
from .wells import DoubleWell, ManyWell, MuellerBrown

__all__ = ["NAMES", "load"]

_TOYS: dict[str, type[Energy]] = {
    "double_well": DoubleWell,
    "dw4": DW4,
    "gaussian": Gaussian,
    "gmm40": GaussianMixture40,
    "lj13": LJ13,
    "many_well": ManyWell,
    "mueller_brown": MuellerBrown,
}

NAMES = tuple(_TOYS)
"""What `load` knows."""


def load(name: str, **parameters: Any) -> Energy:
    """The toy of a name, ready to be sampled: clusters come `centred`, since only then are they normalisable.

    Arguments:
        name: one of `NAMES`.
        parameters: what the class of the toy takes.

    Raises:
        InputError: if there is no such toy, or it does not take the parameters.

    Example:
        >>> load("mueller_brown", k=0.15).event_shape
        torch.Size([2])
    """
    if name not in _TOYS:
        close = difflib.get_close_matches(name, NAMES, 1)
        remedy = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(NAMES)}"
        raise InputError(f"name must be that of a toy; got {name!r}: {remedy}")
    toy = _TOYS[name]
    signature = inspect.signature(toy)
    try:
        signature.bind(**parameters)
    except TypeError as error:
        raise InputError(f"parameters must fit {name}{signature}; got {parameters}: {error}") from None
    energy = toy(**parameters)
    return energy.centred() if isinstance(energy, DW4 | LJ13) else energy
