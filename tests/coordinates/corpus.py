"""Some eighty molecules made from their bonds alone: peptides, small molecules of CHARMM, hydrocarbons of springs."""

import functools
import itertools
import math
import warnings
from itertools import pairwise

import networkx
import numpy as np
import openmm
from openmm import app, unit

from boltzgen.coordinates import InternalCoordinates
from boltzgen.molecule import Molecule

RESIDUES = [
    *("ALA", "ARG", "ASH", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HID", "HIE", "HIP", "ILE"),
    *("LEU", "LYN", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL"),
]
PEPTIDES = {f"ACE-{name}-NME": (["ACE", name, "NME"], []) for name in RESIDUES}
PEPTIDES |= {
    "ACE-ALA-PRO-NME": (["ACE", "ALA", "PRO", "NME"], []),
    "ACE-PRO-GLY-NME": (["ACE", "PRO", "GLY", "NME"], []),
    "ACE-GLY-ILE-NME": (["ACE", "GLY", "ILE", "NME"], []),
    "ACE-CYX-GLY-CYX-NME": (["ACE", "CYX", "GLY", "CYX", "NME"], [(1, 3)]),
    "NALA-CARG": (["NALA", "CARG"], []),
    "NPRO-CGLU": (["NPRO", "CGLU"], []),
}
CHARMM = {
    "acetonitrile": "ACN", "propyne": "PRPY", "2-butyne": "2BTY", "3-cyanopyridine": "3CYP", "isonitrile": "MICY",
    "butane": "BUTA", "isobutane": "IBUT", "trifluoroethanol": "TFE", "acetate": "ACET", "guanidinium": "GUAN",
    "propionate": "PROA", "ethyl ammonium": "EAMM", "benzene": "BENZ", "phenol": "PHEN", "toluene": "TOLU",
    "cumene": "CUME", "p-xylene": "PXYL", "bipyridine": "22BPY", "indole": "INDO", "azulene": "AZUL",
    "naphthalene": "NAFT", "anthracene": "ANTR", "fluorene": "FLRN", "carbazole": "CRBZ", "norbornane": "NORB",
    "adamantane": "ADAM", "cyclopropane": "C3", "cyclobutane": "CBU", "cyclohexene": "CHXE", "dioxane": "DIOX",
    "morpholine": "MORP", "pyrrolidine": "PRLD", "purine": "PUR9", "dimethyl disulfide": "DMDS", "glucose": "AGLC",
    "phosphocholine": "PC", "cholesterol": "CLNS", "methanol": "MEOH",
}  # fmt: skip
PHENYL = [(k, (k + 1) % 6) for k in range(6)]
BY_HAND = {  # bonds between carbons, and numbers of hydrogens where they are fewer than valence allows
    "spiropentane": ([(0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (4, 0)], {}),
    "spiro[4.4]nonane": ([(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (0, 5), (5, 6), (6, 7), (7, 8), (8, 0)], {}),
    "bicyclo[1.1.1]pentane": ([(0, 2), (2, 1), (0, 3), (3, 1), (0, 4), (4, 1)], {}),
    "bicyclo[2.2.2]octane": ([(0, 2), (2, 3), (3, 1), (0, 4), (4, 5), (5, 1), (0, 6), (6, 7), (7, 1)], {}),
    "cubane": ([e for k in range(4) for e in ((k, (k + 1) % 4), (4 + k, 4 + (k + 1) % 4), (k, k + 4))], {}),
    "neopentane": ([(0, k) for k in range(1, 5)], {}),
    "di-tert-butyl": ([(0, k) for k in (1, 2, 3)] + [(4, k) for k in (5, 6, 7)] + [(0, 4)], {}),
    "diphenylmethane": (
        [*PHENYL, *((6 + i, 6 + j) for i, j in PHENYL), (0, 12), (6, 12)], {k: int(k % 6 > 0) for k in range(12)}
    ),
    "mesitylene": (
        [*PHENYL, (0, 6), (2, 7), (4, 8)], {k: int(k % 2) for k in range(6)} | dict.fromkeys((6, 7, 8), 3)
    ),
    "tert-butylbenzene": (
        [*PHENYL, (0, 6), (6, 7), (6, 8), (6, 9)], {0: 0, 6: 0} | dict.fromkeys(range(1, 6), 1)
    ),
    "allene": ([(0, 1), (1, 2)], {0: 2, 1: 0, 2: 2}),
    "butatriene": ([(0, 1), (1, 2), (2, 3)], {0: 2, 1: 0, 2: 0, 3: 2}),
    "hexa-2,4-diyne": ([(k, k + 1) for k in range(5)], {1: 0, 2: 0, 3: 0, 4: 0}),
    "phenylacetylene": ([*PHENYL, (0, 6), (6, 7)], {0: 0, 6: 0, 7: 1} | dict.fromkeys(range(1, 6), 1)),
    "cyclododecane": ([(k, (k + 1) % 12) for k in range(12)], {}),
}  # fmt: skip
NAMES = [*PEPTIDES, *CHARMM, *BY_HAND]


@functools.cache
def corpus(name):
    """The molecule of that name, near a minimum of its energy."""
    if name in BY_HAND:
        system, top = springs(*BY_HAND[name])
    else:
        names, bridges = PEPTIDES.get(name) or ([CHARMM[name]], [])
        field = forcefield("amber14/protein.ff14SB.xml" if name in PEPTIDES else "charmm36.xml")
        top = chain(field, names, bridges)
        templates = dict(zip(top.residues(), names, strict=True))
        system = field.createSystem(top, residueTemplates=templates, removeCMMotion=False, rigidWater=False)
    return Molecule.from_openmm(system, top, sketch(system, top), name=name)


@functools.cache
def chart(name):
    """Its internal coordinates."""
    return InternalCoordinates(corpus(name))


@functools.cache
def forcefield(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return app.ForceField(file)


def chain(field, names, bridges):
    """Residues as the force field's templates have them, joined by peptide bonds and disulfides."""
    top = app.Topology()
    letter, places = top.addChain("A"), []
    for number, name in enumerate(names, start=1):
        template = field._templates[name]
        residue = top.addResidue(name[1:] if name in ("NALA", "NPRO", "CARG", "CGLU") else name, letter, str(number))
        atoms = [top.addAtom(atom.name, atom.element, residue) for atom in template.atoms]
        places.append({atom.name: atom for atom in atoms})
        for i, j in template.bonds:
            top.addBond(atoms[i], atoms[j])
    for before, after in pairwise(places):
        top.addBond(before["C"], after["N"])
    for i, j in bridges:
        top.addBond(places[i]["SG"], places[j]["SG"])
    return top


def springs(bonds, hydrogens):
    """A hydrocarbon of harmonic bonds and angles; hydrogens fill up each carbon to four neighbours or as told."""
    top, system = app.Topology(), openmm.System()
    residue = top.addResidue("MOL", top.addChain())
    n, pairs = 1 + max(map(max, bonds)), list(bonds)
    atoms = [top.addAtom(f"C{k}", app.element.carbon, residue) for k in range(n)]
    for k in range(n):
        for _ in range(hydrogens.get(k, 4 - sum(k in bond for bond in bonds))):
            pairs.append((k, len(atoms)))
            atoms.append(top.addAtom(f"H{len(atoms)}", app.element.hydrogen, residue))
    stretch, bend = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    apart = openmm.CustomNonbondedForce("500*max(0, 0.25 - r)^2")
    for atom in atoms:
        system.addParticle(atom.element.mass)
        apart.addParticle([])
    for i, j in pairs:
        top.addBond(atoms[i], atoms[j])
        stretch.addBond(i, j, 0.109 if j >= n else 0.152, 3e5)
    graph = networkx.Graph(pairs)
    for k in range(n):
        for i, j in itertools.combinations(graph[k], 2):
            bend.addAngle(i, k, j, {4: 1.911, 3: 2.094, 2: math.pi}[graph.degree(k)], 400.0)
    apart.createExclusionsFromBonds(pairs, 2)
    for force in (stretch, bend, apart):
        system.addForce(force)
    return system, top


def sketch(system, top):
    """Positions (n, 3) in nm: distances along the bonds laid out in space, then bonds and angles put right, then all.

    Of either hand, and cis or trans, as it comes."""
    n = top.getNumAtoms()
    steps = np.where(np.eye(n) > 0, 0.0, np.inf)
    for bond in top.bonds():
        steps[bond[0].index, bond[1].index] = steps[bond[1].index, bond[0].index] = 1
    for k in range(n):
        steps = np.minimum(steps, steps[:, [k]] + steps[[k]])
    middle = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * middle @ (0.14 * steps**0.8) ** 2 @ middle)
    x = vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 1e-4))
    x += 0.03 * np.random.default_rng(0).normal(size=x.shape)

    rough = openmm.System()
    apart = openmm.CustomNonbondedForce("2e4*max(0, 0.24 - r)^2")
    for i in range(n):
        rough.addParticle(system.getParticleMass(i))
        apart.addParticle([])
    apart.createExclusionsFromBonds([(bond[0].index, bond[1].index) for bond in top.bonds()], 2)
    rough.addForce(apart)
    for force in system.getForces():
        if isinstance(force, (openmm.HarmonicBondForce, openmm.HarmonicAngleForce)):
            rough.addForce(openmm.XmlSerializer.clone(force))
    for stage, tolerance in ((rough, 1.0), (system, 10.0)):
        integrator = openmm.LangevinMiddleIntegrator(600.0, 10.0, 0.001)
        integrator.setRandomNumberSeed(1)
        context = openmm.Context(stage, integrator, openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(x)
        openmm.LocalEnergyMinimizer.minimize(context, tolerance, 500)
        if stage is rough:
            integrator.step(500)
            openmm.LocalEnergyMinimizer.minimize(context, tolerance, 500)
        x = np.array(context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    return x
