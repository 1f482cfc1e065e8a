"""Bonds, angles and contacts of a molecule of which all are known."""

import math

import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.reporting import geometry

N = 300


def rows(samples):
    return {row.kind: row for row in geometry(samples)}


def angles(n=N):
    return torch.linspace(-3, 3, n), torch.full((n,), 2.0)


def test_lengths_and_angles_are_measured_by_their_elements(chain):
    found = rows(chain(*angles()))
    assert {kind: row.count for kind, row in found.items()} == {
        "bond C–C": 1, "bond C–H": 1, "bond C–N": 1, "bond H–N": 1,
        "angle C–C–H": 1, "angle C–C–N": 1, "angle C–N–H": 1, "closest contact H···H": 1,
    }  # fmt: skip
    for kind, row in found.items():
        if "contact" not in kind:
            expected = (0.1, "nm") if "bond" in kind else (90.0, "degrees")
            assert (row.mean, row.unit) == (pytest.approx(expected[0], rel=1e-5), expected[1])
            assert row.deviation < 1e-3
            assert row.implausible == 0


def test_means_are_weighted_and_extremes_are_not(chain):
    phi, psi = angles()
    scale = torch.where(torch.arange(N) < N // 2, 0.1, 0.13)[:, None, None]
    log_w = torch.where(torch.arange(N) < N // 2, 0.0, -math.log(9.0))
    row = rows(chain(phi, psi, log_w, scale=scale))["bond C–C"]
    assert row.mean == pytest.approx(0.9 * 0.1 + 0.1 * 0.13, rel=1e-5)
    assert row.deviation == pytest.approx(0.03 * math.sqrt(0.09), rel=1e-4)
    assert row.flow_mean == pytest.approx(0.115, rel=1e-5)
    assert (row.smallest, row.largest) == (pytest.approx(0.1, rel=1e-5), pytest.approx(0.13, rel=1e-5))
    assert row.implausible == pytest.approx(0.1)  # 0.13 is more than 20 % above 0.103


def test_a_clash_is_odd_by_its_weight(chain):
    phi, psi = torch.zeros(100), torch.full((100,), math.pi)
    phi[:1], psi[:1] = 0.0, 0.0  # both hydrogens on one side
    row = rows(chain(phi, psi, torch.zeros(100), scale=0.13))["closest contact H···H"]
    assert row.smallest == pytest.approx(0.0, abs=0.14)
    assert row.implausible in (pytest.approx(0.01), pytest.approx(0.99))


def test_what_is_no_molecule_is_refused(chain):
    with pytest.raises(InputError, match="samples must carry a topology"):
        geometry(chain([0.1], [0.1], topology=None))
    with pytest.raises(InputError, match="a draw of finite energy"):
        geometry(chain([0.1], [0.1], [-math.inf], potential=torch.zeros(1)))
