"""The molecule's parts fit each other, or the mistake is named; it survives as plain data."""

import itertools
import json

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.openmm_energy import OpenMMEnergy
from boltzgen.errors import CheckpointError, InputError, UnsupportedSystemError
from boltzgen.molecule import Molecule, find
from boltzgen.units import kT

FORCE_TOLERANCE = 1e-2  # kJ/mol/nm, of forces that are thousands away from a minimum


@pytest.fixture(scope="module")
def molecule():
    return Molecule.load("alanine_dipeptide")


def permuted(topology, order):
    """The topology with its atoms in another order, bonds and names moving along."""
    atoms = list(topology.atoms())
    result, new = app.Topology(), {}
    chain = result.addChain("A")
    residues = {r: result.addResidue(r.name, chain, r.id) for r in topology.residues()}
    for k in order:
        new[k] = result.addAtom(atoms[k].name, atoms[k].element, residues[atoms[k].residue])
    for bond in topology.bonds():
        result.addBond(new[bond[0].index], new[bond[1].index])
    return result


def force(system, x):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    return context.getState(getForces=True).getForces(asNumpy=True)._value


def test_what_it_knows(molecule):
    assert molecule.n_atoms == len(molecule.elements) == len(molecule.atom_labels) == 22
    assert molecule.positions.shape == (22, 3)
    assert molecule.positions.dtype == np.float64
    assert molecule.masses.sum() == pytest.approx(144.176, abs=0.01)
    assert len(molecule.bonds) == 21
    assert all(i < j for i, j in molecule.bonds)
    assert molecule.torsions["phi"] == (4, 6, 8, 14)
    assert molecule.torsions["psi"] == (6, 8, 14, 16)
    assert molecule.default_temperature == 300.0
    assert (molecule.elements[8], molecule.atom_labels[8]) == ("C", "ALA2-CA")
    assert repr(molecule).startswith("Molecule('alanine_dipeptide', 22 atoms")


def test_its_arrays_cannot_be_written(molecule):
    with pytest.raises(ValueError, match="read-only"):
        molecule.positions[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        molecule.masses[0] = 1.0


def test_positions_given_are_copied(molecule):
    x = molecule.positions.copy()
    other = Molecule.from_openmm(molecule.system, molecule.topology, x)
    x[0, 0] = 9.0
    np.testing.assert_array_equal(other.positions, molecule.positions)


@pytest.mark.parametrize("given", ["quantity", "angstrom", "vec3", "float32", "list"])
def test_positions_as_openmm_users_hold_them(molecule, given):
    x = molecule.positions
    forms = {
        "quantity": x * unit.nanometer,
        "angstrom": 10 * x * unit.angstrom,
        "vec3": [openmm.Vec3(*row) for row in x] * unit.nanometer,
        "float32": torch.tensor(x, dtype=torch.float32),
        "list": x.tolist(),
    }
    other = Molecule.from_openmm(molecule.system, molecule.topology, forms[given])
    np.testing.assert_allclose(other.positions, x, atol=1e-7)


# ---------------------------------------------------------------------- energies


def test_backends(molecule):
    x = torch.tensor(molecule.positions)[None]
    torch_, openmm_ = molecule.energy(300.0, backend="torch"), molecule.energy(300.0, backend="openmm")
    assert isinstance(torch_, ForceFieldEnergy)
    assert isinstance(openmm_, OpenMMEnergy)
    assert isinstance(molecule.energy(300.0), ForceFieldEnergy)
    assert torch_.energy(x).item() * kT(300.0) == pytest.approx(-173.0415, abs=1e-3)
    assert openmm_.energy(x).item() * kT(300.0) == pytest.approx(-173.0415, abs=1e-3)


def test_auto_takes_openmm_for_what_is_not_compiled(molecule):
    system = openmm.XmlSerializer.clone(molecule.system)
    rg = openmm.RMSDForce(molecule.positions * unit.nanometer)
    system.addForce(rg)
    other = Molecule.from_openmm(system, molecule.topology, molecule.positions)
    assert isinstance(other.energy(300.0), OpenMMEnergy)
    with pytest.raises(UnsupportedSystemError, match=r'RMSDForce.*use backend="openmm"'):
        other.energy(300.0, backend="torch")


def test_energy_refuses_what_it_cannot_do(molecule):
    with pytest.raises(InputError, match=r"backend must be .* got 'cuda'"):
        molecule.energy(300.0, backend="cuda")
    for temperature in (0.0, -1.0, float("nan"), None):
        with pytest.raises(InputError, match="temperature must be"):
            molecule.energy(temperature)


def test_minimized_is_a_minimum_and_the_same_each_time():
    vacuum = Molecule.from_pdb(find("alanine_dipeptide").structure, ["amber96.xml"])
    start = Molecule.from_openmm(
        vacuum.system, vacuum.topology, vacuum.positions + 1e-3 * np.sin(np.arange(66)).reshape(22, 3)
    )
    minimum = start.minimized()
    assert np.abs(force(start.system, start.positions)).max() > 100
    assert np.abs(force(minimum.system, minimum.positions)).max() < FORCE_TOLERANCE
    np.testing.assert_array_equal(minimum.positions, start.minimized().positions)
    assert minimum.fingerprint == start.fingerprint
    assert minimum.torsions == start.torsions


# ---------------------------------------------------------------------- parts that do not fit


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: 10 * x, "looks like ångström: divide them by 10"),
        (lambda x: x / 10, "multiply them by 10"),
        (lambda x: x[1:], r"shape \(22, 3\); got \(21, 3\): this molecule has 22 atoms"),
        (lambda x: x.ravel(), r"got \(66,\): reshape with x\.reshape\(22, 3\)"),
        (lambda x: x[None], r"write x\[0\]"),
        (lambda x: x[:, :2], r"got \(22, 2\)"),
        (lambda x: np.where(np.arange(66).reshape(22, 3) == 26, np.nan, x), "got NaN or infinity at ALA2-CA"),
        (lambda x: x * unit.kilojoule_per_mole, "a length"),
        (lambda x: "abc", "got str"),
        (lambda x: None, "positions must have shape"),
        (lambda x: x[[*range(9), 11, 10, 9, *range(12, 22)]], "the bond ALA2-C.–ALA2-H.* must be about 0.109 nm"),
    ],
)
def test_wrong_positions(molecule, change, says):
    with pytest.raises(InputError, match=says):
        Molecule.from_openmm(molecule.system, molecule.topology, change(molecule.positions))


def test_topology_and_system_of_different_size(molecule):
    with pytest.raises(InputError, match="got 21 in the topology and 22 in the system"):
        Molecule.from_openmm(molecule.system, permuted_without_last(molecule.topology), molecule.positions)
    with pytest.raises(InputError, match=r"must be an openmm\.app\.Topology; got NoneType"):
        Molecule.from_openmm(molecule.system, None, molecule.positions)


def permuted_without_last(topology):
    modeller = app.Modeller(topology, np.zeros((22, 3)) * unit.nanometer)
    modeller.delete([list(topology.atoms())[-1]])
    return modeller.topology


def test_topology_and_system_in_different_order(molecule):
    order = [*range(8), 10, 9, 8, *range(11, 22)]
    with pytest.raises(InputError, match="must be about"):
        Molecule.from_openmm(molecule.system, permuted(molecule.topology, order), molecule.positions[order])


def test_a_system_that_cannot_be_sampled(molecule):
    system = openmm.XmlSerializer.clone(molecule.system)
    system.addConstraint(0, 1, 0.109)
    with pytest.raises(UnsupportedSystemError, match="constraints"):
        Molecule.from_openmm(system, molecule.topology, molecule.positions)
    with pytest.raises(InputError, match="got NoneType"):
        Molecule.from_openmm(None, molecule.topology, molecule.positions)


# ---------------------------------------------------------------------- frames of a user


def test_check_positions_passes_good_frames_through(molecule):
    x = molecule.positions[None].repeat(3, 0)
    np.testing.assert_array_equal(molecule.check_positions(x), x)
    np.testing.assert_array_equal(molecule.check_positions(torch.tensor(x, requires_grad=True)), x)
    np.testing.assert_allclose(molecule.check_positions(10 * x * unit.angstrom), x, rtol=1e-12)
    x[1, 0, 0] = np.nan
    np.testing.assert_array_equal(molecule.check_positions(x), x)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: 10 * x, "looks like ångström"),
        (lambda x: x / 10, "multiply them by 10"),
        (lambda x: x[0], r"\(n, 22, 3\); got \(22, 3\): write x\[None\]"),
        (lambda x: x.reshape(len(x), -1), r"reshape with x\.reshape\(-1, 22, 3\)"),
        (lambda x: x[:, 1:], r"got \(4, 21, 3\): this molecule has 22 atoms"),
        (lambda x: x[:, ::-1], "the bond"),
        (lambda x: [[1, 2], [3]], "got list: use numpy"),
    ],
)
def test_check_positions_names_the_mistake(molecule, change, says):
    with pytest.raises(InputError, match=says):
        molecule.check_positions(change(molecule.positions[None].repeat(4, 0)))


@pytest.mark.parametrize("pair", list(itertools.combinations(range(22), 2)), ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_any_exchange_of_two_atoms_is_noticed_unless_it_is_a_symmetry(molecule, pair):
    i, j = pair
    order = list(range(22))
    order[i], order[j] = j, i
    carriers = [{a for bond in molecule.bonds if k in bond for a in bond} - {k} for k in pair]
    if molecule.elements[i] == molecule.elements[j] == "H" and carriers[0] == carriers[1]:
        molecule.check_positions(molecule.positions[order][None])
    else:
        with pytest.raises(InputError, match="the bond"):
            molecule.check_positions(molecule.positions[order][None])


# ---------------------------------------------------------------------- fingerprint and plain data


def test_the_fingerprint_tells_force_fields_and_names_apart(molecule):
    again = Molecule.load("alanine_dipeptide")
    assert again.fingerprint == molecule.fingerprint
    assert len(molecule.fingerprint) == 64
    structure = find("alanine_dipeptide").structure
    assert Molecule.from_pdb(structure, ["amber96.xml", "implicit/obc1.xml"]).fingerprint == molecule.fingerprint
    assert Molecule.from_pdb(structure, ["amber96.xml", "implicit/obc2.xml"]).fingerprint != molecule.fingerprint
    renamed = permuted(molecule.topology, range(22))
    next(renamed.residues()).name = "ACX"
    assert Molecule.from_openmm(molecule.system, renamed, molecule.positions).fingerprint != molecule.fingerprint


def test_it_survives_as_plain_json(molecule):
    again = Molecule.from_state(json.loads(json.dumps(molecule.state())))
    assert again.fingerprint == molecule.fingerprint
    assert again.state() == molecule.state()
    np.testing.assert_array_equal(again.positions, molecule.positions)
    assert (again.torsions, again.bonds, again.atom_labels) == (molecule.torsions, molecule.bonds, molecule.atom_labels)
    x = torch.tensor(molecule.positions)[None]
    assert torch.equal(again.energy(300.0).energy(x), molecule.energy(300.0).energy(x))


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.pop("system"),
        lambda s: s.update(system="<System/>"),
        lambda s: s.update(system="garbage"),
        lambda s: s.update(positions=s["positions"][1:]),
        lambda s: s["topology"]["bonds"].append([0, 99]),
        lambda s: s["topology"]["atoms"][0].pop(),
        lambda s: s["topology"]["atoms"][0].__setitem__(1, "Xx"),
        lambda s: s.update(torsions={"x": [0, 1]}),
        lambda s: s.update(temperature=-1.0),
        lambda s: s.update(topology=None),
    ],
)
def test_damaged_data_are_a_checkpoint_error(molecule, damage):
    state = json.loads(json.dumps(molecule.state()))
    damage(state)
    with pytest.raises(CheckpointError, match=r"must be the data that Molecule\.state\(\) gave"):
        Molecule.from_state(state)


def test_code_in_saved_data_is_not_run(molecule):
    state = json.loads(json.dumps(molecule.state()))
    force = '<Force type="PythonForce" version="1" name="x"/>'
    state["system"] = state["system"].replace("<Forces>", f"<Forces>{force}", 1)
    with pytest.raises(CheckpointError, match="PythonForce"):
        Molecule.from_state(state)
