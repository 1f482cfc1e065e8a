"""Internal coordinates: the measure, the chart and its symmetry, round trips, refusals."""

import copy
import itertools
import math
import pickle

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from boltzgen.coordinates import InternalCoordinates, dihedral, z_matrix
from boltzgen.coordinates.geometry import wrap
from boltzgen.coordinates.symmetry import relabel
from boltzgen.energies import Pullback
from boltzgen.errors import InputError
from boltzgen.molecule import Molecule
from boltzgen.units import kT

ROUND_TRIP_32 = 1e-5  # nm
ROUND_TRIP_64 = 1e-12  # nm
NAMES = ["butane", "benzene", "ALA", "ILE", "THR", "PRO", "TRP", "VAL"]


def draws(coordinates, n, *, seed=0, siblings=True):
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


def near(coordinates, n, noise=0.05, seed=0):
    """Configurations like the reference, every circular coordinate anywhere."""
    g = torch.Generator().manual_seed(seed)
    y = coordinates.reference + noise * torch.randn(n, 3 * coordinates.n_atoms - 6, generator=g, dtype=torch.float64)
    y[:, : coordinates.n_atoms - 1] = coordinates.reference[: coordinates.n_atoms - 1]
    turn = math.pi * (2 * torch.rand(n, int(coordinates.circular.sum()), generator=g, dtype=torch.float64) - 1)
    y[:, coordinates.circular] = turn
    return y


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


# ---------------------------------------------------------------------- the measure


def square_map(coordinates, p):
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


@pytest.mark.parametrize("name", ["butane", "benzene", "PRO", "alanine"])
def test_log_det_is_that_of_the_square_map(structures, alanine, name):
    coordinates = InternalCoordinates(alanine if name == "alanine" else structures[name])
    y = near(coordinates, 2)
    for row, log_det in zip(y, coordinates(y)[1], strict=True):
        motion = torch.tensor([0.3, -0.2, 0.1, 0.7, 1.1, -2.0], dtype=torch.float64)
        p = torch.cat([motion, row])
        jacobian = torch.autograd.functional.jacobian(lambda p: square_map(coordinates, p), p)
        expected = torch.linalg.slogdet(jacobian).logabsdet - motion[4].sin().log()  # rigid motion has sin β
        torch.testing.assert_close(log_det, expected, atol=1e-9, rtol=0)


CHAIN = {"bonds": [(0, 1), (1, 2), (2, 3), (2, 4)], "elements": ["C"] * 5}
BOND, ANGLE = (0.15, 1.5e4), (1.9, 60.0)  # nm, kJ/mol/nm²; rad, kJ/mol/rad²: soft, so that the measure matters


@pytest.fixture(scope="module")
def harmonic():
    """Five atoms held together by harmonic bonds and by a harmonic spring on each angle of the z-matrix."""
    rows = z_matrix(5, **CHAIN)
    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    atoms = [topology.addAtom(f"C{k}", app.Element.getBySymbol("C"), residue) for k in range(5)]
    bonds, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    for _ in atoms:
        system.addParticle(12.0)
    for i, j in CHAIN["bonds"]:
        topology.addBond(atoms[i], atoms[j])
        bonds.addBond(i, j, *BOND)
    for row in rows[2:]:
        angles.addAngle(*row[:3], *ANGLE)
    system.addForce(bonds)
    system.addForce(angles)
    positions = np.array([[0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0], [0.3, 0.14, 0.1], [0.1, 0.24, 0.05]])
    return Molecule.from_openmm(system, topology, positions)


def harmonic_log_partition(temperature):
    """Closed form: the integrals over one r and one θ, as often as there are, 2π for a torsion, π for a sibling's."""
    r, theta = torch.linspace(1e-6, 0.6, 200_001).double(), torch.linspace(0, math.pi, 200_001).double()
    bond = torch.trapezoid(r**2 * (-BOND[1] / 2 * (r - BOND[0]) ** 2 / kT(temperature)).exp(), r)
    angle = torch.trapezoid(theta.sin() * (-ANGLE[1] / 2 * (theta - ANGLE[0]) ** 2 / kT(temperature)).exp(), theta)
    return (4 * bond.log() + 3 * angle.log()).item() + math.log(2 * math.pi) + math.log(math.pi)


def test_harmonic_molecule_has_the_log_partition_of_its_closed_form(harmonic):
    temperature, n = 300.0, 20_000
    coordinates = InternalCoordinates(harmonic)
    assert [row.kind for row in coordinates.zmatrix[3:]].count("sibling") == 1
    target = Pullback(harmonic.energy(temperature), coordinates)
    sigma = [1.2 * math.sqrt(kT(temperature) / k) for k in (BOND[1], ANGLE[1])]
    law = torch.distributions.Normal(
        torch.tensor([BOND[0]] * 4 + [ANGLE[0]] * 3).double(), torch.tensor([sigma[0]] * 4 + [sigma[1]] * 3).double()
    )
    y = draws(coordinates, n)
    z = torch.randn(n, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y[:, :7] = law.mean + law.stddev * z
    log_q = law.log_prob(y[:, :7]).sum(-1) - math.log(2 * math.pi) - math.log(math.pi)

    def log_partition(log_w):
        w = (log_w - log_w.max()).exp()
        return (w.mean().log() + log_w.max()).item(), (w.std() / w.mean() / math.sqrt(n)).item()

    log_w = -target.energy(y) - log_q
    value, error = log_partition(log_w)
    exact = harmonic_log_partition(temperature)
    assert error < 0.02
    assert abs(value - exact) < 4 * error
    first_three = 2 * y[:, :2].clamp_min(1e-9).log().sum(-1) + y[:, 4].sin().clamp_min(1e-9).log()
    volume = first_three.mean()  # even if its mean were made good, the dropped term would show
    value, error = log_partition(log_w - first_three + volume)
    assert abs(value - exact) > 4 * error


# ---------------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, ROUND_TRIP_32), (torch.float64, ROUND_TRIP_64)])
def test_positions_come_back(structures, name, dtype, tolerance):
    coordinates = InternalCoordinates(structures[name])
    x = coordinates(near(coordinates, 100))[0].to(dtype)
    y, log_det = coordinates.inverse(x)
    back, back_log_det = coordinates(y)
    assert back.dtype == y.dtype == log_det.dtype == dtype
    assert (superposed(back.double(), x.double()) - x.double()).abs().max() < tolerance
    assert torch.equal(log_det, -back_log_det)


@pytest.mark.parametrize("name", NAMES)
def test_coordinates_come_back(structures, name):
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


def test_rows_do_not_see_each_other(ala):
    y = near(ala, 10)
    assert torch.equal(ala(y[3:4])[0], ala(y)[0][3:4])


# ---------------------------------------------------------------------- symmetry


@pytest.mark.parametrize(("name", "centres"), [("ALA", ["CA"]), ("ILE", ["CA", "CB"]), ("THR", ["CA", "CB"])])
def test_chirality_never_flips(structures, name, centres):
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


def test_mirror_images_lie_outside_the_chart(alanine, ala):
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


def test_a_mirrored_start_stays_mirrored(alanine):
    system, topology = alanine.system, alanine.topology
    coordinates = InternalCoordinates(Molecule.from_openmm(system, topology, alanine.positions * [1, 1, -1]))
    atoms = [alanine.atom_labels.index(f"ALA2-{name}") for name in ("CA", "N", "C", "CB")]
    own = handedness(torch.tensor(alanine.positions)[None], atoms)
    assert (handedness(coordinates(draws(coordinates, 1000))[0], atoms) == -own).all()


def test_exactly_one_labelling_of_a_rotor_lies_in_the_chart(butane):
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


def test_folding_does_not_change_log_z(structure):
    """A hindered, floppy rotor: importance sampling with and without the fold agrees once log 3 is counted."""

    def u(x):
        azimuths = [dihedral(x, (k, 2, 1, 0)) for k in (3, 4, 5)]
        lengths = [(x[:, i] - x[:, j]).norm(dim=-1) for i, j in [(3, 4), (4, 5), (5, 3)]]
        return sum(100 * (r - 0.2) ** 2 for r in lengths) + sum(a.cos() + 0.8 * (2 * a + 0.5).cos() for a in azimuths)

    hydroperoxide = structure([(0, 1), (1, 2), (2, 3), (2, 4), (2, 5)], ["O", "O", "C", "H", "H", "H"], u=u)
    values = {}
    for fold in (True, False):
        coordinates = InternalCoordinates(hydroperoxide, fold=fold)
        assert len(coordinates.rotors) == fold
        y = draws(coordinates, 50_000, seed=int(fold))
        x, log_det = coordinates(y)
        # the law of the draws: the sibling behind is uniform on an interval as long as the azimuth of the one ahead
        log_q = -(y[:, -2 if coordinates._opposite[0] == 1 else -1]).log()
        w = (-u(x) + log_det + coordinates.log_symmetry - log_q).exp()
        values[fold] = (w.mean().log().item(), (w.std() / w.mean() / math.sqrt(len(w))).item())
    error = math.hypot(values[True][1], values[False][1])
    assert error < 0.03
    assert abs(values[True][0] - values[False][0]) < 4 * error
    assert abs(values[True][0] - math.log(3) - values[False][0]) > 4 * error


# ---------------------------------------------------------------------- the edges of the chart


def test_outside_the_chart_nothing_is_nan(ala):
    n = ala.n_atoms
    y = near(ala, 7)
    y[1, 0], y[2, 3], y[3, n], y[4, n + 1] = 0.0, -0.1, math.pi, -0.2
    y[5, next(i for i, label in enumerate(ala.labels) if label.startswith("improper ALA2-CB"))] *= -1
    second, third = (int(k[0]) + 2 * n - 3 for k in ala._turns[1:])
    y[6, second], y[6, third] = 0.3, -0.3  # three hydrogens on one side
    y.requires_grad_()
    x, log_det = ala(y)
    assert torch.isfinite(log_det[0])
    assert (log_det[1:] == -math.inf).all()
    assert torch.isfinite(x).all()
    (gradient,) = torch.autograd.grad(x.square().sum() + log_det.sum(), y)
    assert torch.isfinite(gradient).all()


def test_a_frame_that_is_not_a_number_harms_no_other(alanine, ala):
    x = torch.tensor(alanine.positions).repeat(3, 1, 1)
    x[1, 4, 0] = math.nan
    y, log_det = ala.inverse(x)
    assert log_det[1] == -math.inf
    clean = ala.inverse(x[::2])
    assert torch.equal(y[::2], clean[0])
    assert torch.equal(log_det[::2], clean[1])


def test_second_derivatives(butane):
    coordinates = InternalCoordinates(butane)
    y = near(coordinates, 1).requires_grad_()

    def scalar(y):
        x, log_det = coordinates(y)
        return (x.sin().sum((1, 2)) + log_det).sum()

    assert torch.autograd.gradgradcheck(scalar, y)


def test_traces_into_one_graph(ala):
    y = near(ala, 4)
    compiled = torch.compile(lambda y: ala._forward(y, None), dynamic=False, fullgraph=True, backend="aot_eager")
    back = torch.compile(lambda x: ala._inverse(x, None), dynamic=False, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(y), ala(y), strict=True):
        assert torch.equal(found, expected)
    x = ala(y)[0]
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


def test_torsions_by_name_and_by_atoms(alanine, ala):
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


def test_copies_and_pickles(ala):
    y = near(ala, 3)
    for other in (copy.deepcopy(ala), pickle.loads(pickle.dumps(ala))):
        assert torch.equal(other(y)[0], ala(y)[0])
        assert other.labels == ala.labels
    assert not ala.state_dict()


# ---------------------------------------------------------------------- refusals


def test_linear_groups_are_refused_naming_atoms(structures):
    acetylene = copy.copy(structures["butane"])
    acetylene.n_atoms, acetylene.elements, acetylene.bonds = 4, ["H", "C", "C", "H"], [(0, 1), (1, 2), (2, 3)]
    acetylene.positions = np.array([[0, 0, 0], [0.106, 0, 0], [0.226, 0, 0], [0.332, 0, 0]])
    acetylene.atom_labels = ["H1", "C1", "C2", "H2"]
    with pytest.raises(InputError, match=r"away from 0 and 180 degrees; got 180.0 for \w\w - \w\w - \w\w"):
        InternalCoordinates(acetylene)


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
