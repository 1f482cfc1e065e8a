"""Whether the numbers made from weighted draws may be trusted, and why: one light for each check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import InputError
from ..reweighting import effective_sample_size, normalized_weights, pareto_k, reliability_threshold
from ..sampling import Samples

__all__ = ["Check", "Status", "Verdict", "judge"]

Status = Literal["green", "amber", "red"]
_BY_SEVERITY: tuple[Status, ...] = ("green", "amber", "red")
_HEADLINE = {
    "green": "trustworthy",
    "amber": "trustworthy with reservations",
    "red": "not trustworthy",
}


@dataclass(frozen=True)
class Check:
    """One question put to the draws.

    Attributes:
        name: what is looked at.
        value: the number found; None if the check was not run.
        wanted: what a green light needs, in words.
        status: "green", "amber" or "red".
        meaning: what the number says.
        next_step: what to do about it; empty if green.
        percent: whether the number is a share, to be read in percent.
    """

    name: str
    value: float | None
    wanted: str
    status: Status
    meaning: str
    next_step: str = ""
    percent: bool = False

    @property
    def shown(self) -> str:
        """The value as people read it."""
        if self.value is None:
            return "no" if self.status == "red" else "not tested"
        if math.isinf(self.value):
            return "no tail" if self.value < 0 else "no fit"
        if self.percent:
            return f"{100 * self.value:.3g} %"
        return f"{self.value:.0f}" if self.value >= 100 else f"{self.value:.3g}"


@dataclass(frozen=True)
class Verdict:
    """The checks together; as bad as the worst of them. Printed, it is a table.

    Attributes:
        checks: one for each question.
    """

    checks: Sequence[Check]

    @property
    def status(self) -> Status:
        """ "green", "amber" or "red"."""
        return max((check.status for check in self.checks), key=_BY_SEVERITY.index)

    @property
    def trustworthy(self) -> bool:
        """Whether no check is red."""
        return self.status != "red"

    @property
    def headline(self) -> str:
        """The verdict in one line, with the names of the checks that are not green."""
        reasons = ", ".join(
            f"{check.name} {check.shown}" for check in self.checks if check.status == self.status != "green"
        )
        return _HEADLINE[self.status] + (f": {reasons}" if reasons else "")

    def __str__(self) -> str:
        rows = [(c.status, c.name, c.shown, c.wanted) for c in self.checks]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{self.status.upper()}: {self.headline}"]
        for check, row in zip(self.checks, rows, strict=True):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(f"  {'  '.join(cells)}".rstrip())
            if check.next_step:
                indent = " " * (widths[0] + 4)
                lines += [f"{indent}{check.meaning}", f"{indent}→ {check.next_step}"]
        return "\n".join(lines)


def judge(samples: Samples, *, reference_log_w: Tensor | npt.ArrayLike | None = None) -> Verdict:
    """The verdict on weighted draws, from their weights alone.

    Weights cannot see a mode that the flow never visits: a flow that lost one of two equal wells has perfect weights.
    Only configurations known to exist, from another source, can show it. Their log-weights are

        reference_log_w = -target.energy(x) - flow.log_prob(x)

    and where one is larger than every weight drawn, the flow gives that configuration next to no density. Without
    them the check called coverage says "not tested", and no verdict is green.

    Arguments:
        samples: draws of a flow.
        reference_log_w: log-weights (m,) of configurations known to exist, for the same flow and target.

    Returns:
        The verdict; red where an error bar must not be believed.

    Raises:
        InputError: if there are no samples, or a reference log-weight is NaN or −inf.

    Example:
        >>> import torch
        >>> samples = Samples(torch.zeros(2000, 1), torch.zeros(2000), torch.zeros(2000))
        >>> judge(samples).headline
        'trustworthy with reservations: coverage not tested'
    """
    n, log_w = len(samples), samples.log_w
    if n == 0:
        raise InputError("samples must hold at least one draw; got none: draw some first")
    ess, k, limit = effective_sample_size(log_w), pareto_k(log_w), reliability_threshold(n)
    largest = float(normalized_weights(log_w).max()) if ess else 1.0
    failed = samples.n_failed / n
    more = "train the flow longer, or draw more"
    checks = [
        _check("draws", n, "at least 1000", _grade(n, 1000, 25), "how many weights there are to judge by", "draw more"),
        _check("effective draws", ess, "at least 100", _grade(ess, 100, 25), "equal draws the weights are worth", more),
        _check(
            "effective share", ess / n, "at least 5 %", _grade(ess / n, 0.05, -1),
            "share of the draws that the weights keep", "train longer: estimates cost many draws", percent=True,
        ),
        _check(
            "Pareto k", k, f"at most {limit:.2f}", "green" if k <= limit else "red",
            "heaviness of the tail of the weights; above the limit, error bars mean nothing",
            "train the flow longer: more draws of this one will not do",
        ),
        _check(
            "largest weight", largest, "at most 5 %", _grade(-largest, -0.05, -0.25),
            "share of the heaviest draw in every estimate", more, percent=True,
        ),
        _check(
            "failed draws", failed, "at most 1 %", _grade(-failed, -0.01, -0.5),
            "share without a finite energy: weight 0, kept in n",
            "look at these configurations: the flow draws impossible ones", percent=True,
        ),
        _coverage(log_w.numpy(), reference_log_w),
    ]  # fmt: skip
    if not samples.independent:
        checks.append(
            Check(
                "independence", None, "independent draws", "red",
                "rows are repeated or correlated: every error is too small",
                "judge, and estimate from, the weighted draws these came from",
            )
        )  # fmt: skip
    return Verdict(checks)


def _coverage(log_w: npt.NDArray[np.float64], reference: Tensor | npt.ArrayLike | None) -> Check:
    meaning = "whether the flow reaches what is known to exist; weights cannot see a lost mode"
    if reference is None:
        return Check(
            "coverage",
            None,
            "tested",
            "amber",
            meaning,
            "judge(samples, reference_log_w=…) with MD frames or known structures",
        )
    values = np.asarray(reference.detach().cpu() if isinstance(reference, Tensor) else reference, dtype=np.float64)
    if values.ndim != 1 or not len(values) or np.isnan(values).any() or np.isneginf(values).any():
        raise InputError(
            f"reference_log_w must hold log-weights (m,) of configurations of finite energy; got shape {values.shape}, "
            f"{np.isnan(values).sum()} NaN and {np.isneginf(values).sum()} -inf: leave out what the target excludes"
        )
    missed = float((values > log_w.max()).mean())
    return _check(
        "coverage", missed, "at most 1 % missed", "green" if missed <= 0.01 else "red", meaning,
        "the flow lost a mode: train again from a hotter temperature, or on these configurations too", percent=True,
    )  # fmt: skip


def _check(
    name: str, value: float, wanted: str, status: Status, meaning: str, next_step: str, *, percent: bool = False
) -> Check:
    return Check(name, float(value), wanted, status, meaning, "" if status == "green" else next_step, percent)


def _grade(value: float, green: float, amber: float) -> Status:
    return "green" if value >= green else "amber" if value >= amber else "red"
