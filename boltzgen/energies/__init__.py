"""What is sampled: reduced energies, and energies made of them."""

from . import toys
from .combinators import Pullback, Softened
from .energy import Energy, Evaluations, Tempered
from .force_field import ForceFieldEnergy
from .hybrid import HybridEnergy
from .openmm_energy import OpenMMEnergy

__all__ = [
    "Energy",
    "Evaluations",
    "ForceFieldEnergy",
    "HybridEnergy",
    "OpenMMEnergy",
    "Pullback",
    "Softened",
    "Tempered",
    "toys",
]
