"""OpenMM's forces as batched, differentiable torch, one file each."""

from .force import Force
from .geometry import Frames
from .registry import COMPILERS, IGNORED

__all__ = ["COMPILERS", "IGNORED", "Force", "Frames"]
