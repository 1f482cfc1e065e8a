"""Which draws can be shown, and with what weight."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..reweighting import normalized_weights
from ..sampling import Samples

__all__ = ["Array", "weighed"]

Array = npt.NDArray[np.float64]


def weighed(samples: Samples) -> tuple[npt.NDArray[np.bool_], Array]:
    """Which draws have a finite energy, and their weights, which sum to one.

    Raises:
        InputError: if no draw has a finite energy.
    """
    if samples.n_failed == len(samples):
        raise InputError(
            f"samples must hold a draw of finite energy; got none of {len(samples)}: check target and flow"
        )
    good = samples.u.isfinite().numpy()
    return good, normalized_weights(samples.log_w)[good]
