"""Configurations and what they weigh: draws of a flow, and the molecular dynamics they are compared with."""

from .drawing import draw, reweight, weigh
from .dynamics import ReplicaExchange, replica_exchange
from .exploration import explore
from .langevin import simulate
from .refinement import Schedule, annealing_schedule, refine
from .samples import Samples
from .walkers import Simulation

__all__ = [
    "ReplicaExchange",
    "Samples",
    "Schedule",
    "Simulation",
    "annealing_schedule",
    "draw",
    "explore",
    "refine",
    "replica_exchange",
    "reweight",
    "simulate",
    "weigh",
]
