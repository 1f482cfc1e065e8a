"""What is sampled: reduced energies, and energies made of them."""

from . import toys
from .combinators import Pullback, Softened
from .energy import Energy, Evaluations, Tempered
from .force_field import ForceFieldEnergy
from .openmm_energy import OpenMMEnergy

__all__ = [
    "Energy",
    "Evaluations",
    "ForceFieldEnergy",
    "OpenMMEnergy",
    "Pullback",
    "Softened",
    "Tempered",
    "toys",
]
