"""Internal coordinates: the measure, the chart and its symmetry, round trips, refusals."""

import copy
import dataclasses
import itertools
import math
import pickle

import numpy as np
import openmm
import pytest
import torch

from boltzgen.coordinates import InternalCoordinates, dihedral
from boltzgen.coordinates.geometry import wrap
from boltzgen.coordinates.symmetry import relabel
from boltzgen.errors import InputError, UnsupportedSystemError
from boltzgen.molecule import Molecule

ROUND_TRIP_32 = 1e-5  # nm
ROUND_TRIP_64 = 1e-12  # nm
NAMES = ["butane", "benzene", "ALA", "ILE", "THR", "PRO", "TRP", "VAL"]


def superposed(x, onto):
    """x moved rigidly (no mirror) onto the other positions, (n, N, 3) each."""
    a, b = x - x.mean(1, keepdim=True), onto - onto.mean(1, keepdim=True)
    u, _, v = torch.linalg.svd(a.mT @ b)
    u = torch.cat([u[..., :2], u[..., 2:] * torch.linalg.det(u @ v)[:, None, None]], -1)
    return a @ (u @ v) + onto.mean(1, keepdim=True)


def handedness(x, atoms):
    """Sign of the triple product at the first atom of the next three, (n,)."""
    a, b, c = (x[:, k] - x[:, atoms[0]] for k in atoms[1:])
    return (torch.linalg.cross(a, b) * c).sum(-1).sign()


@pytest.fixture(scope="module")
def ala(alanine):
    return InternalCoordinates(alanine)


# ---------------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, ROUND_TRIP_32), (torch.float64, ROUND_TRIP_64)])
def test_positions_come_back(structures, name, dtype, tolerance, near):
    coordinates = InternalCoordinates(structures[name])
    x = coordinates(near(coordinates, 100))[0].to(dtype)
    y, log_det = coordinates.inverse(x)
    back, back_log_det = coordinates(y)
    assert back.dtype == y.dtype == log_det.dtype == dtype
    assert (superposed(back.double(), x.double()) - x.double()).abs().max() < tolerance
    assert torch.equal(log_det, -back_log_det)


@pytest.mark.parametrize("name", NAMES)
def test_coordinates_come_back(structures, name, draws):
    coordinates = InternalCoordinates(structures[name])
    y = draws(coordinates, 200)
    y = y[torch.isfinite(coordinates(y)[1])]
    assert len(y) > 5
    back = coordinates.inverse(coordinates(y)[0])[0]
    difference = back - y
    difference[:, coordinates.circular] = wrap(difference[:, coordinates.circular])
    assert difference.abs().max() < 1e-9
    circular = back[:, coordinates.circular]
    assert ((circular >= -math.pi) & (circular < math.pi)).all()


def test_perturbed_frames_of_any_labelling_are_inverted_up_to_relabelling(alanine, ala):
    g = torch.Generator().manual_seed(0)
    x = torch.tensor(alanine.positions) + 0.01 * torch.randn(100, 22, 3, generator=g, dtype=torch.float64)
    for k, rotor in enumerate(ala.rotors):
        x = torch.cat([x[: 25 * k], relabel(x[25 * k :], rotor, k + 1)])
    y, log_det = ala.inverse(x)
    assert torch.isfinite(log_det).all()
    inside = ala.into_chart(x)
    assert not torch.equal(inside, x)
    assert (superposed(ala(y)[0], inside) - inside).abs().max() < ROUND_TRIP_64
    assert torch.equal(ala.into_chart(inside), inside)
    energy = alanine.energy(300.0)
    torch.testing.assert_close(energy.energy(ala(y)[0]), energy.energy(x), rtol=1e-9, atol=1e-7)


def test_rows_do_not_see_each_other(ala, near):
    y = near(ala, 10)
    assert torch.equal(ala(y[3:4])[0], ala(y)[0][3:4])


# ---------------------------------------------------------------------- symmetry


@pytest.mark.parametrize(("name", "centres"), [("ALA", ["CA"]), ("ILE", ["CA", "CB"]), ("THR", ["CA", "CB"])])
def test_chirality_never_flips(structures, name, centres, draws):
    s = structures[name]
    coordinates = InternalCoordinates(s)
    triples = []
    for middle in (s.atom_labels.index(f"{name}2-{centre}") for centre in centres):
        behind, first = next(row[2:4] for row in coordinates.zmatrix if row.kind == "sibling" and row.bond == middle)
        siblings = [row.atom for row in coordinates.zmatrix if row.torsion == first and row.bond == middle]
        triples += [(middle, behind, *pair) for pair in itertools.combinations([first, *siblings], 2)]
    assert len(triples) == 3 * len(centres)
    for seed in range(10):
        x, log_det = coordinates(draws(coordinates, 10_000, seed=seed).float())
        assert torch.isfinite(log_det).all()
        for atoms in triples:
            own = handedness(torch.tensor(s.positions)[None], atoms)
            assert (handedness(x, atoms) == own).all()


def test_mirror_images_lie_outside_the_chart(alanine, ala, draws):
    """Row 29: of draws round the full circle half are D-alanine, and log_det refuses each of them."""
    atoms = [alanine.atom_labels.index(f"ALA2-{name}") for name in ("CA", "N", "C", "CB")]
    own = handedness(torch.tensor(alanine.positions)[None], atoms)
    y = draws(ala, 100_000, siblings=False)
    x, log_det = ala(y)
    flipped = handedness(x, atoms) != own
    assert 0.45 < flipped.double().mean() < 0.55
    assert not torch.isfinite(log_det[flipped]).any()
    mirrored = torch.tensor(alanine.positions * [-1, 1, 1])[None]
    assert alanine.energy(300.0).energy(mirrored).isfinite()  # trap 7: the energy does not see it
    assert ala.inverse(mirrored)[1] == -math.inf


def test_a_mirrored_start_stays_mirrored(alanine, draws):
    system, topology = alanine.system, alanine.topology
    coordinates = InternalCoordinates(Molecule.from_openmm(system, topology, alanine.positions * [1, 1, -1]))
    atoms = [alanine.atom_labels.index(f"ALA2-{name}") for name in ("CA", "N", "C", "CB")]
    own = handedness(torch.tensor(alanine.positions)[None], atoms)
    assert (handedness(coordinates(draws(coordinates, 1000))[0], atoms) == -own).all()


def test_exactly_one_labelling_of_a_rotor_lies_in_the_chart(butane, near):
    """Folding is exact: the sectors of one rotor tile all labellings, however the three atoms are bent."""
    coordinates = InternalCoordinates(butane)
    assert len(coordinates.rotors) == 2
    assert coordinates.log_symmetry == pytest.approx(2 * math.log(3))
    free = InternalCoordinates(butane, fold=False)
    assert free.log_symmetry == 0
    rotor = coordinates.rotors[0]
    y = near(free, 4000, noise=0.3)
    x = free(y)[0]
    x = x[torch.isfinite(coordinates.inverse(x)[1])]
    assert len(x) > 500
    labellings = [relabel(x, rotor, k) for k in range(3)]
    here = [(coordinates.into_chart(v) == v)[:, list(rotor.members)].all(-1).all(-1) for v in labellings]
    assert (torch.stack(here).sum(0) == 1).all()
    row = next(row for row in coordinates.zmatrix if row.atom == rotor.members[0])
    naive = [
        dihedral(v, row[:4]).abs() < math.pi / 3 for v in labellings
    ]  # a sector of one atom's azimuth does not tile
    assert (torch.stack(naive).sum(0) != 1).any()


# ---------------------------------------------------------------------- the edges of the chart


def test_outside_the_chart_nothing_is_nan(ala, near):
    n = ala.n_atoms
    y = near(ala, 7)
    y[1, 0], y[2, 3], y[3, n], y[4, n + 1] = 0.0, -0.1, math.pi, -0.2
    y[5, next(i for i, label in enumerate(ala.labels) if label.startswith("improper ALA2-CB"))] *= -1
    second, third = (int(k) + 2 * n - 3 for k in ala._folding._slots[:, 0])
    y[6, second], y[6, third] = 0.3, -0.3  # three hydrogens on one side
    y.requires_grad_()
    x, log_det = ala(y)
    assert torch.isfinite(log_det[0])
    assert (log_det[1:] == -math.inf).all()
    assert torch.isfinite(x).all()
    (gradient,) = torch.autograd.grad(x.square().sum() + log_det.sum(), y)
    assert torch.isfinite(gradient).all()


def test_leaks_name_what_leads_out_of_the_chart(alanine, ala, draws):
    x = torch.tensor(alanine.positions)[None]
    assert ala.leaks(x) == {}
    assert set(ala.leaks(-x)) >= {f"improper ALA2-{name} ALA2-CA ALA2-N ALA2-C" for name in ("CB", "HA")}
    assert set(ala.leaks(x * math.nan)) == set(ala.labels)
    y = draws(ala, 1000, siblings=False)
    x = InternalCoordinates(alanine, fold=False)(y)[0]
    x = x[ala.inverse(x)[1] == -math.inf]
    counts = ala.leaks(x)
    assert len(x) > 900
    assert max(counts.values()) <= len(x) <= sum(counts.values())
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert all(name.startswith("improper") for name in counts)


def test_a_ring_leaks_by_the_hand_of_its_atoms(benzene, near):
    positions = np.array(benzene.positions) + 0.02 * np.random.default_rng(0).normal(size=(12, 3)) * [[1, 1, 5]]
    crumpled = dataclasses.replace(benzene, positions=positions)
    coordinates = InternalCoordinates(crumpled)
    x, log_det = coordinates(near(coordinates, 300, noise=0.5))
    counts = coordinates.leaks(x)
    assert any(name.startswith("handedness of C") for name in counts)
    assert max(counts.values()) <= int((log_det == -math.inf).sum()) <= sum(counts.values())


def test_a_frame_that_is_not_a_number_harms_no_other(alanine, ala):
    x = torch.tensor(alanine.positions).repeat(3, 1, 1)
    x[1, 4, 0] = math.nan
    y, log_det = ala.inverse(x)
    assert log_det[1] == -math.inf
    clean = ala.inverse(x[::2])
    assert torch.equal(y[::2], clean[0])
    assert torch.equal(log_det[::2], clean[1])


def test_second_derivatives(butane, near):
    coordinates = InternalCoordinates(butane)
    y = near(coordinates, 1).requires_grad_()

    def scalar(y):
        x, log_det = coordinates(y)
        return (x.sin().sum((1, 2)) + log_det).sum()

    assert torch.autograd.gradgradcheck(scalar, y)


@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_traces_into_one_graph(ala, near):
    y = near(ala, 4).requires_grad_()
    compiled = torch.compile(lambda y: ala._forward(y, None), dynamic=False, fullgraph=True, backend="aot_eager")
    back = torch.compile(lambda x: ala._inverse(x, None), dynamic=False, fullgraph=True, backend="aot_eager")
    slopes = []
    for outputs in (compiled(y), ala(y)):
        slopes += torch.autograd.grad(outputs[0].sin().sum() + outputs[1].sum(), y)
    assert torch.equal(*slopes)
    for found, expected in zip(compiled(y), ala(y), strict=True):
        assert torch.equal(found, expected)
    x = ala(y)[0].detach()
    for found, expected in zip(back(x), ala.inverse(x), strict=True):
        assert torch.equal(found, expected)


# ---------------------------------------------------------------------- what is read off


def test_layout_labels_and_reference(alanine, ala):
    assert ala.in_shape == (60,)
    assert ala.out_shape == (22, 3)
    assert len(ala.labels) == 60
    assert ala.labels[0].startswith("bond ")
    assert ala.labels[21].startswith("angle ")
    assert "torsion ACE1-C ALA2-N ALA2-CA ALA2-C" in ala.labels
    assert [label.split()[0] for label, c in zip(ala.labels, ala.circular, strict=True) if c] == ["torsion"] * 4 + [
        "rotor"
    ] * 3
    assert ala.reference.dtype == torch.float64
    x = torch.tensor(alanine.positions)[None]
    assert (superposed(ala(ala.reference[None])[0], x) - x).abs().max() < ROUND_TRIP_64


def test_torsions_by_name_and_by_atoms(alanine, ala, near):
    y = near(ala, 20)
    x = ala(y)[0]
    hydrogen = alanine.atom_labels.index("ALA2-HB1")
    side = [hydrogen, *(alanine.atom_labels.index(f"ALA2-{name}") for name in ("CB", "CA", "N"))]
    for atoms in ["phi", "psi", "omega_1", alanine.torsions["phi"][::-1], side, [0, 5, 9, 20]]:
        quadruple = alanine.torsions[atoms] if isinstance(atoms, str) else atoms
        found = ala.torsion(y, atoms)
        assert found.shape == (20,)
        assert wrap(found - dihedral(x, quadruple)).abs().max() < 1e-9
    column = ala.labels.index("torsion ACE1-C ALA2-N ALA2-CA ALA2-C")
    assert torch.equal(ala.torsion(y, "phi"), y[:, column])
    for wrong in ["chi1", [0, 1, 2], [0, 1, 2, 22], [0, 1, 2, 2]]:
        with pytest.raises(InputError, match="torsion must be"):
            ala.torsion(y, wrong)


def test_copies_and_pickles(ala, near):
    y = near(ala, 3)
    for other in (copy.deepcopy(ala), pickle.loads(pickle.dumps(ala))):
        assert torch.equal(other(y)[0], ala(y)[0])
        assert other.labels == ala.labels
    assert not ala.state_dict()


# ---------------------------------------------------------------------- refusals


def test_bonded_atoms_in_one_place_are_refused(butane):
    flat = copy.copy(butane)
    flat.positions = butane.positions.copy()
    flat.positions[1] = flat.positions[0]
    with pytest.raises(InputError, match=r"C\d and C\d at 0 nm"):
        InternalCoordinates(flat)


def test_three_atoms_have_three_coordinates(butane):
    water = copy.copy(butane)
    water.n_atoms, water.elements, water.bonds, water.atom_labels = (
        3,
        ["O", "H", "H"],
        [(0, 1), (0, 2)],
        ["O", "H1", "H2"],
    )
    water.positions = np.array([[0, 0, 0], [0.1, 0, 0], [-0.02, 0.1, 0]])
    coordinates = InternalCoordinates(water)
    y, log_det = coordinates.inverse(torch.tensor(water.positions)[None])
    assert y.shape == (1, 3)
    expected = 2 * y[:, :2].log().sum(-1) + y[:, 2].sin().log()
    torch.testing.assert_close(-log_det, expected)
    assert coordinates.labels[2] == "angle H2 O H1"


@pytest.mark.parametrize("shape", [(5, 59), (60,), (5, 22, 3)])
def test_shapes_are_checked(ala, shape):
    with pytest.raises(InputError, match="must have shape"):
        ala(torch.zeros(shape))
    with pytest.raises(InputError, match="y must have shape"):
        ala.torsion(torch.zeros(shape), "phi")


def test_shapes_of_frames_are_checked(ala):
    for call in (ala.inverse, ala.into_chart):
        with pytest.raises(InputError, match=r"x must have shape \(n, 22, 3\); got \(5, 21, 3\)"):
            call(torch.zeros(5, 21, 3))


def test_a_row_without_numbers_leaves_none_behind(ala, near):
    x, _ = ala(near(ala, 3))
    x[1, 4, 0] = torch.nan
    y, log_det = ala.inverse(x)
    assert torch.isfinite(y).all()
    assert log_det.isneginf().tolist() == [False, True, False]
    y[2, 7] = torch.inf
    x, log_det = ala(y)
    assert torch.isfinite(x).all()
    assert log_det[2] == -torch.inf


def test_the_fingerprint_tells_charts_apart(alanine, ala):
    moved = alanine.positions + 1e-4 * np.random.default_rng(0).normal(size=alanine.positions.shape)
    system, topology = alanine.system, alanine.topology
    again, mirrored = (
        InternalCoordinates(Molecule.from_openmm(system, topology, positions))
        for positions in (moved, alanine.positions * [1, 1, -1])
    )
    assert again.fingerprint == ala.fingerprint
    assert mirrored.fingerprint != ala.fingerprint
    assert InternalCoordinates(alanine, fold=False).fingerprint != ala.fingerprint


def restrained(molecule, force):
    """The molecule with one more force."""
    system = openmm.XmlSerializer.clone(molecule.system)
    system.addForce(force)
    return Molecule.from_openmm(system, molecule.topology, molecule.positions)


def tether():
    """Holds two atoms to places."""
    force = openmm.CustomExternalForce("1000*((x-x0)^2+y^2+z^2)")
    force.addPerParticleParameter("x0")
    for atom in (0, 5):
        force.addParticle(atom, [0.1])
    force.setName("tether")
    return force


def oriented(text):
    """A compound of two atoms that names coordinates."""
    force = openmm.CustomCompoundBondForce(2, text)
    force.addBond([0, 5], [])
    return force


def nested():
    force = openmm.CustomCVForce("v^2")
    force.addCollectiveVariable("v", oriented("z1"))
    return force


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (tether, "tether"),
        (lambda: oriented("100*(y2-1)^2"), "CustomCompoundBondForce"),
        (lambda: oriented("100*(z1-z2)^2"), "CustomCompoundBondForce"),  # moves freely, but does not turn
        (nested, "CustomCVForce"),
    ],
)
def test_an_energy_that_feels_where_the_molecule_is_is_refused(alanine, make, name):
    """Rows 25, 26: rigid motion is not integrated out where it costs energy."""
    with pytest.raises(
        UnsupportedSystemError, match=rf"must not change as it moves .* got .* kT .*, with {name}: leave"
    ):
        InternalCoordinates(restrained(alanine, make()))


def test_an_orientation_restraint_is_refused(alanine):
    force = openmm.OrientationRestraintForce(1000.0, alanine.positions, [])
    with pytest.raises(UnsupportedSystemError, match=r"with OrientationRestraintForce: "):
        InternalCoordinates(restrained(alanine, force))


@pytest.mark.parametrize(
    "make",
    [
        lambda: oriented("100*((x1-x2)^2+(y1-y2)^2+(z1-z2)^2)"),
        lambda: openmm.CustomExternalForce("x^2"),  # of no atoms
        lambda: openmm.RMSDForce(np.eye(22, 3)),
    ],
)
def test_formulae_that_name_coordinates_and_do_not_feel_where_the_molecule_is_are_allowed(alanine, make):
    assert InternalCoordinates(restrained(alanine, make())).n_atoms == 22
