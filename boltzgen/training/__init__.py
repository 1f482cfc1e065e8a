"""How a flow learns: objectives, the loop, annealing, checkpoints, compilation."""

from .annealing import anneal
from .compilation import compiled
from .distillation import distill
from .history import History, Round
from .loop import train
from .objectives import forward_kl, reverse_kl

__all__ = ["History", "Round", "anneal", "compiled", "distill", "forward_kl", "reverse_kl", "train"]
