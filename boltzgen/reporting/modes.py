"""Whether draws reach what the target holds: against configurations known to exist, and against other flows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import InputError
from ..reweighting import autocorrelation_time, effective_sample_size
from ..reweighting.moments import spread
from ..reweighting.ratio import log_of_mean, ratio_of_means
from ..reweighting.references import as_reference
from ..reweighting.weights import Array, scaled_weights
from ..sampling import Samples
from .lights import Check, check, grade

__all__ = ["agreement", "coverage", "reference_temperature"]

ROUNDING = 1e-6
"""Difference of two numbers that says nothing, however small their errors."""
_BEYOND = 3.0
"""kT above the largest weight drawn from which a configuration is missed: its like would dominate all draws. A flow
that is good on the whole is off by less in its rare wells, where `explore` looks as often as in the others."""
_STRANGE = 0.05
"""of its temperature, that a reference may be off."""
_TRAIN_AGAIN = "the flow lost a mode: train again from a hotter temperature, or on these configurations too"


def coverage(log_w: Array, reference_log_w: Tensor | npt.ArrayLike | None, *, untested: bool = True) -> list[Check]:
    """The checks against reference configurations; without any, the one that says so if nothing else tests coverage.

    Arguments:
        log_w: log-weights of the draws, (n,).
        reference_log_w: log-weights (m,) of configurations known to exist; None for none.
        untested: whether nothing else has looked for lost modes.

    Raises:
        InputError: if there are no reference log-weights, or one is NaN or −inf.
    """
    meaning = "whether the flow reaches what is known to exist; weights cannot see a lost mode"
    if reference_log_w is None:
        step = (
            "weigh known structures: boltzgen report RUN --reference FILE, or "
            "judge(samples, reference_log_w=generator.weigh(frames).log_w)"
        )
        return [Check("coverage", None, "tested", "amber", meaning, step)] if untested else []
    reference = as_reference(reference_log_w)
    missed = float((reference > log_w.max() + _BEYOND).mean())
    checks = [
        check(
            "coverage", missed, "at most 1 % missed", "green" if missed <= 0.01 else "red", meaning, _TRAIN_AGAIN,
            percent=True,
        )
    ]  # fmt: skip
    if effective_sample_size(log_w) > 0:
        gap = _excess_divergence(log_w, reference)
        checks.append(
            check(
                "reference gap", gap, "at most 0.2 kT", grade(-gap, -0.2, -1.0),
                "by how much the reference finds the flow farther from the target than its own draws do",
                _TRAIN_AGAIN,
            )
        )  # fmt: skip
    return checks


def reference_temperature(samples: Samples, reference: Samples) -> Check:
    """Whether reference configurations have the mean energy of the target, as a temperature they would have it at.

    With the heat capacity Var(u) that the draws have, and as far as four standard errors, which know that frames
    follow one another, support it. Frames of another temperature or force field say nothing of lost modes.
    """
    potentials = [one.u if one.potential is None else one.potential for one in (samples, reference)]
    w = scaled_weights(samples.log_w.numpy())
    u = torch.where(samples.u.isfinite(), potentials[0], 0.0).numpy()
    mean, capacity = ratio_of_means(w * u, w), spread(w, u)
    known = potentials[1][reference.u.isfinite()].numpy()
    error = mean.standard_error if math.isfinite(mean.standard_error) else 0.0
    n = len(known)
    error = math.hypot(error, math.sqrt(known.var() * autocorrelation_time(known) / n)) if n >= 4 else math.inf
    apart = float(known.mean()) - mean.value if n else 0.0
    supported = math.copysign(max(0.0, abs(apart) - 4 * error), apart) / (capacity.value or math.inf)
    temperature = samples.temperature * max(0.0, 1 + supported)
    return check(
        "reference temperature", temperature, f"{samples.temperature:g} to within {_STRANGE:.0%}",
        "green" if abs(supported) <= _STRANGE else "amber",
        "at which the target has the mean energy of the reference: one of another law says nothing of lost modes",
        "check temperature, force field, solvent and constraints of the reference",
    )  # fmt: skip


def _excess_divergence(log_w: Array, reference: Array) -> float:
    """KL(p ‖ q) as the reference has it, less what the draws say of it, as far as two standard errors support it."""
    if np.isposinf(reference).any():
        return math.inf
    w = scaled_weights(log_w)
    drawn = ratio_of_means(w * np.where(w > 0, log_w, 0.0), w)
    known = ratio_of_means(reference, np.ones_like(reference))
    error = math.hypot(*(e if math.isfinite(e) else 0.0 for e in (drawn.standard_error, known.standard_error)))
    return max(0.0, known.value - drawn.value - 2 * error)


def agreement(samples: Samples, others: Sequence[Samples]) -> Check:
    """Whether flows trained independently find the same log Z and the same means, in standard errors of the difference.

    Compared are log Z, and the means of x, sin x and cos x of every coordinate: a mode that only one of them holds
    shows in the former, different modes of equal weight in the latter.

    Raises:
        InputError: if one of them has another target, the same seed or draws, or no draw of finite energy.
    """
    found = _statistics(samples)
    apart = 0.0
    for other in others:
        if (other.system, other.temperature, other.x.shape[1:]) != (
            samples.system, samples.temperature, samples.x.shape[1:],
        ):  # fmt: skip
            raise InputError(
                f"others must be draws of the same target; got {other!r} beside {samples!r}: judge them apart"
            )
        if (other.seed is not None and other.seed == samples.seed) or torch.equal(other.x, samples.x):
            raise InputError(
                f"others must be drawn with seeds of their own; got {samples.seed} twice, whose noise both share: draw "
                "one of them again with another seed"
            )
        its = _statistics(other)
        error = np.hypot(found[1], its[1]) + ROUNDING
        apart = max(apart, float(np.max(np.abs(found[0] - its[0]) / error)))
    return check(
        "agreement", apart, "at most 4 sigmas", grade(-apart, -4, -6),
        "how far flows trained independently are apart in log Z and in the means of the coordinates",
        "one of them lost a mode, or their errors are too small: train again from a hotter temperature",
    )  # fmt: skip


def _statistics(samples: Samples) -> tuple[Array, Array]:
    """Values and standard errors of log Z and the means of x, sin x and cos x."""
    log_w = samples.log_w.numpy()
    if samples.n_failed == len(samples):
        raise InputError(f"others must hold draws of finite energy; got {samples!r}: check the target and the flow")
    w, x = scaled_weights(log_w), samples.x.double().flatten(1).numpy()
    means = [ratio_of_means(w * f, w) for column in x.T for f in (column, np.sin(column), np.cos(column))]
    ratios = [log_of_mean(log_w), *means]
    return np.array([r.value for r in ratios]), np.array([r.standard_error for r in ratios])
