"""Configurations and what they weigh: draws of a flow, and the molecular dynamics they are compared with."""

from .drawing import draw
from .dynamics import ReplicaExchange, replica_exchange
from .langevin import Simulation, simulate
from .samples import Samples

__all__ = ["ReplicaExchange", "Samples", "Simulation", "draw", "replica_exchange", "simulate"]
