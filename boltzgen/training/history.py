"""What a training leaves behind besides the flow: losses, rounds, and the ledger."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["History", "Round"]


@dataclass
class Round:
    """A round of `anneal`: own draws, and what the flow learnt from them.

    Attributes:
        temperature: K, of the flow when it drew.
        ess: effective sample size of the flow's draws at that temperature, as a fraction, unclipped; of a flow that
            learns from fresh draws while it learns, which its running average surpasses, of any other of that average.
        next_temperature: K, fitted next.
        rows: number of draws, those of a flow for every temperature at other levels included; `ess` and `kl` are of
            those at this one.
        seconds: since training began.
        kl: KL(q‖p) as these draws estimate it, those of weight zero left out; NaN in records of before.
    """

    temperature: float
    ess: float
    next_temperature: float
    rows: int
    seconds: float
    kl: float = math.nan


@dataclass
class History:
    """Record of one training.

    Attributes:
        losses: of every step, NaN where it was skipped.
        rounds: of `anneal`; empty for `train`.
        skipped: number of steps skipped.
        seconds: wall-clock time spent training, over all resumptions, compilation included.
        training_samples: rows that went through the whole flow with a gradient.
        energy, gradient: target evaluations without and with a gradient; 0 for `train`, which knows no target.
        compiled: how the steps were run, in words.
        taken_back: how often the flow fell apart at the cold temperature and was taken back to its best round.
        evidence: of `train`, (step, evidence) of every look, −inf where it was not finite.
    """

    losses: list[float] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    skipped: int = 0
    seconds: float = 0.0
    training_samples: int = 0
    energy: int = 0
    gradient: int = 0
    compiled: str = "eager"
    taken_back: int = 0
    evidence: list[tuple[int, float]] = field(default_factory=list)

    @property
    def evaluations(self) -> dict[str, int]:
        """The ledger as plain data."""
        return {"energy": self.energy, "gradient": self.gradient}

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> History:
        """The history `state_dict` was taken of."""
        return cls(**{**state, "rounds": [Round(**r) for r in state["rounds"]]})
