"""Bond lengths tell wrong units and wrong atom order from hot but honest frames."""

import numpy as np
import openmm
import pytest
from openmm import app

from boltzgen.errors import InputError
from boltzgen.molecule.plausibility import check_bond_lengths, expected_bond_lengths

LABELS = ["C", "H1", "H2", "H3", "H4"]
BONDS = [(0, 1), (0, 2), (0, 3), (0, 4)]
METHANE = 0.109 / np.sqrt(3) * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
LENGTHS = dict.fromkeys(BONDS, 0.109)


def test_covalent_radii_where_the_system_has_no_bonds():
    lengths = expected_bond_lengths(openmm.System(), ["C", "H", "H", "H", "H"], BONDS)
    assert lengths == pytest.approx(dict.fromkeys(BONDS, 0.107))
    assert expected_bond_lengths(openmm.System(), ["", ""], [(0, 1)]) == {}  # beads: unknown, hence not judged


def test_every_covalent_radius_belongs_to_an_element():
    from boltzgen.molecule.plausibility import _COVALENT_RADII

    assert all(app.Element.getBySymbol(symbol).symbol == symbol for symbol in _COVALENT_RADII)


def test_stiff_bonds_of_the_system_go_before_and_restraints_do_not_count():
    system = openmm.System()
    force = openmm.HarmonicBondForce()
    force.addBond(1, 0, 0.1, 3e5)
    force.addBond(2, 3, 0.9, 1e3)
    system.addForce(force)
    lengths = expected_bond_lengths(system, ["C", "H", "H", "H", "H"], BONDS)
    assert lengths[0, 1] == 0.1
    assert (2, 3) not in lengths


@pytest.mark.parametrize(("factor", "says"), [(10, "looks like ångström: divide"), (0.1, "divided by 10: multiply")])
def test_units(factor, says):
    x = METHANE + 0.005 * np.random.default_rng(0).normal(size=(20, 5, 3))
    check_bond_lengths(x, LENGTHS, LABELS)
    with pytest.raises(InputError, match=says):
        check_bond_lengths(factor * x, LENGTHS, LABELS)


def test_permuted_atoms_are_named():
    with pytest.raises(InputError, match=r"the bond C–H\d must be about 0.109 nm long; got 0.178 nm"):
        check_bond_lengths(METHANE[None, [1, 0, 2, 3, 4]], LENGTHS, LABELS)


def test_coincident_atoms_are_a_wrong_bond():
    x = METHANE[None].copy()
    x[:, 1] = x[:, 0]
    with pytest.raises(InputError, match=r"got 0\.000 nm"):
        check_bond_lengths(x, LENGTHS, LABELS)


def test_a_few_bad_frames_are_left_to_the_energy():
    x = np.repeat(METHANE[None], 10, axis=0)
    x[0, 0, 0], x[1, 0, 0], x[2, 1] = np.nan, np.inf, 5.0
    check_bond_lengths(x, LENGTHS, LABELS)
    check_bond_lengths(x[:2], LENGTHS, LABELS)
    with pytest.raises(InputError, match="ångström"):
        check_bond_lengths(10 * x, LENGTHS, LABELS)
