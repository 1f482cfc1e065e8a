"""Makes the bundled molecules: structures grown from the force field's own residues, L and trans, then minimised.

    python benchmarks/build_systems.py [NAME...]      # all of them if none is named

Rewrites systems/<name>/structure.pdb and system.toml, with the energy OpenMM's Reference platform gives the minimum;
reference values that it has are kept. alanine_dipeptide itself is not made here.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openmm
import torch
from openmm import app, unit

from boltzgen.coordinates.placement import Placement
from boltzgen.coordinates.zmatrix import z_matrix
from boltzgen.energies.openmm_xml import serialize
from boltzgen.molecule import Molecule, find

SYSTEMS = Path(__file__).parent.parent / "systems"
PROTEIN = Path(app.__file__).parent / "data" / "amber14" / "protein.ff14SB.xml"
A = ["amber96.xml", "implicit/obc1.xml"]
B = ["amber99sbildn.xml", "amber99_obc.xml"]
OBC2 = ["amber14-all.xml", "implicit/obc2.xml"]
PEPTIDES = {
    "alanine_dipeptide_b": ("ACE ALA NME", B, "Acetyl-L-alanine N-methylamide: AMBER ff99SB-ILDN with OBC2."),
    "alanine_dipeptide_obc2": ("ACE ALA NME", OBC2, "Acetyl-L-alanine N-methylamide: AMBER ff14SB with OBC2."),
    "alanine_dipeptide_vacuum": ("ACE ALA NME", ["amber14-all.xml"], "Acetyl-L-alanine N-methylamide, ff14SB, vacuum."),
    "alanine_tetrapeptide": ("ACE ALA ALA ALA NME", B, "Ace-(Ala)3-Nme: AMBER ff99SB-ILDN with OBC2."),
    "alanine_hexapeptide": ("ACE ALA ALA ALA ALA ALA NME", B, "Ace-(Ala)5-Nme: AMBER ff99SB-ILDN with OBC2."),
    "proline_dipeptide": ("ACE PRO NME", OBC2, "Acetyl-L-proline N-methylamide: a ring in the backbone."),
    "isoleucine_dipeptide": ("ACE ILE NME", OBC2, "Acetyl-L-isoleucine N-methylamide: two stereocentres."),
    "met_enkephalin": ("NTYR GLY GLY PHE CMET", OBC2, "Tyr-Gly-Gly-Phe-Met, zwitterion: AMBER ff14SB with OBC2."),
    "tryptophan_dipeptide": ("ACE TRP NME", OBC2, "Acetyl-L-tryptophan N-methylamide: two fused rings."),
}
CHARMM = "charmm36.xml"
SMALL = {  # name: CHARMM's template, torsions, whether its System is written out, description
    "butane": ("BUTA", {"phi": ["C1", "C2", "C3", "C4"]}, False, "n-Butane: CHARMM36 in vacuum."),
    "paracetamol": (
        "PACP",
        {
            "amide": ["C14", "C15", "N21", "C22"],
            "ring": ["C15", "N21", "C22", "C23"],
            "hydroxyl": ["C24", "C25", "O28", "H281"],
        },
        True,
        "Paracetamol (acetaminophen): the CHARMM general force field in vacuum, as a System in XML.",
    ),
}
L_CENTRES = {"CA": ("N", "C", "CB"), "CB of ILE": ("CA", "CG1", "CG2")}
"""Neighbours around which an L residue turns with a positive volume."""


def topology_of(sequence: str) -> app.Topology:
    """The peptide as AMBER's residue templates have it."""
    tree = ElementTree.parse(PROTEIN)
    element = {kind.get("name"): kind.get("element") for kind in tree.iter("Type")}
    templates = {residue.get("name"): residue for residue in tree.iter("Residue")}
    topology = app.Topology()
    chain, before = topology.addChain("A"), None
    for number, name in enumerate(sequence.split(), start=1):
        residue = topology.addResidue(name[-3:], chain, str(number))
        atoms = {
            atom.get("name"): topology.addAtom(
                atom.get("name"), app.Element.getBySymbol(element[atom.get("type")]), residue
            )
            for atom in templates[name].iter("Atom")
        }
        for bond in templates[name].iter("Bond"):
            topology.addBond(atoms[bond.get("atomName1")], atoms[bond.get("atomName2")])
        if before is not None:
            topology.addBond(before, atoms["N"])
        before = atoms.get("C")
    return topology


def topology_of_template(name: str, residue_name: str) -> app.Topology:
    """A molecule that is one residue of CHARMM's."""
    template = app.ForceField(CHARMM)._templates[name]
    topology = app.Topology()
    residue = topology.addResidue(residue_name, topology.addChain("A"), "1")
    atoms = [topology.addAtom(atom.name, atom.element, residue) for atom in template.atoms]
    for i, j in template.bonds:
        topology.addBond(atoms[i], atoms[j])
    return topology


def grown(topology: app.Topology, seed: int) -> np.ndarray:
    """Positions in nm: idealised bonds and angles, amides trans, other torsions at random, every centre L."""
    atoms = list(topology.atoms())
    bonds = [(bond[0].index, bond[1].index) for bond in topology.bonds()]
    elements = [atom.element.symbol for atom in atoms]
    place = {(atom.residue.index, atom.name): atom.index for atom in atoms}
    omegas = {
        f"omega_{k}": [place[k, a], place[k, "C"], place[k + 1, "N"], place[k + 1, b]]
        for k in range(topology.getNumResidues() - 1)
        for a in ("CA" if (k, "CA") in place else "CH3",)
        for b in ("CA" if (k + 1, "CA") in place else "CH3" if (k + 1, "CH3") in place else "C",)
    }
    rows = z_matrix(len(atoms), bonds, elements, omegas)
    degree = [sum(k in bond for bond in bonds) for k in range(len(atoms))]
    noise = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed)).double()
    r = torch.tensor([0.1 if "H" in (elements[row.atom], elements[row.bond]) else 0.145 for row in rows[1:]])
    flat = [degree[row.bond] == 3 and elements[row.bond] in "CN" for row in rows]
    theta = torch.tensor([2.09 if f else 1.92 for f in flat[2:]])
    trans = {tuple(o) for o in omegas.values()} | {tuple(reversed(o)) for o in omegas.values()}
    flips = dict.fromkeys(range(len(atoms)), 1)
    for _ in range(3):  # turn what came out D
        phi, seen = {rows[2].atom: 0.0}, {rows[2].torsion: 0}
        for k, row in enumerate(rows[3:], start=3):
            if row.kind == "sibling":
                side = seen[row.torsion] = seen.get(row.torsion, 0) + 1
                turn = math.pi if flat[k] else 2 * math.pi / 3 * (1 if side == 1 else -1) * flips[row.bond]
                phi[row.atom] = phi[row.torsion] + turn
            else:
                phi[row.atom] = math.pi if row[:4] in trans or flat[k] else 2 * math.pi * float(noise[k])
        azimuths = torch.tensor([phi[row.atom] for row in rows[2:]])
        x = Placement(rows)(r.double()[:, None], theta.double()[:, None], azimuths.double()[:, None])[..., 0].T.numpy()
        wrong = [c for c, volume in volumes(topology, x).items() if volume < 0]
        if not wrong:
            return x
        for centre in wrong:
            flips[centre] = -flips[centre]
    raise RuntimeError(f"{[atoms[c] for c in wrong]} stay D")


def volumes(topology: app.Topology, x: np.ndarray) -> dict[int, float]:
    """Signed volume at each stereocentre; positive for L."""
    found = {}
    for residue in topology.residues():
        place = {atom.name: atom.index for atom in residue.atoms()}
        for centre, neighbours in L_CENTRES.items():
            name, _, only = centre.partition(" of ")
            if {name, *neighbours} <= set(place) and only in ("", residue.name):
                a, b, c = (x[place[n]] - x[place[name]] for n in neighbours)
                found[place[name]] = float(np.cross(a, b) @ c)
    return found


def minimised(topology: app.Topology, forcefield: list[str]) -> tuple[np.ndarray, float]:
    """The lowest of several minima, L and trans, with its energy in kJ/mol."""
    system = app.ForceField(*forcefield).createSystem(topology, constraints=None, rigidWater=False)
    best = None
    for seed in range(20 if topology.getNumAtoms() < 60 else 5):
        integrator = openmm.LangevinMiddleIntegrator(300.0, 10.0, 0.0005)
        integrator.setRandomNumberSeed(seed + 1)
        context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(grown(topology, seed) * unit.nanometer)
        openmm.LocalEnergyMinimizer.minimize(context, 1.0)
        integrator.step(500)
        openmm.LocalEnergyMinimizer.minimize(context, 1e-4)
        state = context.getState(positions=True, energy=True)
        x = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        amides = [abs(value) for value in omegas_of(topology, x)]
        fine = all(v > 0 for v in volumes(topology, x).values()) and all(o > 2.5 for o in amides)
        if fine and (best is None or energy < best[1]):
            best = np.array(x), energy
    if best is None:
        raise RuntimeError("no seed gave an L, trans structure")
    return best


def omegas_of(topology: app.Topology, x: np.ndarray) -> list[float]:
    """ω of each peptide bond in rad."""
    place = {(atom.residue.index, atom.name): atom.index for atom in topology.atoms()}
    found = []
    for k in range(topology.getNumResidues() - 1):
        first = place.get((k, "CA"), place.get((k, "CH3")))
        last = place.get((k + 1, "CA"), place.get((k + 1, "CH3"), place.get((k + 1, "C"))))
        a, b, c, d = x[[first, place[k, "C"], place[k + 1, "N"], last]]
        normal, other = np.cross(b - a, c - b), np.cross(c - b, d - c)
        axis = (c - b) / np.linalg.norm(c - b)
        found.append(math.atan2(np.cross(normal, other) @ axis, normal @ other))
    return found


def write(name: str, sequence: str, forcefield: list[str], description: str) -> None:
    if sequence == "ACE ALA NME":
        molecule = Molecule.from_pdb(find("alanine_dipeptide").structure, forcefield).minimized()
        topology, x = molecule.topology, np.array(molecule.positions)
    else:
        topology = topology_of(sequence)
        x, _ = minimised(topology, forcefield)
    folder = write_structure(name, topology, x)
    molecule = Molecule.from_pdb(folder / "structure.pdb", forcefield)
    listed = ", ".join(f'"{file}"' for file in forcefield)
    write_description(molecule, folder, description, f"forcefield = [{listed}]")


def write_small(name: str, template: str, torsions: dict[str, list[str]], as_xml: bool, description: str) -> None:
    topology = topology_of_template(template, "LIG" if as_xml else template[:3])
    x, _ = minimised(topology, [CHARMM])
    folder = write_structure(name, topology, x)
    if as_xml:
        system = app.ForceField(CHARMM).createSystem(topology, removeCMMotion=False)
        for k in reversed(range(system.getNumForces())):
            force = system.getForce(k)
            if isinstance(force, openmm.CMAPTorsionForce) and not force.getNumTorsions():
                system.removeForce(k)  # eight maps of proteins
        (folder / "system.xml").write_text(serialize(system))
        molecule, source = Molecule.from_xml(folder / "system.xml", folder / "structure.pdb"), 'system = "system.xml"'
    else:
        molecule, source = Molecule.from_pdb(folder / "structure.pdb", [CHARMM]), f'forcefield = ["{CHARMM}"]'
    label = molecule.atom_labels[0].rpartition("-")[0]
    lines = [f"{key} = {json.dumps([f'{label}-{atom}' for atom in atoms])}" for key, atoms in torsions.items()]
    write_description(molecule, folder, description, source, "\n[torsions]\n" + "\n".join(lines) + "\n")


def write_structure(name: str, topology: app.Topology, x: np.ndarray) -> Path:
    folder = SYSTEMS / name
    folder.mkdir(exist_ok=True)
    with open(folder / "structure.pdb", "w", encoding="ascii") as file:
        app.PDBFile.writeFile(topology, x * unit.nanometer, file, keepIds=True)
    lines = (folder / "structure.pdb").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("REMARK")]  # a date and a version, which change
    (folder / "structure.pdb").write_text("\n".join(kept) + "\n")
    return folder


def write_description(molecule: Molecule, folder: Path, description: str, source: str, more: str = "") -> None:
    context = openmm.Context(
        molecule.system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(molecule.positions)
    energy = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    file = folder / "system.toml"
    _, begin, kept = file.read_text(encoding="utf-8").partition("\n[reference") if file.exists() else ("", "", "")
    file.write_text(
        f'title = "{folder.name.replace("_", " ")}"\ndescription = "{description}"\nstructure = "structure.pdb"\n'
        f"{source}\ntemperature = 300.0\n{more}\n[check]\n"
        f"energy = {energy:.4f}  # kJ/mol, of the structure, OpenMM Reference\n{begin}{kept}",
        encoding="utf-8",
    )
    print(f"{folder.name}: {molecule.n_atoms} atoms, {energy:.4f} kJ/mol, torsions {', '.join(molecule.torsions)}")


if __name__ == "__main__":
    wanted = sys.argv[1:] or [*PEPTIDES, *SMALL]
    for name in wanted:
        if name in PEPTIDES:
            write(name, *PEPTIDES[name])
        else:
            write_small(name, *SMALL[name])
