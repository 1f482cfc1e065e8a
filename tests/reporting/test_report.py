import json
import math
import os
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch

from boltzgen.energies import HybridEnergy
from boltzgen.energies.energy import Evaluations
from boltzgen.errors import InputError
from boltzgen.reporting import default_estimates, results, write_report
from boltzgen.reweighting import Estimate
from boltzgen.sampling import Samples
from boltzgen.units import kT

KEYS = [
    "system", "temperature", "n", "ess", "ess_fraction", "pareto_k", "verdict", "estimates", "evaluations", "seconds",
]  # fmt: skip
ENTRY = ["value", "standard_error", "unit", "interval", "reliable", "why"]


def toy(n=2000, u=None, **fields):
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_q = -0.5 * x[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)
    return Samples(x, log_q, 0.4 * x[:, 0] ** 2 if u is None else u, **fields)


def peptide(n=2000, sector=math.pi):
    """Uniform phi in (−sector, π), all energies equal but for a tenth that is 2 kT up."""
    phi = torch.linspace(-sector, math.pi, n + 2, dtype=torch.float64)[1:-1]
    zero, one = torch.zeros_like(phi), torch.ones_like(phi)
    corners = [[one, phi.cos(), phi.sin()], [one, zero, zero], [zero, zero, zero], [zero, one, zero]]
    positions = torch.stack([torch.stack(corner, -1) for corner in corners], 1).float()
    u = torch.zeros(n)
    u[::10] = 2.0
    return Samples(
        phi[:, None],
        torch.zeros(n),
        u,
        temperature=300.0,
        system="peptide",
        cartesian=positions,
        potential=u,
        topology={"atoms": [["C", "C", "X", "1", "A"]] * 4, "bonds": []},
        torsions={"phi": [0, 1, 2, 3]},
    )


def test_the_results_have_these_keys():
    found = results(toy(system="toy"), evaluations={"energy": 7, "gradient": 3}, seconds=1.5)
    assert list(found) == KEYS
    assert found["system"] == "toy"
    assert found["n"] == 2000
    assert found["ess_fraction"] == found["ess"] / 2000
    assert found["verdict"] == "amber"
    assert found["evaluations"] == {"energy": 7, "gradient": 3}
    assert found["seconds"] == 1.5
    assert all(list(entry) == ENTRY for entry in found["estimates"].values())


def test_the_default_estimates_of_a_toy_are_right():
    estimates = results(toy())["estimates"]
    assert set(estimates) == {"mean_reduced_energy", "log_partition"}
    for name, exact in (("mean_reduced_energy", 0.5), ("log_partition", 0.5 * math.log(2 * math.pi / 0.8))):
        assert abs(estimates[name]["value"] - exact) < 4 * estimates[name]["standard_error"]


def test_the_default_estimates_of_a_molecule_are_right():
    found = results(peptide())
    estimates = found["estimates"]
    assert {name: entry["unit"] for name, entry in estimates.items()} == {
        "mean_potential_energy": "kJ/mol",
        "log_partition": "",
        "free_energy_difference_phi": "kT",
    }
    share = 0.1 * math.exp(-2) / (0.9 + 0.1 * math.exp(-2))
    assert estimates["mean_potential_energy"]["value"] == pytest.approx(2 * share * kT(300.0), rel=1e-6)
    assert estimates["log_partition"]["value"] == pytest.approx(math.log(0.9 + 0.1 * math.exp(-2)), abs=1e-9)
    assert estimates["free_energy_difference_phi"]["value"] == pytest.approx(0, abs=1e-3)
    assert found["temperature"] == 300.0
    # a third of the circle is phi < 0: F(phi > 0) − F(phi < 0) = −ln 2
    lopsided = default_estimates(peptide(sector=math.pi / 2))["free_energy_difference_phi"][0]
    assert lopsided.value == pytest.approx(-math.log(2), abs=0.01)


def test_the_ledger_itself_may_be_given():
    assert results(toy(), evaluations=Evaluations(5, 6))["evaluations"] == {"energy": 5, "gradient": 6}
    assert results(toy())["evaluations"] == {"energy": None, "gradient": None}


@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_what_is_not_finite_is_null(tmp_path):
    uniform = toy(u=-toy().log_q)
    with pytest.warns(match="too few draws in state a"):
        found = write_report(peptide(sector=-0.01), tmp_path / "x.html")
    entry = found["estimates"]["free_energy_difference_phi"]
    assert (entry["value"], entry["standard_error"], entry["interval"]) == (None, None, [None, None])
    assert results(uniform)["pareto_k"] is None

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse) == found


def test_failed_draws_only_still_make_a_report(tmp_path):
    failed = toy(n=100, u=torch.full((100,), torch.inf))
    found = write_report(failed, tmp_path / "x.html")
    assert (found["verdict"], found["ess"], found["estimates"]) == ("red", 0.0, {})
    assert "there is nothing to show" in (tmp_path / "x.html").read_text()


def test_own_estimates_replace_the_default_ones(tmp_path):
    estimate = Estimate(1.25, 0.5, (0.2, 2.2), ess=10.0, n=20, pareto_k=0.1, reliable=False, why="a <reason>")
    found = write_report(toy(), tmp_path / "x.html", estimates={"mine": (estimate, "nm")})
    entry = {"value": 1.25, "standard_error": 0.5, "unit": "nm", "interval": [0.2, 2.2], "reliable": False}
    assert found["estimates"] == {"mine": entry | {"why": "a <reason>"}}
    page = (tmp_path / "x.html").read_text()
    assert "1.25 ± 0.50 nm" in page
    assert "no: a &lt;reason&gt;" in page


@pytest.mark.parametrize("folder", ["plain", "with space", "φ-ψ & co", os.fsdecode(b"not-utf8-\xff")])
def test_any_path_will_do(tmp_path, folder):
    """Row 58 of the faults."""
    found = write_report(toy(), tmp_path / folder / "report.html", system=folder)
    assert found["system"] == folder
    assert json.loads((tmp_path / folder / "results.json").read_bytes()) == found
    assert sorted(os.listdir(tmp_path / folder)) == ["report.html", "results.json"]
    (tmp_path / folder / "report.html").read_bytes().decode("utf-8")


def test_a_folder_is_no_report(tmp_path):
    with pytest.raises(InputError, match="path must name an HTML file"):
        write_report(toy(), tmp_path)


def test_a_second_report_replaces_the_first(tmp_path):
    write_report(toy(), tmp_path / "x.html", system="the earlier")
    write_report(toy(), tmp_path / "x.html", system="second")
    assert json.loads((tmp_path / "results.json").read_text())["system"] == "second"
    assert "the earlier" not in (tmp_path / "x.html").read_text()


def test_numbers_of_numpy_paths_and_what_is_not_finite_become_plain(tmp_path):
    found = write_report(
        toy(),
        tmp_path / "report.html",
        evaluations={"energy": np.int64(7), "gradient": np.int32(3)},
        seconds=np.float32(1.5),
        provenance={"where": Path("a") / "b", "rate": math.nan, "sizes": np.array([1, 2]), "good": np.bool_(True)},
        reference_values={
            "log_partition": {"value": np.float32(0.5), "standard_error": math.inf, "unit": "", "method": "by hand"}
        },
    )
    assert json.loads((tmp_path / "results.json").read_text()) == found
    assert found["evaluations"] == {"energy": 7, "gradient": 3}
    assert found["provenance"] == {"where": os.path.join("a", "b"), "rate": None, "sizes": [1, 2], "good": True}


def test_which_force_was_evaluated_where_and_why_is_told(tmp_path):
    system, bond = openmm.System(), openmm.HarmonicBondForce()
    for _ in range(3):
        system.addParticle(12.0)
    bond.addBond(0, 1, 0.15, 1000.0)
    system.addForce(bond)
    system.addForce(openmm.RMSDForce([openmm.Vec3(i, i * i, 0) for i in range(3)]))
    energy = HybridEnergy(system, 300.0)
    found = write_report(toy(), tmp_path / "x.html", forces=energy.describe())
    assert found["made"]["forces"] == [
        "HarmonicBondForce: torch, HarmonicBonds",
        "RMSDForce: OpenMM, Reference platform, since this kind of force is not compiled",
    ]
    page = (tmp_path / "x.html").read_text()
    assert "force: HarmonicBondForce" in page
    assert "OpenMM, Reference platform, since this kind of force is not compiled" in page
    assert json.loads((tmp_path / "results.json").read_text())["made"]["forces"] == found["made"]["forces"]
    assert write_report(toy(), tmp_path / "x.html")["made"]["forces"] == []
