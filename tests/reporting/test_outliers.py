"""The draws to look at are those planted, and their PDB text is read back by OpenMM."""

import io
import math

import numpy as np
import pytest
import torch
from openmm import app, unit

from boltzgen.reporting import extremes, pdb_text
from boltzgen.sampling import Samples

N = 200


def planted(chain):
    log_w = torch.zeros(N, dtype=torch.float64)
    log_w[[3, 5]], log_w[7] = torch.tensor([4.0, 3.0], dtype=torch.float64), -50.0
    potential = torch.zeros(N, dtype=torch.float64)
    potential[[11, 7]] = torch.tensor([60.0, 90.0], dtype=torch.float64)
    return chain(torch.linspace(-3, 3, N), torch.full((N,), 2.0), log_w, potential=potential)


def test_the_heaviest_the_lightest_and_the_most_energetic(chain):
    samples = planted(chain)
    found = {one["index"]: one for one in extremes(samples)}
    assert {k: one["why"] for k, one in found.items()} == {
        3: "heaviest", 5: "heaviest", 7: "lightest, highest energy", 11: "highest energy",
    }  # fmt: skip
    w = samples.log_w.exp()
    assert found[3]["share"] == pytest.approx(float(w[3] / w.sum()))
    assert found[3]["log_w"] == pytest.approx(float(torch.log(w[3] / w.mean())))
    assert found[7]["potential"] == pytest.approx(90 * 300 * 0.00831446, rel=1e-5)
    assert found[5]["torsions"]["phi"] == pytest.approx(math.degrees(float(samples.torsion("phi")[5])))


def test_failed_draws_are_not_among_them(chain):
    log_w = torch.zeros(N, dtype=torch.float64)
    log_w[:50] = -math.inf
    found = extremes(chain(torch.zeros(N), torch.zeros(N), log_w, potential=torch.zeros(N)))
    assert all(one["index"] >= 50 and math.isfinite(one["u"]) for one in found)


def test_a_configuration_that_is_no_molecule_is_written_out_if_it_is_short():
    x = torch.arange(20.0).reshape(10, 2)
    found = extremes(Samples(x, torch.zeros(10), torch.arange(10.0)))
    assert found[0]["x"] == [0.0, 1.0]
    assert "pdb" not in found[0]
    assert "x" not in extremes(Samples(torch.zeros(4, 50), torch.zeros(4), torch.zeros(4)))[0]


def test_the_pdb_text_is_a_pdb_file(chain):
    samples = planted(chain)
    text = pdb_text(samples.positions()[3], samples.topology)
    pdb = app.PDBFile(io.StringIO(text))
    found = np.array(pdb.positions.value_in_unit(unit.nanometer))
    np.testing.assert_allclose(found, samples.positions()[3].numpy(), atol=5.1e-5)
    assert [atom.name for atom in pdb.topology.atoms()] == ["A0", "A1", "A2", "A3", "A4"]
    assert [atom.element.symbol for atom in pdb.topology.atoms()] == list("HCCNH")
    assert pdb.topology.getNumBonds() == 4
