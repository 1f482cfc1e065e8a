"""The physics wing's subject: a molecule, its force field, and where they are read from."""

from .molecule import Molecule
from .systems import System, available, find

__all__ = ["Molecule", "System", "available", "find"]
