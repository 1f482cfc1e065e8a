"""Maps and profiles of laws that are known, alone and beside a reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.reporting import free_energy_profiles, map_distance, ramachandran

HIGH = 2.0  # kT


def meshes(figure):
    return [axis.collections[0].get_array() for axis in figure.axes[:2]]


def test_the_map_shows_the_flow_and_the_target(peptide):
    figure = ramachandran(peptide, bins=8)
    flow, reweighted = (mesh.reshape(8, 8) for mesh in meshes(figure))
    drawn = np.isfinite(flow.filled(np.nan))
    assert drawn.sum() == 4
    # flat in the flow; HIGH between the halves of the target
    assert flow[drawn].max() < 0.3
    assert np.ptp(reweighted[drawn]) == pytest.approx(HIGH, abs=0.3)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["flow", "reweighted"]
    assert figure.axes[0].get_xlim() == (-180, 180)
    assert "kT" in figure.axes[2].get_ylabel()


def test_profiles_have_their_step_and_their_gaps_and_bands_around_them(peptide):
    figure = free_energy_profiles(peptide, bins=8)
    phi, psi = figure.axes
    angle, value = phi.lines[0].get_data()
    drawn = np.isfinite(value)
    np.testing.assert_allclose(angle[drawn], [22.5, 67.5])
    assert value[drawn][0] == 0
    assert value[drawn][1] == pytest.approx(HIGH, abs=0.2)
    of_psi = psi.lines[0].get_ydata()
    assert np.isfinite(of_psi).sum() == 2
    assert np.nanmax(of_psi) < 0.2
    band = phi.collections[0].get_datalim(phi.transData).intervaly
    assert band[0] < 0.05
    assert HIGH < band[1] < HIGH + 0.5
    assert [axis.get_title() for axis in (phi, psi)] == ["phi", "psi"]
    assert len(free_energy_profiles(peptide, ["psi"]).axes) == 1
    with pytest.raises(InputError, match="a torsion must be one of"):
        free_energy_profiles(peptide, ["chi1"])
    with pytest.raises(InputError, match="got none"):
        free_energy_profiles(peptide, [])


def test_the_reference_and_the_difference_have_their_own_maps(peptide):
    """A reference in which phi > 45° costs nothing: it lies HIGH below the target's there, but for the offset."""
    reference = replace(peptide, u=torch.where(peptide.u.isinf(), torch.inf, 0.0).double())
    figure = ramachandran(peptide, bins=16, reference=reference)
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles == ["flow", "reweighted", "reference", "reweighted − reference"]
    difference = figure.axes[3].collections[0].get_array().filled(np.nan).reshape(8, 8)
    known = np.isfinite(difference)
    assert known.sum() == 4
    assert np.ptp(difference[known]) == pytest.approx(HIGH, abs=0.01)
    same = ramachandran(peptide, bins=16, reference=peptide).axes[3].collections[0].get_array().filled(0.0)
    assert np.abs(same).max() < 1e-12
    dashed = free_energy_profiles(peptide, reference=reference, bins=8).axes[0].lines[1].get_ydata()
    assert np.nanmax(dashed) < 0.3


def test_the_distance_of_maps_is_the_share_that_lies_elsewhere(peptide):
    reference = replace(peptide, u=torch.where(peptide.u.isinf(), torch.inf, 0.0).double())
    apart, noise = map_distance(peptide, reference)
    assert apart == pytest.approx(0.5 - 1 / (1 + np.exp(HIGH)), abs=0.03)
    assert noise < 0.1 < apart
    assert map_distance(peptide, peptide)[0] == 0
    half = torch.arange(len(peptide)) % 2 == 0
    apart, noise = map_distance(peptide[half], peptide[~half])
    assert noise / 2 < apart < 2 * noise
