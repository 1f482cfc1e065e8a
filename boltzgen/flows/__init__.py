"""The learning wing: bijections, bases, and the flows made of them."""

from .architectures import coupling_flow, molecular_flow
from .bases import Base, Normal, Product, UniformTorus
from .bijection import Bijection, Composition, Inverse
from .coupling import Coupling
from .flow import Flow
from .linear import Whitening
from .noise import BLOCK, keyed_generator
from .transformer import (
    Additive,
    Affine,
    CircularSpline,
    Mixed,
    Rotation,
    Spline,
    Transformer,
)
from .triangular import TriangularAffine

__all__ = [
    "BLOCK",
    "Additive",
    "Affine",
    "Base",
    "Bijection",
    "CircularSpline",
    "Composition",
    "Coupling",
    "Flow",
    "Inverse",
    "Mixed",
    "Normal",
    "Product",
    "Rotation",
    "Spline",
    "Transformer",
    "TriangularAffine",
    "UniformTorus",
    "Whitening",
    "coupling_flow",
    "keyed_generator",
    "molecular_flow",
]
