"""Every bundled molecule is ready to be trained: named, of nature's hand, its untrained draws of finite energy."""

import math

import numpy as np
import pytest
import torch

import boltzgen as bg
from boltzgen.coordinates.symmetry import relabel
from boltzgen.molecule import available

MOLECULES = [system.name for system in available() if system.toy is None]
HANDS = {"": ("CA", "N", "C", "CB"), "ILE": ("CB", "CA", "CG1", "CG2")}


@pytest.fixture(scope="module", params=MOLECULES)
def molecule(request):
    return bg.Molecule.load(request.param)


def finite_share(molecule, widen=1.0):
    """Of 1024 draws at 300 K of the flow as it is before training."""
    coordinates = bg.InternalCoordinates(molecule)
    mean, factor = coordinates.harmonic_scales(300.0)
    flow = bg.molecular_flow(coordinates.circular, mean, widen * factor)
    samples = bg.draw(flow, bg.Pullback(molecule.energy(300.0), coordinates), 1024, seed=1)
    return 1 - samples.n_failed / len(samples)


def test_untrained_draws_have_finite_energies(molecule):
    assert finite_share(molecule) >= 0.9


def test_draws_ten_times_as_wide_do_not():
    assert finite_share(bg.Molecule.load("alanine_dipeptide"), widen=10.0) < 0.5


def test_residues_have_natures_hand_and_amides_are_trans(molecule):
    place = {label: i for i, label in enumerate(molecule.atom_labels)}
    x = molecule.positions
    for residue in {label.rpartition("-")[0] for label in place}:
        for kind, names in HANDS.items():
            atoms = [place.get(f"{residue}-{name}") for name in names]
            if residue.startswith(kind) and None not in atoms:
                assert np.linalg.det(x[atoms[1:]] - x[atoms[0]]) > 1e-3
    for name, atoms in molecule.torsions.items():
        if name.startswith("omega"):
            assert abs(bg.coordinates.dihedral(torch.tensor(x)[None], atoms)) > 2.5


@pytest.mark.parametrize(
    ("name", "torsions"),
    [
        ("butane", {"phi"}),
        ("paracetamol", {"amide", "ring", "hydroxyl"}),
        ("met_enkephalin", {"chi1_1", "chi2_4", "chi3"}),
    ],
)
def test_torsions_have_names_and_can_be_read_off(name, torsions):
    molecule = bg.Molecule.load(name)
    assert torsions <= set(molecule.torsions)
    coordinates = bg.InternalCoordinates(molecule)
    y = coordinates.reference[None]
    for torsion in torsions:
        x = torch.tensor(molecule.positions)[None]
        torch.testing.assert_close(
            coordinates.torsion(y, torsion), bg.coordinates.dihedral(x, molecule.torsions[torsion]), atol=1e-9, rtol=0
        )


def test_rings_of_a_ligand_turn_by_half():
    coordinates = bg.InternalCoordinates(bg.Molecule.load("paracetamol"))
    assert sorted(len(rotor.members) for rotor in coordinates.rotors) == [2, 3]
    assert len(max(coordinates.rotors, key=lambda rotor: len(rotor.rest)).rest) == 3  # meta carbons, four hydrogens


def test_log_z_of_alanine_dipeptide_does_not_depend_on_folding():
    """The trained generator's draws, each rotor turned at random into any of its sectors, on the chart that has all."""
    generator = bg.BoltzmannGenerator.load("alanine_dipeptide")
    molecule, folded = generator.molecule, generator.coordinates
    free = bg.InternalCoordinates(molecule, fold=False)
    samples = generator.sample(2000, seed=2)
    x, log_q = folded(samples.x.double())[0], samples.log_q
    g = torch.Generator().manual_seed(0)
    for rotor in folded.rotors:
        steps = torch.randint(3, (len(x),), generator=g)
        x = torch.stack([relabel(x, rotor, k) for k in range(3)])[steps, torch.arange(len(x))]
    y, log_det = free.inverse(x)
    log_q = log_q + folded.inverse(x)[1] - log_det  # of y, were its sector certain
    energy = bg.Pullback(molecule.energy(300.0), free)
    found = [bg.log_partition(-energy.energy(y) - (log_q - k * math.log(3))) for k in (3, 2)]
    expected = bg.log_partition(generator.sample(2000, seed=1).log_w)
    error = math.hypot(expected.standard_error, found[0].standard_error)
    assert error < 0.05
    assert abs(found[0].value - expected.value) < 4 * error
    assert abs(found[1].value - expected.value) > 4 * error
