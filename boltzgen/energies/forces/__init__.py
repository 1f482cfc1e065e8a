"""OpenMM's forces in torch, batched and differentiable, one idea a file."""

from .force import Force
from .geometry import Frames, all_pairs
from .registry import COMPILERS, compile_force, named_forces, particle_masses

__all__ = ["COMPILERS", "Force", "Frames", "all_pairs", "compile_force", "named_forces", "particle_masses"]
