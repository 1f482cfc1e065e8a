"""What is sampled: reduced energies, and energies made of them."""

from . import toys
from .combinators import Pullback, Softened
from .energy import Energy, Evaluations, Tempered
from .force_field import ForceFieldEnergy
from .hybrid import HybridEnergy
from .module_energy import ModuleEnergy
from .openmm_energy import OpenMMEnergy

__all__ = [
    "Energy",
    "Evaluations",
    "ForceFieldEnergy",
    "HybridEnergy",
    "ModuleEnergy",
    "OpenMMEnergy",
    "Pullback",
    "Softened",
    "Tempered",
    "toys",
]
