"""What is sampled: reduced energies, and energies made of them."""

from . import toys
from .combinators import Pullback, Softened
from .energy import Energy, Evaluations, Tempered
from .force_field import ForceFieldEnergy

__all__ = [
    "Energy",
    "Evaluations",
    "ForceFieldEnergy",
    "Pullback",
    "Softened",
    "Tempered",
    "toys",
]
