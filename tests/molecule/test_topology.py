"""The topology survives the way to plain data and back."""

import json

from openmm import app

from boltzgen.molecule import find
from boltzgen.molecule.topology import atom_labels, bonded_pairs, build_topology, topology_data


def ladder(letters):
    """Two residues of one name and number in chains of the given letters."""
    topology = app.Topology()
    atoms = [
        topology.addAtom("C", app.element.carbon, topology.addResidue("LIG", topology.addChain(letter), "1"))
        for letter in letters
    ]
    topology.addBond(atoms[1], atoms[0])
    topology.addBond(atoms[0], atoms[1])
    return topology


def test_round_trip_through_json():
    topology = app.PDBFile(str(find("alanine_dipeptide").structure)).topology
    data = topology_data(topology)
    assert data["atoms"][8] == ["CA", "C", "ALA", "2", "A"]
    again = build_topology(json.loads(json.dumps(data)))
    assert topology_data(again) == data
    assert [r.name for r in again.residues()] == ["ACE", "ALA", "NME"]
    assert len(bonded_pairs(data)) == 21


def test_bonds_are_sorted_and_counted_once():
    assert topology_data(ladder("AB"))["bonds"] == [[0, 1]]


def test_labels_carry_the_chain_only_where_needed():
    assert atom_labels(topology_data(ladder("AB"))) == ["A:LIG1-C", "B:LIG1-C"]
    data = topology_data(app.PDBFile(str(find("alanine_dipeptide").structure)).topology)
    assert atom_labels(data)[8] == "ALA2-CA"


def test_particles_without_an_element_and_insertion_codes():
    topology = app.Topology()
    residue = topology.addResidue("BEA", topology.addChain("A"), "7", "B")
    topology.addAtom("X", None, residue)
    data = topology_data(topology)
    assert data["atoms"] == [["X", "", "BEA", "7B", "A"]]
    assert next(build_topology(data).atoms()).element is None
