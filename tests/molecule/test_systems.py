"""Systems by name and by folder; a system.toml is read strictly."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boltzgen.coordinates import dihedral
from boltzgen.energies import toys
from boltzgen.errors import InputError
from boltzgen.molecule import Molecule, System, available, find
from boltzgen.molecule.description import _MOLECULE, Description
from boltzgen.units import kT

ENERGY_TOLERANCE = 1e-3  # kJ/mol
TOY_TOLERANCE = 1e-5  # kT
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

MINIMAL = 'title = "mine"\nforcefield = ["amber96.xml", "implicit/obc1.xml"]\n'


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "my own Ångström"
    path.mkdir()
    shutil.copy(find("alanine_dipeptide").structure, path / "structure.pdb")
    return path


def write(folder, text):
    (folder / "system.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("system", available(), ids=lambda s: s.name)
def test_every_bundled_system_loads_and_has_its_check_energy(system):
    assert isinstance(system, System)
    assert find(system.name) == system
    energy = system.energy()
    if system.toy is not None:
        assert energy.temperature == system.temperature == 1.0
        point = torch.tensor([system.check_point], dtype=torch.float64)
        assert energy.energy(point).item() == pytest.approx(system.check_energy, abs=TOY_TOLERANCE)
        return
    molecule = system.molecule()
    assert molecule.name == system.name
    x = torch.tensor(molecule.positions)[None]
    for backend in ("torch", "openmm"):
        u = molecule.energy(system.temperature, backend=backend).energy(x).item()
        assert abs(u * kT(system.temperature) - system.check_energy) < ENERGY_TOLERANCE


@pytest.mark.parametrize("system", [s for s in available() if s.toy is not None], ids=lambda s: s.name)
def test_exact_values_of_the_toys_are_bundled(system):
    energy = system.energy()
    known = {}
    if hasattr(energy, "log_partition"):
        known["log_partition"] = energy.log_partition()
        known["mean_reduced_energy"] = energy.entropy() - energy.log_partition()
    if hasattr(energy, "free_energy_difference"):
        known["free_energy_difference"] = energy.free_energy_difference()
    exact = {name: entry for name, entry in system.reference.items() if entry["standard_error"] == 0}
    assert {name: entry["value"] for name, entry in exact.items()} == pytest.approx(known, abs=TOY_TOLERANCE)


def test_butane_has_no_preference_for_either_gauche():
    """The bundled value is exact: the mirror image has the same energy and the opposite phi."""
    system = find("butane")
    entry = system.reference["free_energy_difference_phi"]
    assert (entry["value"], entry["standard_error"], entry["unit"]) == (0.0, 0.0, "kT")
    molecule = system.molecule()
    noise = torch.randn(20, molecule.n_atoms, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.tensor(molecule.positions) + 0.005 * noise
    energy, phi = molecule.energy(300.0), molecule.torsions["phi"]
    torch.testing.assert_close(energy.energy(-x), energy.energy(x))
    torch.testing.assert_close(dihedral(-x, phi), -dihedral(x, phi))


def test_alanine_dipeptide_is_bundled_with_its_check_energy():
    system = next(s for s in available() if s.name == "alanine_dipeptide")
    assert (system.check_energy, system.temperature) == (-173.0415, 300.0)


def test_the_bundled_reference_is_of_the_bundled_energy():
    """Trap 10: a reference from a constrained simulation lies kT/2 per lost degree of freedom lower."""
    system = find("alanine_dipeptide")
    reference = system.molecule().reference["mean_potential_energy"]
    harmonic = system.check_energy + 0.5 * (3 * 22 - 6) * kT(300.0)
    hydrogens = sum(element == "H" for element in system.molecule().elements)
    assert abs(reference["value"] - harmonic) < 5.0
    assert abs(reference["value"] - 0.5 * hydrogens * kT(300.0) - harmonic) > 5.0


RECORDS = {
    record["system"]: record["estimates"]
    for path in RESULTS.glob("*_reference.json")
    if "estimates" in (record := json.loads(path.read_text(encoding="utf-8")))
}


def test_the_records_are_there():
    assert {"dw4", "butane"} <= set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_references_by_replica_exchange_are_those_of_their_records(name):
    bundled = {key: entry for key, entry in find(name).reference.items() if entry["standard_error"] > 0}
    assert bundled
    for key, entry in bundled.items():
        found = RECORDS[name][key]
        digits = len(str(entry["standard_error"]).partition(".")[2])
        assert {key: found[key] for key in ("value", "standard_error")} == pytest.approx(
            {key: entry[key] for key in ("value", "standard_error")}, abs=0.51 * 10**-digits
        )
        assert entry["unit"] == found["unit"]


def test_the_bundled_reference_is_that_of_the_benchmark():
    """Two runs that know nothing of each other, weighted by their precision; populations are of the second."""
    runs = [
        json.loads((RESULTS / f"alanine_dipeptide_reference{name}.json").read_text(encoding="utf-8"))
        for name in ("", "_seed5")
    ]
    assert all(run["finished"] for run in runs)
    bundled = find("alanine_dipeptide").molecule().reference
    for name, column in (
        ("mean_potential_energy", "mean_potential_energy"),
        ("free_energy_difference_phi", "delta_f_phi"),
    ):
        values, errors = (np.array([run[column][key] for run in runs]) for key in ("value", "standard_error"))
        assert abs(values[0] - values[1]) < 3 * np.hypot(*errors)
        precision = 1 / errors**2
        assert {run[column]["unit"] for run in runs} == {bundled[name]["unit"]}
        assert bundled[name]["value"] == pytest.approx((precision * values).sum() / precision.sum(), abs=0.001)
        assert bundled[name]["standard_error"] == pytest.approx(precision.sum() ** -0.5, rel=0.03)
    assert all(f"--seed {run['seed']}" in bundled["mean_potential_energy"]["method"] for run in runs)
    populations = runs[1]["populations"]
    assert sum(population["value"] for population in populations.values()) == pytest.approx(1)
    for basin, population in populations.items():
        for key in ("value", "standard_error"):
            assert bundled[f"population_{basin}"][key] == pytest.approx(population[key], rel=0.02)


def test_a_folder_of_ones_own(folder, monkeypatch):
    write(folder, MINIMAL + 'temperature = 350\n[torsions]\nmine = ["ALA2-N", "ALA2-CA", "ALA2-CB", 11]\n')
    for name in (folder, str(folder), folder / "system.toml"):
        molecule = Molecule.load(name)
        assert (molecule.name, molecule.default_temperature) == (folder.name, 350.0)
        assert molecule.torsions["mine"] == (6, 8, 10, 11)
    monkeypatch.chdir(folder)
    assert find(".").name == folder.name
    assert molecule.energy(350.0).temperature == find(".").energy().temperature == 350.0


def test_reference_values_reach_the_molecule(folder):
    write(folder, MINIMAL + '[reference.U]\nvalue = -98\nstandard_error = 0.1\nunit = "kJ/mol"\nmethod = "guess"\n')
    assert Molecule.load(folder).reference["U"] == {
        "value": -98, "standard_error": 0.1, "unit": "kJ/mol", "method": "guess",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("alanine-dipeptid", "did you mean 'alanine_dipeptide'"),
        ("zzz", "the names are .*alanine_dipeptide"),
        ("", "the names are"),
        (None, "got None"),
    ],
)
def test_unknown_names(name, says):
    with pytest.raises(InputError, match=says):
        Molecule.load(name)


def test_what_is_no_system(folder, tmp_path):
    with pytest.raises(InputError, match=r"got the file .*structure\.pdb: for a PDB file use Molecule\.from_pdb"):
        find(folder / "structure.pdb")
    with pytest.raises(InputError, match=r"must hold a system\.toml; got none"):
        find(folder)
    write(folder, MINIMAL + 'structure = "other.pdb"\n')
    with pytest.raises(InputError, match=r"other\.pdb must be a PDB file; got no such file"):
        find(folder).molecule()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title = x y", "must be TOML; got .*line 1"),
        ("", r"must say title; got none"),
        ('title = "x"', "must say forcefield; got none: add it as a list of strings"),
        (MINIMAL + "temprature = 300", "got 'temprature': did you mean 'temperature'"),
        (MINIMAL + "xyzzy = 1", "got 'xyzzy': leave it out"),
        (MINIMAL + 'temperature = "300"', "temperature must be a number; got '300'"),
        (MINIMAL + "temperature = true", "temperature must be a number; got True"),
        (MINIMAL + "temperature = -1", "positive number of kelvin; got -1"),
        (MINIMAL + "temperature = nan", "positive number of kelvin"),
        ('title = 3\nforcefield = ["a"]', "title must be a string; got 3"),
        ('title = "x"\nforcefield = "a"', "forcefield must be a list of strings; got 'a'"),
        ('title = "x"\nforcefield = [1]', r"forcefield must be a list of strings; got \[1\]"),
        (MINIMAL + "check = 3", "check must be a table; got 3"),
        (MINIMAL + "[check]\nenrgy = 3", "check.enrgy must be one of energy; .*did you mean 'energy'"),
        (MINIMAL + '[check]\nenergy = "3"', "check.energy must be a number; got '3'"),
        (MINIMAL + "[reference]\nU = 3", "reference.U must be a table"),
        (MINIMAL + "[reference.U]\nvalue = 3", "must say reference.U.standard_error"),
        (MINIMAL + "[reference.U]\nvalue = 3\nerror = 1", "reference.U.error must be one of"),
        ('title = "x"\ntoy = "duble_well"', "toy must be one of .*did you mean 'double_well'"),
        ('title = "x"\ntoy = "double_well"\nstructure = "a.pdb"', "structure must be one of"),
        ('title = "x"\ntoy = "double_well"\n[check]\nenergy = 1', "must say check.point; got none: .* list of numbers"),
        ('title = "x"\ntoy = "double_well"\n[check]\npoint = ["a"]', "check.point must be a list of numbers; got"),
    ],
)
def test_mistakes_in_a_system_toml_name_file_and_key(folder, text, says):
    with pytest.raises(InputError, match=rf"system\.toml.*{says}"):
        find(write(folder, text))


def test_a_torsion_of_unknown_atoms(folder):
    with pytest.raises(InputError, match="torsion 'phi'"):
        find(write(folder, MINIMAL + "[torsions]\nphi = 3")).molecule()


def test_bytes_that_are_no_text(folder):
    (folder / "system.toml").write_bytes(b'title = "\xff"')
    with pytest.raises(InputError, match="must be TOML"):
        find(folder)


def test_force_field_files_in_the_folder_need_trust(folder):
    canary = folder / "canary"
    (folder / "own.xml").write_text(f"<ForceField><Script>open({str(canary)!r}, 'w').close()</Script></ForceField>")
    write(folder, 'title = "x"\nforcefield = ["amber96.xml", "own.xml"]\n')
    with pytest.raises(InputError, match="trust_forcefield=True"):
        Molecule.load(folder)
    assert not canary.exists()
    assert Molecule.load(folder, trust_forcefield=True).n_atoms == 22


def test_toys_by_file(folder):
    system = find(write(folder, 'title = "x"\ntoy = "double_well"\n[parameters]\nvariant = "snf"\n'))
    assert system.energy().variant == "snf"
    x = torch.tensor([[0.3, 0.1]])
    assert system.energy(2.0).energy(x) == pytest.approx(toys.DoubleWell("snf").energy(x) / 2)
    with pytest.raises(InputError, match=r"got the toy energy 'double_well': use boltzgen\.toys\.load"):
        system.molecule()
    with pytest.raises(InputError, match="got the toy energy"):
        Molecule.load(folder)
    with pytest.raises(InputError, match="parameters"):
        find(write(folder, 'title = "x"\ntoy = "double_well"\n[parameters]\nvariante = "snf"\n')).energy()


TEXT = st.text(st.sampled_from("abz09 _-./é<"))
VALUES = st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.floats(), TEXT)


@given(st.dictionaries(st.sampled_from([*_MOLECULE, "toy", "parameters", "tilte"]), VALUES))
def test_any_toml_is_read_or_refused_in_one_sentence(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    lines = (f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {str(v).lower()}" for k, v in data.items())
    (folder / "system.toml").write_text("\n".join(lines), encoding="utf-8")
    with contextlib.suppress(InputError):
        Description.read(folder)
