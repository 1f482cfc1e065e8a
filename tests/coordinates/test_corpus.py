"""Any molecule: peptides of every residue, small molecules of every ring and line, each placed and measured exactly."""

import functools
import itertools
import math

import networkx
import numpy as np
import pytest
import torch
from corpus import NAMES, RESIDUES, chart, corpus

from boltzgen import Pullback, draw, log_partition, molecular_flow
from boltzgen.coordinates import InternalCoordinates, dihedral
from boltzgen.coordinates.geometry import wrap
from boltzgen.coordinates.symmetry import relabel
from boltzgen.errors import InputError

STANDARD = [name for name in RESIDUES if name not in ("ASH", "HID", "HIP", "LYN")]
PAIRS = sorted({pair for x in STANDARD for y in ("PRO", "GLY") for pair in ((x, y), (y, x))})
EVERY = [*NAMES, *(pytest.param(pair, id="-".join(pair)) for pair in PAIRS)]
ROUND_TRIP_32, ROUND_TRIP_64 = 1e-5, 1e-12  # nm


@pytest.fixture(scope="module")
def charted(graph):
    """Internal coordinates by name; of a pair between caps by the bonds alone, in idealised positions."""

    def found(name):
        return chart(name) if isinstance(name, str) else InternalCoordinates(graph("ACE", *name, "NME"))

    return functools.cache(found)


def displacements(x, y):
    """How far every atom of x (n, N, 3) is from its place in y after the best superposition, (n, N)."""
    x, y = (v.double() - v.double().mean(1, keepdim=True) for v in (x, y))
    u, _, v = torch.linalg.svd(x.mT @ y)
    u = u * torch.stack([u.new_ones(len(u)), u.new_ones(len(u)), torch.linalg.det(u @ v)], -1)[:, None]
    return (x @ u @ v - y).norm(dim=-1)


def handedness(x, atoms):
    """Sign of the triple product at the first atom of the next three, (n,)."""
    a, b, c = (x[:, k] - x[:, atoms[0]] for k in atoms[1:])
    return (torch.linalg.cross(a, b) * c).sum(-1).sign()


def stereocentres(coordinates):
    """Triples of neighbours at every centre that is a pyramid in the reference and cannot invert.

    The neighbour towards the root is always among them: seen along it, the others keep their order round.
    """
    molecule = coordinates.molecule
    graph, x = networkx.Graph(molecule.bonds), molecule.positions
    towards = {row.bond: row.angle for row in reversed(coordinates.zmatrix[2:])}
    for k in graph:
        if len(graph[k]) < 3 or (molecule.elements[k] == "N" and len(graph[k]) == 3):
            continue
        v = {j: (x[j] - x[k]) / np.linalg.norm(x[j] - x[k]) for j in graph[k]}
        for around in itertools.combinations(graph[k], 3):
            if towards.get(k) in around and abs(np.linalg.det([v[j] for j in around])) > 0.45:
                yield (k, *around)


def test_the_corpus_is_large():
    assert len(NAMES) >= 60
    assert len(set(NAMES)) == len(NAMES)
    assert len(STANDARD) == 20
    assert len(PAIRS) == 4 * 20 - 4


@pytest.mark.parametrize("name", EVERY)
def test_every_atom_is_placed_and_comes_back(name, charted, near):
    """Every atom once, and round trips of single and double precision that end where they began."""
    coordinates = charted(name)
    assert sorted(row.atom for row in coordinates.zmatrix) == list(range(coordinates.n_atoms))
    y = near(coordinates, 20)
    for dtype, tolerance in ((torch.float32, ROUND_TRIP_32), (torch.float64, ROUND_TRIP_64)):
        x = coordinates(y)[0].to(dtype)
        back, log_det = coordinates.inverse(x)
        assert torch.isfinite(log_det).all()
        assert displacements(coordinates(back)[0], x).max() < tolerance
    difference = back - y
    difference[:, coordinates.circular] = wrap(difference[:, coordinates.circular])
    assert difference.abs().max() < 1e-9


def test_displacements_see_what_a_motion_does_not_do(near):
    """An atom out of place by more than the tolerance, and a mirror image; neither a turn nor a shift."""
    x = chart("ACE-ALA-NME")(near(chart("ACE-ALA-NME"), 5))[0]
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.3, -1.0], [-0.3, 0.0, 2.0], [1.0, -2.0, 0.0]]).double())
    assert displacements(x @ turn + 0.5, x).max() < ROUND_TRIP_64
    assert (displacements(-x, x).max(1).values > 0.01).all()
    moved = x.clone()
    moved[:, 7, 1] += 2 * ROUND_TRIP_32
    assert (displacements(moved, x).max(1).values > ROUND_TRIP_32).all()


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_backbone_torsions_of_every_pair_are_coordinates(pair, charted):
    coordinates = charted(pair)
    for atoms in coordinates.molecule.torsions.values():
        assert any(row[:4] in (tuple(atoms), tuple(atoms[::-1])) for row in coordinates.zmatrix)


@pytest.mark.parametrize("name", EVERY)
def test_log_det_is_that_of_the_square_map(name, charted, near, square_map):
    coordinates = charted(name)
    y = near(coordinates, 1)
    motion = torch.tensor([0.3, -0.2, 0.1, 0.7, 1.1, -2.0], dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda p: square_map(coordinates, p))(torch.cat([motion, y[0]]))
    expected = torch.linalg.slogdet(jacobian).logabsdet - motion[4].sin().log()
    torch.testing.assert_close(coordinates(y)[1][0], expected, atol=1e-8, rtol=0)


def flipped(coordinates, x):
    """Whether any stereocentre has another hand than in the reference, (n,)."""
    centre, *around = torch.tensor(list(stereocentres(coordinates)), dtype=torch.long).reshape(-1, 4).T

    def volumes(x):
        a, b, c = (x[:, k] - x[:, centre] for k in around)
        return (torch.linalg.cross(a, b) * c).sum(-1)

    own = volumes(torch.tensor(coordinates.molecule.positions)[None])
    return (volumes(x) * own <= 0).any(1)


@pytest.mark.parametrize("n", [500, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EVERY)
def test_no_handedness_flips_anywhere_in_the_chart(name, n, charted, draws, near):
    """Of so many draws inside it: all over the chart, which strains every ring, and about the reference."""
    coordinates, rows, counted = charted(name), min(n, 5000), 0
    for seed in itertools.count():
        far, close = draws(coordinates, rows, seed=seed), near(coordinates, rows, noise=0.3, seed=seed)
        x, log_det = coordinates(torch.cat([far, close]))
        inside = torch.isfinite(log_det)
        assert inside[rows:].any()
        assert not flipped(coordinates, x[inside]).any()
        counted += int(inside.sum())
        if counted >= n:
            return


@pytest.mark.parametrize("name", ["ACE-ILE-NME", "cholesterol"])
def test_it_is_the_chart_that_keeps_the_hands(name, near):
    """The same check sees a mirror image at once, and hands that flip where siblings may pass each other."""
    coordinates = chart(name)
    x = coordinates(near(coordinates, 100))[0]
    assert flipped(coordinates, -x).all()
    y = near(coordinates, 100, noise=0.3)
    siblings = [i for i, label in enumerate(coordinates.labels) if label.startswith("improper")]
    y[:, siblings] = -y[:, siblings]
    assert flipped(coordinates, coordinates(y)[0]).all()


def test_a_bridgehead_would_flip_but_for_its_sign(near):
    coordinates = chart("norbornane")
    x, log_det = coordinates(near(coordinates, 2000, noise=0.3))
    x = x[~torch.isfinite(log_det)]
    reference = torch.tensor(corpus("norbornane").positions)[None]
    assert any((handedness(x, atoms) != handedness(reference, atoms)).any() for atoms in stereocentres(coordinates))


FOLDS = {  # numbers of branches of the rotors, methyls included; AMBER's impropers single out one of two like atoms
    "ACE-ALA-NME": [3, 3, 3], "ACE-LYS-NME": [3, 3, 3], "ACE-TRP-NME": [3, 3], "ACE-VAL-NME": [3, 3, 3, 3],
    "ACE-ASP-NME": [3, 3], "ACE-PHE-NME": [3, 3], "trifluoroethanol": [3], "propionate": [2, 3],
    "guanidinium": [2, 2, 2], "phosphocholine": [3] * 5, "neopentane": [3, 3, 3, 3], "di-tert-butyl": [3] * 7,
    "diphenylmethane": [2, 2], "2-butyne": [3], "benzene": [],
    "methanol": [3], "acetate": [2, 3], "phenol": [2], "toluene": [2, 3], "tert-butylbenzene": [2, 3, 3, 3, 3],
    "p-xylene": [2, 3, 3], "mesitylene": [2, 3, 3, 3],  # one flip of the ring; the other methyls' would undo it
}  # fmt: skip
BEHIND = ["methanol", "acetate", "phenol", "toluene", "tert-butylbenzene", "p-xylene", "mesitylene"]


@pytest.mark.parametrize("name", FOLDS)
def test_rotors_of_every_kind_are_folded(name):
    coordinates = chart(name)
    assert sorted(len(rotor.members) for rotor in coordinates.rotors) == FOLDS[name]
    assert coordinates.log_symmetry == pytest.approx(sum(map(math.log, FOLDS[name])))


@pytest.mark.parametrize("name", [*("diphenylmethane", "phosphocholine", "di-tert-butyl", "propionate"), *BEHIND])
def test_all_labellings_of_a_configuration_have_the_same_coordinates(name, near):
    """And exactly one of them lies in the chart: a turn by one sector alone leads out of it."""
    coordinates = chart(name)
    free = InternalCoordinates(corpus(name), fold=False)
    x = free(near(free, 30))[0]
    y, log_det = coordinates.inverse(x)
    assert torch.isfinite(log_det).all()
    inside = coordinates.into_chart(x)
    torch.testing.assert_close(log_det, free.inverse(inside)[1] + coordinates.log_symmetry)
    energy = corpus(name).energy(300.0)
    torch.testing.assert_close(energy.energy(inside), energy.energy(x), rtol=1e-9, atol=1e-6)
    generator = torch.Generator().manual_seed(0)
    for rotor in coordinates.rotors:
        steps = int(torch.randint(1, len(rotor.members), (), generator=generator))
        assert (relabel(inside, rotor, steps) != coordinates.into_chart(relabel(inside, rotor, steps))).any(-1).any()
        x = relabel(x, rotor, steps)
    difference = coordinates.inverse(x)[0] - y
    difference[:, coordinates.circular] = wrap(difference[:, coordinates.circular])
    assert difference.abs().max() < 1e-9


def test_a_branch_is_carried_along_with_all_that_hangs_on_it():
    coordinates = chart("diphenylmethane")
    rotor = coordinates.rotors[0]
    assert len(rotor.cycles) == 4  # two ortho and two meta carbons, and their hydrogens
    x = torch.tensor(corpus("diphenylmethane").positions)[None]
    energy = corpus("diphenylmethane").energy(300.0)
    torch.testing.assert_close(energy.energy(relabel(x, rotor, 1)), energy.energy(x))
    assert energy.energy(relabel(x, rotor._replace(rest=()), 1)) > energy.energy(x) + 100


@pytest.mark.parametrize(
    ("name", "chis"), [("ACE-VAL-NME", 1), ("ACE-LYS-NME", 4), ("ACE-ARG-NME", 5), ("ACE-TRP-NME", 2)]
)
def test_torsions_of_every_residue_have_names_and_are_coordinates(name, chis, near):
    molecule, coordinates = corpus(name), chart(name)
    assert set(molecule.torsions) == {"omega_1", "phi", "psi", "omega_2", *(f"chi{k + 1}" for k in range(chis))}
    y = near(coordinates, 5)
    x = coordinates(y)[0]
    for torsion, atoms in molecule.torsions.items():
        assert wrap(coordinates.torsion(y, torsion) - dihedral(x, atoms)).abs().max() < 1e-9
        assert any(row[:4] in (atoms, atoms[::-1]) and row.kind == "circular" for row in coordinates.zmatrix), torsion


def test_beyond_a_straight_angle_nothing_is_near_a_pole(near):
    coordinates = chart("hexa-2,4-diyne")
    bends = [i for i, label in enumerate(coordinates.labels) if label.startswith("bend")]
    reference = coordinates.reference[bends]
    assert len(bends) == 8
    assert torch.minimum(reference.abs(), (reference - math.pi / 2).abs()).max() < 0.1
    y = near(coordinates, 200, noise=0.0)
    y[:, bends] += 0.3 * torch.randn(200, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, log_det = coordinates(y)
    assert torch.isfinite(log_det).all()
    assert (coordinates.inverse(x)[0] - y)[:, bends].abs().max() < 1e-9


LINES = {"acetylene": ("HCCH", [(0, 1), (1, 2), (2, 3)]), "carbon dioxide": ("OCO", [(0, 1), (1, 2)])}


@pytest.mark.parametrize("name", LINES)
def test_a_molecule_on_one_line_is_refused(structure, name):
    elements, bonds = LINES[name]
    positions = np.outer(np.arange(len(elements)), [0.12, 0, 0])
    with pytest.raises(InputError, match=f"got all {len(elements)} atoms on one line, {elements[0]}0 to .*: use"):
        InternalCoordinates(structure(bonds, list(elements), positions))


def test_a_square_planar_centre_is_refused_naming_its_atoms(structure):
    positions = 0.2 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    with pytest.raises(InputError, match=r"got 180.0 for Cl\d - Pt0 - Cl\d: .*square planar"):
        InternalCoordinates(structure([(0, k) for k in range(1, 5)], ["Pt", *["Cl"] * 4], positions))


@pytest.mark.parametrize(("element", "shares"), [("N", (0.3, 0.7)), ("P", (0.0, 0.0))])
def test_an_amine_may_invert_and_a_phosphine_may_not(structure, draws, element, shares):
    positions = 0.15 * np.array([[-1.3, 0, 0.9], [-1, 0, 0], [0, 0, 0], [0.4, 0.8, 0.3], [0.4, -0.8, 0.3]])
    coordinates = InternalCoordinates(
        structure([(0, 1), (1, 2), (2, 3), (2, 4)], ["C", "C", element, "C", "O"], positions)
    )
    x, log_det = coordinates(draws(coordinates, 2000))
    x = x[torch.isfinite(log_det)]
    assert len(x) > 500
    own = handedness(torch.tensor(positions)[None], (2, 1, 3, 4))
    flipped = (handedness(x, (2, 1, 3, 4)) != own).double().mean()
    assert shares[0] <= flipped <= shares[1]


@pytest.mark.parametrize("name", ["propionate", "2-butyne", "butane", "methanol", "acetate", "phenol"])
def test_folding_leaves_log_z_as_it_is(name):
    """Importance sampling from the harmonic approximation, with a carboxylate and methyls folded or free."""
    found = {}
    for fold in (True, False):
        coordinates = InternalCoordinates(corpus(name), fold=fold)
        flow = molecular_flow(coordinates.circular, *coordinates.harmonic_scales(300.0))
        target = Pullback(corpus(name).energy(300.0), coordinates)
        found[fold] = log_partition(draw(flow, target, 50_000, seed=2).log_w)
    difference = found[True].value - found[False].value
    error = math.hypot(found[True].standard_error, found[False].standard_error)
    assert error < 0.06
    assert abs(difference) < 4 * error
    assert abs(difference - math.log(2)) > 4 * error
