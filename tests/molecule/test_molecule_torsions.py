"""Torsions of peptides by name, against mdtraj's own lists; a user's names are checked."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from mdtraj.geometry import dihedral
from openmm import app

from boltzgen.errors import InputError
from boltzgen.molecule.topology import atom_labels, build_topology, topology_data
from boltzgen.molecule.torsions import named_torsions, peptide_torsions

STANDARD = [
    *("ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE"),
    *("LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL"),
]


def heavy_peptide(*names, chain="A", start=1):
    """Topology data of the heavy atoms of a peptide, as OpenMM's residue definitions bond them."""
    root = ElementTree.parse(Path(app.__file__).parent / "data" / "residues.xml").getroot()
    bonds = {r.get("name"): [(b.get("from"), b.get("to")) for b in r.findall("Bond")] for r in root.findall("Residue")}
    topology = app.Topology()
    letter, previous = topology.addChain(chain), {}
    for number, name in enumerate(names, start=start):
        residue = topology.addResidue(name, letter, str(number))
        atoms = {}
        for atom in sorted({a for pair in bonds[name] for a in pair}):
            if not atom.startswith("-") and not atom.startswith(("H", "D")) and atom != "OXT":
                atoms[atom] = topology.addAtom(atom, app.Element.getBySymbol(atom[0]), residue)
        for a, b in bonds[name]:
            ends = [previous.get(end[1:]) if end.startswith("-") else atoms.get(end) for end in (a, b)]
            if None not in ends:
                topology.addBond(*ends)
        previous = atoms
    return topology_data(topology)


def named(data, kind):
    return {q for name, q in peptide_torsions(data).items() if name.split("_")[0] == kind}


def test_all_residues_as_mdtraj_lists_them():
    data = heavy_peptide(*STANDARD)
    topology = mdtraj.Topology.from_openmm(build_topology(data))
    for kind in ("phi", "psi", "omega", "chi1", "chi2", "chi3", "chi4", "chi5"):
        theirs = getattr(dihedral, f"indices_{kind}")(topology)
        assert named(data, kind) == {tuple(map(int, q)) for q in theirs}, kind


def test_caps_carry_phi_psi_and_both_omegas():
    data = heavy_peptide("ACE", "ALA", "NME")
    labels = atom_labels(data)
    torsions = {name: [labels[i] for i in q] for name, q in peptide_torsions(data).items()}
    methyl = next(label for label in labels if label in ("NME3-C", "NME3-CH3"))
    assert torsions == {
        "omega_1": ["ACE1-CH3", "ACE1-C", "ALA2-N", "ALA2-CA"],
        "phi": ["ACE1-C", "ALA2-N", "ALA2-CA", "ALA2-C"],
        "psi": ["ALA2-N", "ALA2-CA", "ALA2-C", "NME3-N"],
        "omega_2": ["ALA2-CA", "ALA2-C", "NME3-N", methyl],
    }


def test_names_carry_the_residue_where_there_are_several():
    assert list(peptide_torsions(heavy_peptide("ACE", "SER", "GLY", "NME"))) == [
        *("omega_1", "phi_2", "psi_2", "omega_2", "chi1", "phi_3", "psi_3", "omega_3")
    ]


def test_names_carry_the_chain_where_numbers_repeat():
    a, b = heavy_peptide("ACE", "ALA", "NME"), heavy_peptide("ACE", "ALA", "NME", chain="B")
    shift = len(a["atoms"])
    both = {
        "atoms": a["atoms"] + b["atoms"],
        "bonds": a["bonds"] + [[i + shift, j + shift] for i, j in b["bonds"]],
    }
    torsions = peptide_torsions(both)
    assert {"phi_A2", "phi_B2"} <= set(torsions)
    assert torsions["phi_B2"] == tuple(i + shift for i in torsions["phi_A2"])


def test_neighbours_are_found_by_bonds_not_by_order():
    data = heavy_peptide("GLY", "GLY", "GLY")
    gap = {**data, "bonds": [b for b in data["bonds"] if {data["atoms"][i][0] for i in b} != {"C", "N"}]}
    assert named(gap, "phi") == named(gap, "psi") == named(gap, "omega") == set()
    last_c = max(i for i, atom in enumerate(data["atoms"]) if atom[0] == "C")
    first_n = min(i for i, atom in enumerate(data["atoms"]) if atom[0] == "N")
    cyclic = {**data, "bonds": [*data["bonds"], [first_n, last_c]]}
    assert len(named(cyclic, "phi")) == len(named(cyclic, "psi")) == len(named(cyclic, "omega")) == 3


def test_charmm_calls_the_last_carbon_of_isoleucine_cd():
    data = heavy_peptide("ACE", "ILE", "NME")
    theirs = {**data, "atoms": [[atom[0].replace("CD1", "CD"), *atom[1:]] for atom in data["atoms"]]}
    assert peptide_torsions(theirs) == peptide_torsions(data)


DATA = heavy_peptide("ACE", "ALA", "NME")
LABELS = atom_labels(DATA)


def test_a_users_names_go_before():
    by_index = named_torsions(DATA, LABELS, {"mine": [0, 1, 2, 3]})
    assert by_index["mine"] == (0, 1, 2, 3)
    assert type(named_torsions(DATA, LABELS, {"mine": list(np.arange(4))})["mine"][0]) is int
    assert list(by_index)[:-1] == list(peptide_torsions(DATA))
    by_label = named_torsions(DATA, LABELS, {"phi": ["ALA2-CB", "ALA2-CA", "ALA2-C", "ALA2-O"]})
    assert by_label["phi"] == tuple(LABELS.index(f"ALA2-{name}") for name in ("CB", "CA", "C", "O"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": ["ALA2-CC", "ALA2-CA", "ALA2-C", "ALA2-O"]}, "got 'ALA2-CC': did you mean 'ALA2-C"),
        ({"x": ["?", "ALA2-CA", "ALA2-C", "ALA2-O"]}, "labels look like 'ACE1-C'"),
        ({"x": [0, 1, 2]}, r"must be four atoms.*got \[0, 1, 2\]"),
        ({"x": "ABCD"}, "must be four atoms"),
        ({"x": 4}, "must be four atoms"),
        ({"x": [0, 1, 2, len(LABELS)]}, f"indices run from 0 to {len(LABELS) - 1}"),
        ({"x": [0, 1, 2, -1]}, "indices run from 0"),
        ({"x": [0, 1, 2, True]}, "indices run from 0"),
        ({"x": [0, 1, 2, 2]}, "four different atoms"),
        ([0, 1, 2, 3], "torsions must be a dict"),
    ],
)
def test_names_that_stand_for_nothing(given, says):
    with pytest.raises(InputError, match=says):
        named_torsions(DATA, LABELS, given)
