"""Systems as data: molecules and toys by name, or in a folder of a user's own."""

from __future__ import annotations

import os

from ..energies import toys
from ..energies.energy import Energy
from .description import Description, bundled
from .molecule import Molecule

__all__ = ["System", "available", "find"]


class System(Description):
    """What a system.toml says, and what can be made of it; attributes as of `Description`.

    Example:
        >>> find("alanine_dipeptide").molecule().n_atoms
        22
    """

    def molecule(self, *, trust_forcefield: bool = False) -> Molecule:
        """The molecule; see `Molecule.load`."""
        return Molecule.load(self.folder, trust_forcefield=trust_forcefield)

    def energy(self, temperature: float | None = None) -> Energy:
        """The reduced energy, of the toy or of the molecule's positions.

        Arguments:
            temperature: in K; the system's own if None.
        """
        if self.toy is None:
            return self.molecule().energy(self.temperature if temperature is None else temperature)
        energy = toys.load(self.toy, **self.parameters)
        return energy if temperature is None else energy.at(temperature)


def available() -> list[System]:
    """The bundled systems, by name."""
    return [System.read(folder) for folder in bundled().values()]


def find(name: str | os.PathLike[str]) -> System:
    """The bundled system of that name, or the one in a folder.

    Arguments:
        name: of a bundled system, or path of a folder that holds a system.toml.

    Raises:
        InputError: if there is none, or its system.toml is not what it must be.
    """
    return System.find(name)
