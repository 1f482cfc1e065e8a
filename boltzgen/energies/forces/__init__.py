"""OpenMM's forces in torch, batched and differentiable, one idea a file."""

from .explicit import total_with_gradient
from .force import BondedForce, Force, PairForce
from .geometry import Frames, all_pairs, rows
from .gradient import evaluate
from .registry import COMPILERS, compile_force, named_forces, particle_masses

__all__ = [
    "COMPILERS",
    "BondedForce",
    "Force",
    "Frames",
    "PairForce",
    "all_pairs",
    "compile_force",
    "evaluate",
    "named_forces",
    "particle_masses",
    "rows",
    "total_with_gradient",
]
