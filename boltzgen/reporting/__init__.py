"""What is told to people: the verdict, the pictures, the report."""

from .checkup import Checkup, examine
from .plots import (
    energy_histogram,
    free_energy_profiles,
    ramachandran,
    save_figure,
    training_curve,
    weight_histogram,
)
from .report import default_estimates, results, write_report
from .verdict import Check, Verdict, judge

__all__ = [
    "Check",
    "Checkup",
    "Verdict",
    "default_estimates",
    "energy_histogram",
    "examine",
    "free_energy_profiles",
    "judge",
    "ramachandran",
    "results",
    "save_figure",
    "training_curve",
    "weight_histogram",
    "write_report",
]
