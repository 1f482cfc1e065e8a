"""The z-matrix: every atom once, against atoms placed before it, from a central root."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltzgen.coordinates import z_matrix
from boltzgen.errors import InputError


@st.composite
def graphs(draw):
    """Connected graphs with at most three more bonds than a tree."""
    n = draw(st.integers(3, 14))
    bonds = {(draw(st.integers(0, k - 1)), k) for k in range(1, n)}
    extra = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=3))
    bonds |= {(min(pair), max(pair)) for pair in extra if pair[0] != pair[1]}
    return n, sorted(bonds), draw(st.lists(st.sampled_from("CH"), min_size=n, max_size=n))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(graphs())
def test_every_atom_is_placed_once_against_earlier_ones(graph):
    n, bonds, elements = graph
    rows = z_matrix(n, bonds, elements)
    assert sorted(row.atom for row in rows) == list(range(n))
    placed = set()
    for i, row in enumerate(rows):
        known = [k for k in row[1:4] if k >= 0]
        assert len(known) == min(i, 3)
        assert set(known) <= placed
        assert len({row.atom, *known}) == len(known) + 1
        assert i == 0 or (min(row[:2]), max(row[:2])) in bonds
        assert (row.kind == "") == (i < 3)
        placed.add(row.atom)


def test_siblings_are_measured_against_the_first_about_the_same_bond():
    rows = z_matrix(5, [(0, 1), (1, 2), (1, 3), (1, 4)], ["C"] * 5)
    assert [row.kind for row in rows] == ["", "", "", "sibling", "sibling"]
    assert {row[1:4] for row in rows[3:]} == {(1, 0, 2)}


def test_alanine_dipeptide_has_its_backbone_first(alanine):
    rows = z_matrix(alanine.n_atoms, alanine.bonds, alanine.elements, alanine.torsions)
    turning = [row[:4] for row in rows if row.kind == "circular"]
    names = {tuple(atoms): name for name, atoms in alanine.torsions.items()}
    found = [names.get(q, names.get(q[::-1])) for q in turning]
    assert set(found[:2]) == {"phi", "psi"}
    assert set(found[2:4]) == {"omega_1", "omega_2"}
    assert found[4:] == [None] * 3


@pytest.mark.parametrize("residue", ["ILE", "THR", "TRP", "VAL"])
def test_named_torsions_are_coordinates(structures, residue):
    s = structures[residue]
    made = {row[:4] for row in z_matrix(s.n_atoms, s.bonds, s.elements, s.torsions)}
    for atoms in s.torsions.values():
        assert tuple(atoms) in made or tuple(atoms)[::-1] in made


def test_torsions_about_ring_bonds_are_stiff(benzene, butane, structures):
    assert {row.kind for row in z_matrix(12, benzene.bonds, benzene.elements)} == {"", "ring", "sibling"}
    assert {row.kind for row in z_matrix(14, butane.bonds, butane.elements)} == {"", "circular", "sibling"}
    proline = structures["PRO"]
    label = proline.atom_labels
    ring = {"PRO2-N", "PRO2-CA", "PRO2-CB", "PRO2-CG", "PRO2-CD"}
    for row in z_matrix(proline.n_atoms, proline.bonds, proline.elements, proline.torsions)[3:]:
        if row.kind != "sibling":
            assert (row.kind == "ring") == ({label[row.bond], label[row.angle]} <= ring)


def test_the_root_is_in_no_ring_if_it_can_be():
    ring = [(k, (k + 1) % 6) for k in range(6)]
    tail = [*ring, (0, 6), (6, 7), (6, 8)]
    assert z_matrix(9, tail, ["C"] * 9)[0].atom == 6  # though 0 is as central
    assert z_matrix(7, [*ring, (0, 6)], ["C"] * 7)[0].atom == 0


def test_depth_is_that_of_the_graph():
    n = 101
    rows = z_matrix(n, [(k, k + 1) for k in range(n - 1)], ["C"] * n)
    assert rows[0].atom == n // 2


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_atoms_are_refused(n):
    with pytest.raises(InputError, match=f"at least 3 atoms to describe; got {n}"):
        z_matrix(n, [(0, 1)][: n - 1], ["C"] * n)


def test_separate_molecules_are_refused_naming_an_atom():
    labels = ["HOH1-O", "HOH1-H1", "HOH1-H2", "HOH2-O", "HOH2-H1", "HOH2-H2"]
    with pytest.raises(InputError, match=r"connected by bonds; got 3 \(HOH2-O first\)"):
        z_matrix(6, [(0, 1), (0, 2), (3, 4), (3, 5)], ["O", "H", "H"] * 2, labels=labels)
