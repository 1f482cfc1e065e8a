import math

import pytest
import torch

import boltzgen as bg
from boltzgen.reporting.mirror import mirrored_torsions

N = 3000
TRANS, GAUCHE = math.pi, 1.15  # rad
OTHERS = {"rotor": ["BUT1-H11", "BUT1-C1", "BUT1-C2", "BUT1-C3"], "phi": ["BUT1-C1", "BUT1-C2", "BUT1-C3", "BUT1-C4"]}


@pytest.fixture(scope="module")
def butane():
    molecule = bg.Molecule.load("butane")
    return molecule, bg.InternalCoordinates(molecule)


def drawn(butane, shares, log_w=None, **fields):
    """Butane with its structure's other coordinates, and phi about trans, gauche+ and gauche− in these shares."""
    molecule, coordinates = butane
    generator = torch.Generator().manual_seed(0)
    y, _ = coordinates.inverse(torch.tensor(molecule.positions, dtype=torch.float64)[None])
    y = y + 0.02 * torch.randn(N, y.shape[1], generator=generator, dtype=torch.float64)
    well = torch.multinomial(torch.tensor(shares), N, replacement=True, generator=generator)
    wanted = torch.tensor([TRANS, GAUCHE, -GAUCHE], dtype=torch.float64)[well]
    column = next(k for k in range(y.shape[1]) if turns(coordinates, y[:1], k))
    y[:, column] += wanted - coordinates.torsion(y, "phi")
    positions, _ = coordinates.forward(y)
    log_w = torch.zeros(N) if log_w is None else log_w[well]
    settings = {"topology": molecule.topology_data, "torsions": molecule.torsions, "temperature": 300.0}
    return bg.Samples(y, torch.zeros(N), -log_w, cartesian=positions.float(), **settings | fields)


def turns(coordinates, y, column):
    other = y.clone()
    other[:, column] += 0.1
    return float((coordinates.torsion(other, "phi") - coordinates.torsion(y, "phi")).abs()) > 0.09


def light(samples):
    return next((check for check in bg.judge(samples).checks if check.name == "mirror images"), None)


def test_equal_populations_of_images_are_green(butane):
    assert light(drawn(butane, [0.6, 0.2, 0.2])).status == "green"


def test_weights_that_make_them_equal_are_green(butane):
    assert light(drawn(butane, [0.6, 0.3, 0.1])).status == "red"
    log_w = torch.tensor([0.0, math.log(0.2 / 0.3), math.log(0.2 / 0.1)])
    assert light(drawn(butane, [0.6, 0.3, 0.1], log_w)).status == "green"


def test_a_lost_well_whose_image_was_kept_is_red_though_its_weights_are_perfect(butane):
    samples = drawn(butane, [0.8, 0.2, 0.0])
    assert bg.effective_sample_size(samples.log_w) == N
    found = light(samples)
    assert found.status == "red"
    assert found.next_step
    assert bg.judge(samples).headline.startswith("not trustworthy: mirror images")


def test_a_backbone_whose_force_field_may_prefer_one_hand_is_amber(butane):
    topology = {name: [list(row) for row in rows] for name, rows in butane[0].topology_data.items()}
    topology["atoms"][butane[0].torsions["phi"][1]][1] = "N"
    found = light(drawn(butane, [0.8, 0.2, 0.0], topology=topology))
    assert found.status == "amber"
    assert "prefers one hand" in found.next_step


def test_images_lost_together_stay_unseen(butane):
    assert light(drawn(butane, [1.0, 0.0, 0.0])).status == "green"


def test_torsions_that_end_in_one_of_several_like_branches_are_left_out(butane):
    molecule, _ = butane
    labels = [f"{residue}{number}-{name}" for name, _, residue, number, _ in molecule.topology_data["atoms"]]
    torsions = {name: [labels.index(label) for label in atoms] for name, atoms in OTHERS.items()}
    samples = drawn(butane, [0.6, 0.2, 0.2], torsions=torsions)
    assert mirrored_torsions(samples) == ["phi"]


def test_a_molecule_that_has_a_hand_is_not_its_own_image():
    samples = bg.BoltzmannGenerator.load("alanine_dipeptide").sample(200, seed=1)
    assert mirrored_torsions(samples) == []
    assert light(samples) is None


def test_what_is_no_molecule_has_no_image():
    assert light(bg.Samples(torch.zeros(N, 1), torch.zeros(N), torch.zeros(N))) is None
