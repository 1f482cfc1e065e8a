"""What is told to people: the verdict, the pictures, the report."""

from .bonds import Geometry, geometry
from .checkup import Checkup, examine
from .drawings import structures
from .estimates import default_estimates, running
from .maps import free_energy_profiles, map_distance, ramachandran
from .outliers import extremes, pdb_text
from .pictures import figures, save_figures
from .plots import energy_histogram, running_estimates, save_figure, training_curve, weight_histogram
from .report import results, write_report
from .verdict import Check, Verdict, judge
from .wells import Basin, basins

__all__ = [
    "Basin",
    "Check",
    "Checkup",
    "Geometry",
    "Verdict",
    "basins",
    "default_estimates",
    "energy_histogram",
    "examine",
    "extremes",
    "figures",
    "free_energy_profiles",
    "geometry",
    "judge",
    "map_distance",
    "pdb_text",
    "ramachandran",
    "results",
    "running",
    "running_estimates",
    "save_figure",
    "save_figures",
    "structures",
    "training_curve",
    "weight_histogram",
    "write_report",
]
