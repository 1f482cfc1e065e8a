"""Where a molecule comes from: bundled systems, and the files of OpenMM, AMBER, GROMACS and CHARMM."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import openmm
from openmm import app

from ..errors import InputError
from .description import Description
from .forcefield import DEFAULT_FORCEFIELD, apply_forcefield
from .foreign import read_amber, read_charmm, read_gromacs, read_system
from .pdb import read_pdb

__all__ = ["FromFiles"]


class FromFiles:
    """The loaders of `Molecule`: each reads files, has OpenMM make a System of them, and calls the class with it."""

    if TYPE_CHECKING:

        def __init__(
            self,
            system: openmm.System,
            topology: app.Topology,
            positions: Any,
            *,
            torsions: Mapping[str, Sequence[int | str]] | None = None,
            name: str = "molecule",
            temperature: float | None = None,
            reference: Mapping[str, Mapping[str, Any]] | None = None,
        ) -> None: ...

    @classmethod
    def load(cls, name: str | os.PathLike[str], *, trust_forcefield: bool = False) -> Self:
        """A bundled molecule by name, or one of a user's own folder that holds a system.toml.

        Arguments:
            name: e.g. "alanine_dipeptide"; `boltzgen systems` lists them; or the path of a folder.
            trust_forcefield: whether to accept force-field files in the folder, which can contain code.

        Raises:
            InputError: if there is no such system, or its files are not what they must be.
        """
        found = Description.find(name)
        if found.toy is not None:
            raise InputError(
                f"{found.name!r} must be a molecule to be loaded as one; got the toy energy {found.toy!r}: "
                f"use boltzgen.toys.load({found.toy!r})"
            )
        description: dict[str, Any] = {
            "torsions": found.torsions,
            "name": found.name,
            "temperature": found.temperature,
            "reference": found.reference,
        }
        if found.system is not None:
            return cls(*read_system(found.system, found.structure), **description)
        topology, positions = read_pdb(found.structure)
        files = [local if (local := found.folder / file).is_file() else file for file in found.forcefield]
        system = apply_forcefield(topology, files, trust=trust_forcefield, source=found.structure)
        return cls(system, topology, positions, **description)

    @classmethod
    def from_pdb(
        cls,
        path: str | os.PathLike[str],
        forcefield: Sequence[str | os.PathLike[str]] = DEFAULT_FORCEFIELD,
        *,
        torsions: Mapping[str, Sequence[int | str]] | None = None,
        name: str | None = None,
        temperature: float | None = None,
        trust_forcefield: bool = False,
    ) -> Self:
        """A molecule from a PDB file with hydrogens and the names of force fields that OpenMM ships.

        The System has no cutoff and no constraints.

        Arguments:
            path: of the PDB file; of several models or alternate locations the first is taken, with a warning.
            forcefield: force-field files by the names OpenMM ships them under, or paths of one's own.
            torsions, name, temperature: see the class; the name is that of the file.
            trust_forcefield: whether to accept files that OpenMM does not ship, which can contain code.

        Raises:
            InputError: if the file is not what it must be, or the force field does not describe the molecule.
            UnsupportedSystemError: if the atoms are molecules that nothing holds together.
        """
        topology, positions = read_pdb(path)
        system = apply_forcefield(topology, forcefield, trust=trust_forcefield, source=path)
        return cls(system, topology, positions, torsions=torsions, name=_stem(path, name), temperature=temperature)

    @classmethod
    def from_amber(
        cls,
        prmtop: str | os.PathLike[str],
        inpcrd: str | os.PathLike[str],
        *,
        implicit_solvent: str | None = None,
        torsions: Mapping[str, Sequence[int | str]] | None = None,
        name: str | None = None,
        temperature: float | None = None,
    ) -> Self:
        """A molecule from AMBER's files, as a System with no cutoff and no constraints.

        Arguments:
            prmtop: topology and parameters.
            inpcrd: coordinates, or a restart file.
            implicit_solvent: "HCT", "OBC1", "OBC2", "GBn" or "GBn2", with the radii in the prmtop; vacuum if None.
            torsions, name, temperature: see the class; the name is that of the prmtop.

        Raises:
            InputError: if a file is not what it must be, or the two are not of one molecule.
            UnsupportedSystemError: if the atoms are molecules that nothing holds together.
        """
        parts = read_amber(prmtop, inpcrd, implicit_solvent=implicit_solvent)
        return cls(*parts, torsions=torsions, name=_stem(prmtop, name), temperature=temperature)

    @classmethod
    def from_gromacs(
        cls,
        top: str | os.PathLike[str],
        gro: str | os.PathLike[str],
        *,
        include: str | os.PathLike[str] | None = None,
        torsions: Mapping[str, Sequence[int | str]] | None = None,
        name: str | None = None,
        temperature: float | None = None,
    ) -> Self:
        """A molecule from GROMACS's files, as a System with no cutoff and no constraints.

        Arguments:
            top: topology, with its `#include`s.
            gro: coordinates.
            include: folder of the force fields that the topology includes; that of GROMACS if None.
            torsions, name, temperature: see the class; the name is that of the topology.

        Raises:
            InputError: as `from_amber`.
            UnsupportedSystemError: if the atoms are molecules that nothing holds together.
        """
        parts = read_gromacs(top, gro, include=include)
        return cls(*parts, torsions=torsions, name=_stem(top, name), temperature=temperature)

    @classmethod
    def from_charmm(
        cls,
        psf: str | os.PathLike[str],
        coordinates: str | os.PathLike[str],
        parameters: Sequence[str | os.PathLike[str]],
        *,
        implicit_solvent: str | None = None,
        torsions: Mapping[str, Sequence[int | str]] | None = None,
        name: str | None = None,
        temperature: float | None = None,
    ) -> Self:
        """A molecule from CHARMM's files, as a System with no cutoff and no constraints.

        Arguments:
            psf: topology, of CHARMM or X-PLOR.
            coordinates: a CHARMM crd file, or a PDB file with the atoms in the same order.
            parameters: the rtf, prm and str files of the force field, in the order CHARMM reads them.
            implicit_solvent: as `from_amber`, with the radii OpenMM chooses.
            torsions, name, temperature: see the class; the name is that of the psf.

        Raises:
            InputError: as `from_amber`.
            UnsupportedSystemError: if the atoms are molecules that nothing holds together.
        """
        parts = read_charmm(psf, coordinates, parameters, implicit_solvent=implicit_solvent)
        return cls(*parts, torsions=torsions, name=_stem(psf, name), temperature=temperature)

    @classmethod
    def from_xml(
        cls,
        system: str | os.PathLike[str],
        structure: str | os.PathLike[str],
        *,
        torsions: Mapping[str, Sequence[int | str]] | None = None,
        name: str | None = None,
        temperature: float | None = None,
    ) -> Self:
        """A molecule from a System in OpenMM's XML and a PDB file: of whatever tool built the System.

        Whoever holds the parts in Python writes them with

            open("system.xml", "w").write(openmm.XmlSerializer.serialize(system))
            openmm.app.PDBFile.writeFile(topology, positions, open("structure.pdb", "w"))

        which serves OpenFF too: `system = interchange.to_openmm()` and `topology = interchange.to_openmm_topology()`,
        of a force field whose name says "unconstrained". No code in the files is run.

        Arguments:
            system: the XML file.
            structure: a PDB file with the atoms in the System's order; bonds beyond those of standard residues as
                CONECT records.
            torsions, name, temperature: see the class; the name is that of the structure.

        Raises:
            InputError: if a file is not what it must be, or the two are not of one molecule.
            UnsupportedSystemError: if the System cannot be sampled, or holds a force that runs code.
        """
        parts = read_system(system, structure)
        return cls(*parts, torsions=torsions, name=_stem(structure, name), temperature=temperature)

    @classmethod
    def from_openmm(
        cls,
        system: openmm.System,
        topology: app.Topology,
        positions: Any,
        *,
        torsions: Mapping[str, Sequence[int | str]] | None = None,
        name: str = "molecule",
        temperature: float | None = None,
    ) -> Self:
        """A molecule from the parts of an OpenMM simulation; arguments as of the class."""
        return cls(system, topology, positions, torsions=torsions, name=name, temperature=temperature)


def _stem(path: str | os.PathLike[str], name: str | None) -> str:
    """The name given, or that of the file."""
    return os.path.splitext(os.path.basename(path))[0] if name is None else name
