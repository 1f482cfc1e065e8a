"""Cartesian ⇄ internal coordinates of molecules: z-matrix, measure, chirality, symmetry and scales."""

from .automorphism import stereocentres
from .geometry import dihedral
from .internal import InternalCoordinates
from .quartet import PlanarQuartet
from .zmatrix import Row, z_matrix

__all__ = ["InternalCoordinates", "PlanarQuartet", "Row", "dihedral", "stereocentres", "z_matrix"]
