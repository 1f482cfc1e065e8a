"""Draws that come in populations: each of them one draw for the estimators, with a weight and a mean of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..arguments import positive_counts
from ..errors import InputError
from .observables import as_observable
from .weights import Array, as_log_weights

__all__ = ["by_population"]


def by_population(log_w: Tensor | npt.ArrayLike, f: Tensor | npt.ArrayLike, population: int) -> tuple[Array, Array]:
    """Log-weights and observable of populations, from those of draws that are independent in groups only.

    A population g of m consecutive draws has

        w_g = (1/m) Σ wᵢ        f_g = Σ wᵢ fᵢ / Σ wᵢ,

    so that Σ w_g f_g / Σ w_g is the same average as over the draws, and (1/n) Σ w_g the same Z. Populations are
    independent, so the estimators' errors, and their doubts, are right for them: `log_partition(w)`,
    `expectation(w, f)`, with the booleans of a state as f for its probability. At least 25 are wanted.

    Arguments:
        log_w: log-weights of the draws, shape (n,), in the order in which they were made; −inf is weight zero.
        f: the observable at each draw, numbers or booleans, shape (n,).
        population: m, the one that `refine` was told; it divides n.

    Returns:
        Log-weights and means of the n/m populations, (n/m,) each. The mean of a population without weight is 0.

    Raises:
        InputError: if log_w or f is not what it must be, or m does not divide n.

    Example:
        >>> log_w, f = by_population([0.0, 0.0, -1.0, float("-inf")], [1.0, 3.0, 5.0, 7.0], 2)
        >>> log_w.round(3), f
        (array([ 0.   , -1.693]), array([2., 5.]))
    """
    log_w = as_log_weights(log_w)
    f = as_observable("f", log_w, f)
    positive_counts(population=population)
    if len(log_w) % population:
        raise InputError(
            f"population must divide the number of draws, {len(log_w)}; got {population}: pass the one they were made "
            "in, and all of them"
        )
    rows = log_w.reshape(-1, population)
    together = np.logaddexp.reduce(rows, axis=1)
    weighted = np.exp(rows - np.where(np.isneginf(together), 0.0, together)[:, None])
    return together - np.log(population), (weighted * f.reshape(rows.shape)).sum(1)
