"""Configurations and what they weigh: draws of a flow, and the molecular dynamics they are compared with."""

from .drawing import draw, reweight
from .dynamics import ReplicaExchange, replica_exchange
from .samples import Samples

__all__ = ["ReplicaExchange", "Samples", "draw", "replica_exchange", "reweight"]
