"""The molecule: an OpenMM System, its atoms and bonds, a structure, and torsions by name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import openmm
from openmm import app, unit

from ..energies.energy import Energy
from ..energies.force_field import ForceFieldEnergy
from ..energies.hybrid import system_energy
from ..energies.openmm_energy import OpenMMEnergy
from ..energies.openmm_system import check_supported
from ..energies.openmm_xml import deserialize, serialize
from ..errors import CheckpointError, InputError
from ..units import magnitude, positive_temperature
from .loading import FromFiles
from .numbering import with_types_in_order
from .pieces import require_held_together
from .plausibility import check_bond_lengths, expected_bond_lengths
from .topology import atom_labels, bonded_pairs, build_topology, topology_data
from .torsions import Quadruple, named_torsions

__all__ = ["Molecule"]

Array = npt.NDArray[np.float64]


class Molecule(FromFiles):
    """A molecule in free space: what its energy and its internal coordinates are made of. Read-only.

    It may be several that a restraint holds together, such as a host and its guest: each but one then has up to six
    degrees of freedom more. Without a restraint they would leave each other, and have no equilibrium.

    Most users want a loader: `load`, `from_pdb`, `from_amber`, `from_gromacs`, `from_charmm`, `from_xml` or
    `from_openmm`.

    Arguments:
        system: the `openmm.System`: no constraints, no box, no virtual sites. Kept as it is, or as a copy in which
            Lennard-Jones types have numbers in the order of the atoms.
        topology: the `openmm.app.Topology`, atoms in the order of the System, and all their bonds.
        positions: one structure, (n_atoms, 3) in nm or with an OpenMM unit; it fixes the chirality that is sampled.
        torsions: four atoms by name, by label ("ALA2-CA") or index from 0; those of peptides have names already.
        name: of the molecule.
        temperature: K, the one taken where none is asked for.
        reference: known values by name, each {"value", "standard_error", "unit", "method"}.

    Attributes:
        system, topology, name: as given.
        positions: (n_atoms, 3), float64, nm.
        torsions: four atom indices by name.
        n_atoms: number of atoms.
        elements: symbol of each atom.
        masses: of each atom in Da, (n_atoms,).
        bonds: pairs (i, j) of bonded atoms, i < j, sorted.
        atom_labels: names such as "ALA2-CA".
        topology_data: names of the atoms and bonds as a JSON-able dict.
        default_temperature: K.
        reference: known values by name.

    Raises:
        InputError: if the parts do not fit each other, or the positions are not those of this molecule.
        UnsupportedSystemError: if the System cannot be sampled, or its atoms are molecules that nothing holds together.

    Example:
        >>> molecule = Molecule.load("alanine_dipeptide")
        >>> molecule
        Molecule('alanine_dipeptide', 22 atoms, torsions: omega_1, phi, psi, omega_2)
        >>> [molecule.atom_labels[i] for i in molecule.torsions["phi"]]
        ['ACE1-C', 'ALA2-N', 'ALA2-CA', 'ALA2-C']
    """

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
    ) -> None:
        check_supported(system)
        if not isinstance(topology, app.Topology):
            raise InputError(
                f"topology must be an openmm.app.Topology; got {type(topology).__name__}: take a PDBFile's topology"
            )
        self.system, self.topology, self.name = with_types_in_order(system), topology, name
        self.n_atoms: int = system.getNumParticles()
        if topology.getNumAtoms() != self.n_atoms:
            raise InputError(
                f"topology and system must have the same atoms; got {topology.getNumAtoms()} in the topology and "
                f"{self.n_atoms} in the system: build the system from this topology"
            )
        self.default_temperature = positive_temperature(300.0 if temperature is None else temperature)
        self.reference = {key: dict(value) for key, value in (reference or {}).items()}
        self.topology_data = topology_data(topology)
        self.elements = [atom[1] for atom in self.topology_data["atoms"]]
        self.atom_labels = atom_labels(self.topology_data)
        self.bonds = bonded_pairs(self.topology_data)
        self.masses: Array = np.array([system.getParticleMass(i)._value for i in range(self.n_atoms)])
        self._bond_lengths = expected_bond_lengths(system, self.elements, self.bonds)
        self.positions: Array = self._one_frame(positions)
        require_held_together(system, self.positions, self.bonds, self.atom_labels, self._bond_lengths)
        self.masses.flags.writeable = self.positions.flags.writeable = False
        self.torsions: dict[str, Quadruple] = named_torsions(self.topology_data, self.atom_labels, torsions)

    def __repr__(self) -> str:
        torsions = f", torsions: {', '.join(self.torsions)}" if self.torsions else ""
        return f"{type(self).__name__}({self.name!r}, {self.n_atoms} atoms{torsions})"

    # ------------------------------------------------------------------ what it is good for

    def energy(
        self, temperature: float, backend: Literal["auto", "torch", "openmm"] = "auto", *, max_memory: float = 2**32
    ) -> Energy:
        """The reduced energy u(x) = U(x)/kT of positions x (n, n_atoms, 3) in nm.

        Arguments:
            temperature: in K.
            backend: "torch" compiles the System to torch, "openmm" evaluates it frame by frame; "auto" compiles
                what can be compiled, and leaves the rest to OpenMM (`HybridEnergy`), or leaves a large molecule to
                OpenMM if that is clearly faster here; `describe()` says which is which.
            max_memory: bytes that torch may take for an energy and its gradient, as of `ForceFieldEnergy`; OpenMM
                needs few.

        Raises:
            InputError: if the temperature or the memory is not positive, or there is no such backend.
            UnsupportedSystemError: if a force cannot be compiled and `backend` is "torch".
        """
        if backend not in ("auto", "torch", "openmm"):
            raise InputError(f'backend must be "auto", "torch" or "openmm"; got {backend!r}: choose one of them')
        if backend == "openmm":
            return OpenMMEnergy(self.system, temperature)
        if backend == "torch":
            return ForceFieldEnergy(self.system, temperature, positions=self.positions, max_memory=max_memory)
        return system_energy(self.system, temperature, self.positions, max_memory=max_memory)

    def minimized(self) -> Molecule:
        """The same molecule at a local minimum of its potential energy, found by OpenMM on its Reference platform."""
        context = openmm.Context(
            self.system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
        )
        context.setPositions(self.positions)
        openmm.LocalEnergyMinimizer.minimize(context, 1e-3)
        found = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        return Molecule(
            self.system,
            self.topology,
            np.array(found),
            torsions=self.torsions,
            name=self.name,
            temperature=self.default_temperature,
            reference=self.reference,
        )

    def check_positions(self, x: Any) -> Array:
        """Frames of this molecule as float64 in nm, (n, n_atoms, 3), refused if they cannot be of this molecule.

        Frames with NaN or ±inf are kept, and not judged.

        Arguments:
            x: array, tensor, or an OpenMM Quantity, (n, n_atoms, 3) in nm.

        Raises:
            InputError: for another shape, another unit (ångström), or another order of the atoms, which shows in
                the bond lengths.
        """
        frames = _numbers(x, f"(n, {self.n_atoms}, 3)")
        if frames.ndim != 3 or frames.shape[1:] != (self.n_atoms, 3):
            raise InputError(
                f"positions must have shape (n, {self.n_atoms}, 3); got {frames.shape}: {self._shape_remedy(frames)}"
            )
        check_bond_lengths(frames, self._bond_lengths, self.atom_labels)
        return frames

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the System, the atoms and the bonds: the same for the same molecule in the same force field."""
        xml = re.sub(r' openmmVersion="[^"]*"', "", serialize(self.system))
        return hashlib.sha256(json.dumps([xml, self.topology_data]).encode()).hexdigest()

    # ------------------------------------------------------------------ as plain data

    def state(self) -> dict[str, Any]:
        """Everything as plain, JSON-able data, for checkpoints; `from_state` is the way back."""
        return {
            "name": self.name,
            "system": serialize(self.system),
            "topology": self.topology_data,
            "positions": self.positions.tolist(),
            "torsions": {name: list(atoms) for name, atoms in self.torsions.items()},
            "temperature": self.default_temperature,
            "reference": self.reference,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Molecule:
        """The molecule of `state()`; no code in it is run.

        Raises:
            CheckpointError: if the data are not those of a molecule.
        """
        try:
            return cls(
                deserialize(state["system"]),
                build_topology(state["topology"]),
                np.array(state["positions"], dtype=np.float64),
                torsions=state["torsions"],
                name=state["name"],
                temperature=state["temperature"],
                reference=state["reference"],
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"a saved molecule must be the data that Molecule.state() gave; got {error}: load another checkpoint"
            ) from error

    # ------------------------------------------------------------------ checks

    def _one_frame(self, positions: Any) -> Array:
        frame = _numbers(positions, f"({self.n_atoms}, 3)")
        if frame.shape != (self.n_atoms, 3):
            raise InputError(
                f"positions must have shape ({self.n_atoms}, 3); got {frame.shape}: {self._shape_remedy(frame)}"
            )
        finite = np.isfinite(frame).all(axis=1)
        if not finite.all():
            where = self.atom_labels[int(np.argmin(finite))]
            raise InputError(f"positions must be finite; got NaN or infinity at {where}: give another structure")
        check_bond_lengths(frame[None], self._bond_lengths, self.atom_labels)
        return frame

    def _shape_remedy(self, x: Array) -> str:
        if x.shape == (self.n_atoms, 3):
            return "write x[None] for a single frame"
        if x.ndim == 3 and x.shape[::2] == (1, 3) and x.shape[1] == self.n_atoms:
            return "write x[0] for a single frame"
        if x.ndim and x.shape[-1] == 3 * self.n_atoms:
            return f"reshape with x.reshape({'' if x.ndim == 1 else '-1, '}{self.n_atoms}, 3)"
        return f"this molecule has {self.n_atoms} atoms, each with 3 coordinates"


def _numbers(x: Any, shape: str) -> Array:
    value = magnitude(x, "nanometer")
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"positions must be an array of shape {shape}; got {type(x).__name__}: use numpy.asarray"
        ) from None
