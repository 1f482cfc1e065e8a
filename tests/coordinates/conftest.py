"""Molecules for the tests of coordinates: real ones, and bond graphs grown into some geometry."""

import math
import os
from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np
import openmm.app
import pytest
import torch

from boltzgen.coordinates.placement import Placement
from boltzgen.coordinates.zmatrix import z_matrix
from boltzgen.molecule import Molecule


@dataclass
class Structure:
    """What `InternalCoordinates` asks of a molecule, without a force field."""

    bonds: list
    elements: list
    positions: np.ndarray = None
    torsions: dict = field(default_factory=dict)
    atom_labels: list = None
    u: object = None

    def __post_init__(self):
        self.n_atoms = len(self.elements)
        self.atom_labels = self.atom_labels or [f"{e}{k}" for k, e in enumerate(self.elements)]
        if self.positions is None:
            self.positions = grown(self)

    def energy(self, temperature):
        class Reduced:
            energy = staticmethod(self.u or (lambda x: x.new_zeros(len(x))))

        return Reduced()


def grown(structure, seed=0):
    """Plausible positions: tetrahedral centres of four neighbours, planar ones of three, random torsions."""
    rows = z_matrix(structure.n_atoms, structure.bonds, structure.elements, structure.torsions)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(3, structure.n_atoms, generator=generator, dtype=torch.float64)
    degree = [sum(k in bond for bond in structure.bonds) for k in range(structure.n_atoms)]
    r = 0.14 + 0.003 * noise[0, 1:]
    theta = 1.95 + 0.05 * noise[1, 2:]
    phi, seen = {rows[2].atom: 0.0}, {rows[2].torsion: 0}
    for row in rows[3:]:
        if row.kind == "sibling":
            side = seen[row.torsion] = seen.get(row.torsion, 0) + 1
            step = math.pi if degree[row.bond] == 3 else (2 * math.pi / 3) * (1 if side == 1 else -1)
            phi[row.atom] = phi[row.torsion] + step + 0.05 * float(noise[2, row.atom])
        else:
            phi[row.atom] = 3.0 * float(noise[2, row.atom])
    phi = torch.tensor([phi[row.atom] for row in rows[2:]], dtype=torch.float64)
    return Placement(rows)(r[:, None], theta[:, None], phi[:, None])[..., 0].T.numpy()


def peptide(*names):
    """Residues, the first and last of them caps, as a Structure, from the bond graphs in OpenMM's force-field files."""
    path = os.path.join(os.path.dirname(openmm.app.__file__), "data", "amber14", "protein.ff14SB.xml")
    tree = ElementTree.parse(path)
    element = {t.get("name"): t.get("element") for t in tree.iter("Type")}
    residues = {r.get("name"): r for r in tree.iter("Residue")}
    labels, elements, bonds, place = [], [], [], {}
    for k, name in enumerate(names):
        for atom in residues[name].iter("Atom"):
            place[k, atom.get("name")] = len(labels)
            labels.append(f"{name}{k + 1}-{atom.get('name')}")
            elements.append(element[atom.get("type")])
        bonds += [(place[k, b.get("atomName1")], place[k, b.get("atomName2")]) for b in residues[name].iter("Bond")]
    bonds += [(place[k - 1, "C"], place[k, "N"]) for k in range(1, len(names))]
    torsions = {
        "phi": [place[0, "C"], place[1, "N"], place[1, "CA"], place[1, "C"]],
        "psi": [place[1, "N"], place[1, "CA"], place[1, "C"], place[2, "N"]],
    }
    return Structure(bonds, elements, torsions=torsions, atom_labels=labels)


def _draws(coordinates, n, *, seed=0, siblings=True):
    """Configurations all over the chart; `siblings=False` lets siblings round the circle, mirror images included."""
    g = torch.Generator().manual_seed(seed)
    atoms = coordinates.n_atoms
    u = torch.rand(n, 3 * atoms - 6, generator=g, dtype=torch.float64)
    y = torch.empty_like(u)
    y[:, : atoms - 1] = 0.09 + 0.07 * u[:, : atoms - 1]
    y[:, atoms - 1 : 2 * atoms - 3] = 0.3 + 2.5 * u[:, atoms - 1 : 2 * atoms - 3]
    reach = coordinates._reach[:, 0].clamp_max(math.pi) if siblings else math.pi
    torsions = y[:, 2 * atoms - 3 :] = coordinates._centre[:, 0] + 0.9999 * reach * (2 * u[:, 2 * atoms - 3 :] - 1)
    if siblings:
        ahead, behind = coordinates._opposite
        room = (torsions[:, ahead] - 2e-4).clamp_min(0)
        y[:, 2 * atoms - 3 + behind] = 1e-4 - math.pi + room * u[:, 2 * atoms - 3 + behind]
    return y


def _near(coordinates, n, noise=0.05, seed=0):
    """Configurations like the reference, every circular coordinate anywhere."""
    g = torch.Generator().manual_seed(seed)
    y = coordinates.reference + noise * torch.randn(n, 3 * coordinates.n_atoms - 6, generator=g, dtype=torch.float64)
    y[:, : coordinates.n_atoms - 1] = coordinates.reference[: coordinates.n_atoms - 1]
    turn = math.pi * (2 * torch.rand(n, int(coordinates.circular.sum()), generator=g, dtype=torch.float64) - 1)
    y[:, coordinates.circular] = turn
    return y


def _square_map(coordinates, p):
    """3N Cartesian coordinates from three of translation, three Euler angles z-y-z, and y."""
    shift, (a, b, c), y = p[:3], p[3:6], p[6:]
    zero, one = torch.zeros_like(a), torch.ones_like(a)

    def about_z(t):
        rows = [
            torch.stack([t.cos(), -t.sin(), zero]),
            torch.stack([t.sin(), t.cos(), zero]),
            torch.stack([zero, zero, one]),
        ]
        return torch.stack(rows)

    about_y = torch.stack(
        [torch.stack([b.cos(), zero, b.sin()]), torch.stack([zero, one, zero]), torch.stack([-b.sin(), zero, b.cos()])]
    )
    rotation = about_z(a) @ about_y @ about_z(c)
    return (coordinates._forward(y[None], None)[0][0] @ rotation.T + shift).flatten()


BUTANE = [(0, 1), (1, 2), (2, 3)] + [
    (c, h) for c, hs in [(0, (4, 5, 6)), (1, (7, 8)), (2, (9, 10)), (3, (11, 12, 13))] for h in hs
]


@pytest.fixture(scope="session")
def alanine():
    return Molecule.load("alanine_dipeptide")


@pytest.fixture(scope="session")
def structure():
    return Structure


@pytest.fixture(scope="session")
def butane():
    return Structure(BUTANE, ["C"] * 4 + ["H"] * 10)


@pytest.fixture(scope="session")
def benzene():
    """Flat, with the hydrogens last."""
    ring = np.arange(6) * np.pi / 3
    circle = np.stack([np.cos(ring), np.sin(ring), np.zeros(6)], 1)
    bonds = [(k, (k + 1) % 6) for k in range(6)] + [(k, k + 6) for k in range(6)]
    return Structure(bonds, ["C"] * 6 + ["H"] * 6, np.concatenate([0.14 * circle, 0.25 * circle]))


@pytest.fixture(scope="session")
def graph():
    return peptide


@pytest.fixture(scope="session")
def structures(butane, benzene):
    return {"butane": butane, "benzene": benzene} | {
        x: peptide("ACE", x, "NME") for x in ("ALA", "ILE", "THR", "PRO", "TRP", "VAL")
    }


@pytest.fixture(scope="session")
def draws():
    return _draws


@pytest.fixture(scope="session")
def near():
    return _near


@pytest.fixture(scope="session")
def square_map():
    return _square_map
