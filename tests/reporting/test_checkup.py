"""A molecule is examined before hours of work: good ones are green, and a planted fault is seen."""

from pathlib import Path

import numpy as np
import openmm
import pytest
import torch

from boltzgen.coordinates import InternalCoordinates
from boltzgen.energies import HybridEnergy
from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.molecule import Molecule
from boltzgen.reporting import checkup, examine

TWENTY = Path(__file__).parents[1] / "molecule" / "data" / "twenty_residues.pdb"


@pytest.fixture(scope="module")
def molecule():
    return Molecule.load("alanine_dipeptide")


@pytest.fixture(autouse=True)
def brief(monkeypatch, request):
    """The dynamics is short where something else is looked at."""
    if "dynamics" not in request.node.name and "kind" not in request.node.name:
        monkeypatch.setattr("boltzgen.reporting.checkup._STEPS", 20)


def lights(found):
    return {one.name: one.status for one in found.checks}


def test_a_good_molecule_is_green_and_described(molecule):
    found = examine(molecule)
    assert found.status == "green", lights(found)
    assert len(found.zmatrix) == 60
    assert any(line.startswith("torsion ACE1-C ALA2-N ALA2-CA ALA2-C") and "-143.4°" in line for line in found.zmatrix)
    assert found.stereocentres == ["ALA2: L"]
    assert "ALA2-HB1, ALA2-HB2, ALA2-HB3" in found.rotors
    assert "NonbondedForce: torch, NonbondedPairs" in found.forces
    assert found.angles[0] == "ACE1-C ALA2-N ALA2-CA: 125.6°"
    assert len(found.checks) == 7
    assert 0 < found.speed["energy with gradient, per configuration"] < found.speed["training sample"]
    assert 0.1 < found.minutes < 1000
    page = str(found)
    assert page.startswith("alanine_dipeptide: 22 atoms, 60 internal coordinates, 300 K")
    assert "→" not in page


@pytest.mark.parametrize("name", ["proline_dipeptide", "isoleucine_dipeptide", "alanine_hexapeptide"])
def test_bundled_molecules_of_every_kind_are_green(name):
    """Rings, two stereocentres, many residues; 90 % of the untrained draws have a finite energy among the checks."""
    found = examine(Molecule.load(name))
    assert found.status == "green", lights(found)
    assert {hand.rpartition(": ")[2] for hand in found.stereocentres} <= {"L", "as in the structure"}
    assert name != "isoleucine_dipeptide" or found.stereocentres == ["ILE2: L", "ILE2-CB: as in the structure"]


def test_openmm_is_not_compared_with_itself(molecule, monkeypatch):
    energy = molecule.energy(300.0, backend="openmm")
    assert energy.workers == 0  # and nobody starts others for a check
    monkeypatch.setattr("boltzgen.energies.openmm_pool.Pool.__init__", None)
    monkeypatch.setattr(Molecule, "energy", lambda *_: energy)
    found = examine(molecule)
    (check,) = (one for one in found.checks if one.name == "energy against OpenMM")
    assert (check.status, check.value, check.shown) == ("green", None, "not applicable")
    assert "wanted: nothing: it is OpenMM's own" in str(found)


def test_what_is_compiled_beside_openmm_is_compared_with_it(molecule, monkeypatch):
    system = openmm.XmlSerializer.clone(molecule.system)
    restraint = openmm.CustomCVForce("100*d^2")
    restraint.addCollectiveVariable("d", openmm.RMSDForce(molecule.positions))
    system.addForce(restraint)
    restrained = Molecule.from_openmm(system, molecule.topology, molecule.positions)
    energy = HybridEnergy(system, 300.0, positions=molecule.positions)
    check, _ = checkup._of_energy(energy, restrained, torch.device("cpu"))
    assert (check.name, check.status) == ("energy against OpenMM", "green")
    assert 0 <= check.value < 1e-6
    reduced = ForceFieldEnergy._reduced
    monkeypatch.setattr(ForceFieldEnergy, "_reduced", lambda self, x: 1.001 * reduced(self, x))
    assert checkup._of_energy(energy, restrained, torch.device("cpu"))[0].status == "red"


def test_a_mirror_image_is_d(molecule):
    mirrored = Molecule.from_openmm(molecule.system, molecule.topology, molecule.positions * np.array([1, 1, -1]))
    assert examine(mirrored).stereocentres == ["ALA2: D"]


def test_a_wrong_measure_is_red(molecule, monkeypatch):
    original = InternalCoordinates._log_det
    monkeypatch.setattr(InternalCoordinates, "_log_det", lambda *args: original(*args) + 0.01)
    found = examine(molecule)
    assert lights(found)["measure against the whole Jacobian"] == "red"
    assert found.status == "red"
    assert "difference of log|det| → report it" in str(found)


def test_the_measure_of_a_large_molecule_is_compared_too(monkeypatch):
    """Of more coordinates than are differentiated at once."""
    coordinates = InternalCoordinates(Molecule.from_pdb(TWENTY, ["amber14-all.xml"]))
    assert len(coordinates.labels) > 2 * checkup._JACOBIAN_ROWS
    assert checkup._of_coordinates(coordinates)[-1].status == "green"
    original = InternalCoordinates._log_det
    monkeypatch.setattr(InternalCoordinates, "_log_det", lambda *args: original(*args) + 0.01)
    check = checkup._of_coordinates(coordinates)[-1]
    assert (check.name, check.status) == ("measure against the whole Jacobian", "red")


def test_a_wrong_energy_and_a_wrong_gradient_are_red(molecule, monkeypatch):
    original = ForceFieldEnergy._reduced

    def off(self, x):
        return original(self, x.detach()) + original(self, x) - original(self, x).detach() + 0.1 * (x**2).sum((1, 2))

    monkeypatch.setattr(ForceFieldEnergy, "_reduced", off)
    assert lights(examine(molecule))["energy against OpenMM"] == "red"
    monkeypatch.setattr(
        ForceFieldEnergy, "_reduced", lambda self, x: original(self, x + 0 * x).detach() + 0 * x.sum((1, 2))
    )
    assert lights(examine(molecule))["gradient against differences"] == "red"


def test_a_dynamics_that_leaves_the_chart_is_red_and_says_how(molecule, monkeypatch):
    original = InternalCoordinates.__init__

    def narrow(self, *args, **kwargs):
        """The oxygen of the acetyl group may hardly leave its plane."""
        original(self, *args, **kwargs)
        self._reach[[row.atom for row in self.zmatrix[3:]].index(molecule.atom_labels.index("ACE1-O"))] = 0.05

    monkeypatch.setattr(InternalCoordinates, "__init__", narrow)
    found = examine(molecule)
    (check,) = (one for one in found.checks if one.name == "hot dynamics in the chart")
    assert check.status == "red"
    assert 0.2 < check.value < 0.9
    assert "they leave by improper ACE1-O ACE1-C ALA2-N ACE1-CH3 (" in check.meaning
    assert "frames at 600 K; they leave by" in str(found)


def test_a_dynamics_that_breaks_off_is_red(molecule, monkeypatch):
    monkeypatch.setattr("boltzgen.reporting.checkup._STEP_SIZE", 0.1)
    found = examine(molecule)
    (check,) = (one for one in found.checks if one.name == "hot dynamics in the chart")
    assert (check.status, check.value, check.shown) == ("red", None, "no")
    assert check.meaning.startswith("it broke off at 600 K: every walker must have a finite energy")
    assert check.next_step.startswith("minimise the structure")
