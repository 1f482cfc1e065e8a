"""The learning wing: bijections, bases, and the flows made of them."""

from .actnorm import ActNorm
from .architectures import coupling_flow, iaf, maf, molecular_flow
from .autoregressive import Autoregressive
from .bases import Base, MultivariateNormal, Normal, Product, Uniform, UniformTorus
from .bijection import Bijection, Composition, Given, Inverse
from .continuous import Continuous
from .coupling import Coupling
from .flow import Flow
from .linear import Whitening, Widening
from .logistic import LogisticMixture
from .mixing import LU, Householder, Permutation
from .mixture import GaussianMixture
from .noise import BLOCK, keyed_generator
from .particles import ParticleVelocity
from .planar import Planar, Radial
from .rbig import gaussianization
from .sobol import Sobol
from .spline import float32_floors
from .steering import steered
from .transformer import (
    Additive,
    Affine,
    BoundedSpline,
    CircularSpline,
    Mixed,
    Rotation,
    Spline,
    Transformer,
)
from .triangular import TriangularAffine
from .von_mises import VonMises

__all__ = [
    "BLOCK",
    "LU",
    "ActNorm",
    "Additive",
    "Affine",
    "Autoregressive",
    "Base",
    "Bijection",
    "BoundedSpline",
    "CircularSpline",
    "Composition",
    "Continuous",
    "Coupling",
    "Flow",
    "GaussianMixture",
    "Given",
    "Householder",
    "Inverse",
    "LogisticMixture",
    "Mixed",
    "MultivariateNormal",
    "Normal",
    "ParticleVelocity",
    "Permutation",
    "Planar",
    "Product",
    "Radial",
    "Rotation",
    "Sobol",
    "Spline",
    "Transformer",
    "TriangularAffine",
    "Uniform",
    "UniformTorus",
    "VonMises",
    "Whitening",
    "Widening",
    "coupling_flow",
    "float32_floors",
    "gaussianization",
    "iaf",
    "keyed_generator",
    "maf",
    "molecular_flow",
    "steered",
]
