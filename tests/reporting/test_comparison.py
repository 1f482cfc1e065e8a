"""Reference values and configurations: the distance from them, and what cannot be compared."""

import math

import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.reporting import write_report
from boltzgen.reporting.comparison import compared
from boltzgen.reweighting import Estimate

MEAN = {"e": (Estimate(1.0, 0.3, (0.4, 1.6), 100.0, 100, 0.1), "kT")}
KNOWN = {"value": 3.0, "standard_error": 0.4, "unit": "kT", "method": "by quadrature"}


def uniform(chain, n=2000, seed=0, **fields):
    phi, psi = torch.rand(2, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    return chain(phi, psi, **fields)


def test_the_distance_is_in_standard_errors_of_the_difference(chain):
    found = compared(uniform(chain), MEAN, None, {"e": KNOWN, "something else": KNOWN})
    assert found == {"values": {"e": KNOWN | {"sigmas": pytest.approx(4.0)}}, "frames": None}


def test_an_estimate_that_is_not_finite_is_at_no_distance(chain):
    wild = {"e": (Estimate(math.inf, math.inf, (0.0, math.inf), 1.0, 1, 0.1), "kT")}
    assert compared(uniform(chain), wild, None, {"e": KNOWN})["values"]["e"]["sigmas"] is None


def test_reference_configurations(chain):
    found = compared(uniform(chain), {}, uniform(chain, 500, 1), {})["frames"]
    assert found["n"] == 500
    assert 0 < found["apart"] < 3 * found["noise"]


def test_a_reference_of_something_else_is_refused(chain):
    samples = uniform(chain)
    with pytest.raises(InputError, match="must be in kT; got 'kJ/mol'"):
        compared(samples, MEAN, None, {"e": KNOWN | {"unit": "kJ/mol"}})
    with pytest.raises(InputError, match="at the same temperature"):
        compared(samples, {}, uniform(chain, temperature=310.0), {})
    with pytest.raises(InputError, match="at the same temperature"):
        compared(samples, {}, uniform(chain, topology=None), {})
    with pytest.raises(InputError, match="must know the torsions phi, psi"):
        compared(samples, {}, uniform(chain, torsions={}), {})
    with pytest.raises(InputError, match="reference must be a Samples"):
        compared(samples, {}, "md.dcd", {})


def test_a_report_shows_both(chain, tmp_path):
    known = {"mean_potential_energy": KNOWN | {"unit": "kJ/mol"}}
    found = write_report(uniform(chain), tmp_path / "x.html", reference=uniform(chain, 500, 1), reference_values=known)
    page = (tmp_path / "x.html").read_text()
    assert f"{found['reference']['values']['mean_potential_energy']['sigmas']:.2g}" in page
    assert "3.00 ± 0.40 kJ/mol" in page
    assert "by quadrature" in page
    assert "Compared with 500 reference configurations" in page
    assert page.count("and of the reference") + page.count("of the reference, and") >= 2  # alt texts


def test_an_incomplete_reference_value_is_refused(chain):
    with pytest.raises(InputError, match=r"of e must say value, .*; got none for standard_error, method"):
        compared(uniform(chain), MEAN, None, {"e": {"value": 3.0, "unit": "kT"}})
