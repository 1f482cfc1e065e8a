"""How a flow learns: objectives, the loop, annealing, distillation, checkpoints, compilation."""

from .annealing import anneal
from .compilation import compiled
from .distillation import distill
from .forces import force_matching
from .frames import chart_data
from .history import History, Round
from .loop import train
from .matching import flow_matching
from .objectives import alpha_divergence, coordinate_entropy, forward_kl, log_variance, reverse_kl
from .replay import AnnealedReplay

__all__ = [
    "AnnealedReplay",
    "History",
    "Round",
    "alpha_divergence",
    "anneal",
    "chart_data",
    "compiled",
    "coordinate_entropy",
    "distill",
    "flow_matching",
    "force_matching",
    "forward_kl",
    "log_variance",
    "reverse_kl",
    "train",
]
