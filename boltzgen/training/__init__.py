"""How a flow learns: objectives, the loop, annealing, distillation, checkpoints, compilation."""

from .annealing import anneal
from .compilation import compiled
from .distillation import distill
from .frames import chart_data
from .history import History, Round
from .loop import train
from .objectives import alpha_divergence, coordinate_entropy, forward_kl, log_variance, reverse_kl

__all__ = [
    "History",
    "Round",
    "alpha_divergence",
    "anneal",
    "chart_data",
    "compiled",
    "coordinate_entropy",
    "distill",
    "forward_kl",
    "log_variance",
    "reverse_kl",
    "train",
]
