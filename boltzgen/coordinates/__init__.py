"""Cartesian ⇄ internal coordinates of molecules: z-matrix, measure, chirality, symmetry and scales."""

from .automorphism import stereocentres
from .geometry import dihedral
from .internal import InternalCoordinates
from .zmatrix import Row, z_matrix

__all__ = ["InternalCoordinates", "Row", "dihedral", "stereocentres", "z_matrix"]
