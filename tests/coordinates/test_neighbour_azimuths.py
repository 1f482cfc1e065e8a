"""Azimuths about any bond of an atom, from angles and torsions alone, are those of the positions."""

import pytest
from corpus import chart

from boltzgen.coordinates.geometry import dihedral, wrap
from boltzgen.coordinates.neighbour_azimuths import NeighbourAzimuths


@pytest.mark.parametrize("name", ["ACE-THR-NME", "toluene", "methanol", "neopentane"])
def test_they_are_those_of_the_positions_at_every_atom_about_every_bond(name, near):
    coordinates = chart(name)
    rows = coordinates.zmatrix
    around = {row.atom: {row.bond} for row in rows[1:]}
    for row in rows[1:]:
        around.setdefault(row.bond, set()).add(row.atom)
    quadruples = [
        (a, b, c, d)
        for b, neighbours in around.items()
        for a in neighbours
        for c in neighbours - {a}
        for d in neighbours - {a, c}
    ]
    x = coordinates(near(coordinates, 20))[0]
    _, theta, tau = coordinates._measure(x.permute(2, 1, 0))
    found = NeighbourAzimuths(quadruples, rows)(theta, tau)
    assert len(quadruples) == len(found) > 10
    for quadruple, azimuths in zip(quadruples, found, strict=True):
        assert wrap(azimuths - dihedral(x, quadruple)).abs().max() < 1e-9
