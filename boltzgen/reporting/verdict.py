"""Whether the numbers made from weighted draws may be trusted, and why: one light for each check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy.typing as npt
from torch import Tensor

from ..arguments import instances
from ..errors import InputError
from ..reweighting import effective_sample_size, largest_weight, reliability_threshold
from ..reweighting.pareto import NEARLY_EQUAL, decisive_k
from ..reweighting.reliability import FEWEST
from ..sampling import Samples
from .lights import SEVERITY, Check, Status, check, grade
from .mirror import hands, mirror_images
from .modes import agreement, coverage, reference_temperature

__all__ = ["Check", "Status", "Verdict", "judge"]

_HEADLINE = {
    "green": "trustworthy",
    "amber": "trustworthy with reservations",
    "red": "not trustworthy",
}


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
        return max((one.status for one in self.checks), key=SEVERITY.index)

    @property
    def trustworthy(self) -> bool:
        """Whether no check is red."""
        return self.status != "red"

    @property
    def headline(self) -> str:
        """The verdict in one line, with the names of the checks that are not green."""
        reasons = ", ".join(f"{one.name} {one.shown}" for one in self.checks if one.status == self.status != "green")
        return _HEADLINE[self.status] + (f": {reasons}" if reasons else "")

    def __str__(self) -> str:
        rows = [(c.status, c.name, c.shown, c.wanted) for c in self.checks]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{self.status.upper()}: {self.headline}"]
        for one, row in zip(self.checks, rows, strict=True):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(f"  {'  '.join(cells)}".rstrip())
            if one.next_step:
                indent = " " * (widths[0] + 4)
                lines += [f"{indent}{one.meaning}", f"{indent}→ {one.next_step}"]
        return "\n".join(lines)


def judge(
    samples: Samples,
    *,
    reference_log_w: Samples | Tensor | npt.ArrayLike | None = None,
    others: Sequence[Samples] = (),
) -> Verdict:
    """The verdict on weighted draws: from their weights and, where there is something to compare with, their coverage.

    Weights cannot see a mode that the flow never visits: a flow that lost one of two equal wells has perfect weights.
    Only configurations known to exist, from another source, can show it. Their log-weights are

        reference_log_w = -target.energy(x) - flow.log_prob(x)

    and where one is larger than every weight drawn, the flow gives that configuration next to no density. Their mean,
    less log Z, is the divergence of the flow from the target; the draws have an estimate of it too, and where the
    reference finds more, the flow is thin somewhere. Flows trained independently are the other source: they must
    agree. What all of them lost stays unseen. Without either the check called coverage says "not tested", and no
    verdict is green. A molecule that is its own mirror image is held against itself besides: conformers and their
    images are equally many. Where it is not, its stereocentres must keep their hand.

    Arguments:
        samples: draws of a flow.
        reference_log_w: log-weights (m,) of configurations known to exist, for the same flow and target; best of
            many that follow the target. Given as the `Samples` that `weigh` makes of frames that should follow it, they
            are asked for their temperature too: coverage by frames of another law is not tested.
        others: draws of the same target by flows trained independently, each with weights of its own.

    Returns:
        The verdict; red where an error bar must not be believed.

    Raises:
        InputError: if there are no samples, a reference log-weight is NaN or −inf, or others have another target.

    Example:
        >>> import torch
        >>> samples = Samples(torch.zeros(2000, 1), torch.zeros(2000), torch.zeros(2000))
        >>> judge(samples).headline
        'trustworthy with reservations: coverage not tested'
    """
    instances(samples=(samples, Samples))
    if isinstance(others, Samples):
        raise InputError("others must be a sequence of Samples; got Samples: pass others=[samples]")
    for other in others:
        if not isinstance(other, Samples):
            raise InputError(f"others must hold Samples; got {other!r}: pass e.g. Samples.load(path)")
    n, log_w = len(samples), samples.log_w
    if n == 0:
        raise InputError("samples must hold at least one draw; got none: draw some first")
    ess, k, limit = effective_sample_size(log_w), decisive_k(log_w), reliability_threshold(n)
    largest = largest_weight(log_w) if ess else 1.0
    failed = samples.n_failed / n
    more = "train the flow longer, or draw more"
    undecided = n < FEWEST or ess >= NEARLY_EQUAL * n  # a tail of few draws, or of weights that are even otherwise
    checks = [
        check("draws", n, "at least 1000", grade(n, 1000, 25), "how many weights there are to judge by", "draw more"),
        check("effective draws", ess, "at least 100", grade(ess, 100, 25), "equal draws the weights are worth", more),
        check(
            "effective share", ess / n, "at least 5 %", grade(ess / n, 0.05, -1),
            "share of the draws that the weights keep", "train longer: estimates cost many draws", percent=True,
        ),
        check(
            "Pareto k", k, f"at most {max(limit, 0.0):.2f}", "green" if k <= limit else "red",
            "heaviness of the tail of the weights; above the limit, error bars mean nothing",
            "draw more: these do not decide whether the tail is heavy" if undecided
            else "train the flow longer: more draws of this one will not do",
        ),
        check(
            "largest weight", largest, "at most 5 %", grade(-largest, -0.05, -0.25),
            "share of the heaviest draw in every estimate", more, percent=True,
        ),
        check(
            "failed draws", failed, "at most 1 %", grade(-failed, -0.01, -0.5),
            "share without a finite energy: weight 0, kept in n",
            "look at these configurations: the flow draws impossible ones", percent=True,
        ),
    ]  # fmt: skip
    if isinstance(reference_log_w, Samples):
        checks.append(reference_temperature(samples, reference_log_w))
        reference_log_w = reference_log_w.log_w if checks[-1].status == "green" else None
    checks += coverage(log_w.numpy(), reference_log_w, untested=not others)
    checks += [agreement(samples, others)] if others else []
    checks += mirror_images(samples) + hands(samples)
    if not samples.independent:
        checks.append(
            Check(
                "independence", None, "independent draws", "red",
                "rows are repeated, correlated or evenly spread: no error bar of theirs is right",
                "judge, and estimate from, the weighted draws these came from",
            )
        )  # fmt: skip
    return Verdict(checks)
