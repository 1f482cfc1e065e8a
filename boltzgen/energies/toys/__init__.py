"""Targets whose exact answers are known."""

from .catalogue import NAMES, load
from .gaussians import Gaussian, GaussianMixture40
from .particles import DW4, LJ13
from .wells import DoubleWell, ManyWell, MuellerBrown

__all__ = [
    "DW4",
    "LJ13",
    "NAMES",
    "DoubleWell",
    "Gaussian",
    "GaussianMixture40",
    "ManyWell",
    "MuellerBrown",
    "load",
]
