from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.reporting import (
    energy_histogram,
    free_energy_profiles,
    ramachandran,
    save_figure,
    training_curve,
    weight_histogram,
)
from boltzgen.sampling import Samples
from boltzgen.training import History
from boltzgen.training.history import Round

HIGH = 2.0  # kT


@pytest.fixture
def peptide():
    """Five atoms whose torsions phi and psi are uniform on (0°, 90°); phi > 45° costs HIGH."""
    n = 4000
    generator = torch.Generator().manual_seed(0)
    phi, psi = (0.5 * torch.pi * torch.rand(2, n, generator=generator, dtype=torch.float64)).unbind()
    zero, one = torch.zeros_like(phi), torch.ones_like(phi)
    positions = torch.stack(
        [
            torch.stack([one, phi.cos(), phi.sin()], -1),  # seen along the axis 1 → 2, phi from atom 3
            torch.stack([one, zero, zero], -1),
            torch.stack([zero, zero, zero], -1),
            torch.stack([zero, one, zero], -1),
            torch.stack([psi.sin(), one, psi.cos()], -1),
        ],
        1,
    )
    u = torch.where(phi > torch.pi / 4, HIGH, 0.0).double()
    u[:3] = torch.inf
    return Samples(
        positions.float().flatten(1),
        torch.zeros(n),
        u,
        temperature=300.0,
        cartesian=positions.float(),
        potential=u,
        topology={"atoms": [["C", "C", "X", "1", "A"]] * 5, "bonds": []},
        torsions={"phi": [0, 1, 2, 3], "psi": [1, 2, 3, 4]},
    )


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


def test_energies_of_flow_and_target_are_densities(peptide):
    figure = energy_histogram(peptide)
    flow, target = figure.axes[0].patches
    for step in (flow, target):
        values, edges, _ = step.get_data()
        assert (values * np.diff(edges)).sum() == pytest.approx(1.0, abs=1e-6)
    assert "kJ/mol" in figure.axes[0].get_xlabel()
    high = [values[-1] / values.sum() for values, *_ in (flow.get_data(), target.get_data())]
    assert high[0] == pytest.approx(0.5, abs=0.05)
    assert high[1] == pytest.approx(1 / (1 + np.exp(HIGH)), abs=0.01)


def test_the_weights_are_shown_about_their_mean(peptide):
    axis = weight_histogram(peptide).axes[0]
    assert "3 of weight 0" in axis.get_title()
    assert "of 4000" in axis.get_title()
    assert sum(bar.get_height() for bar in axis.patches) == 3997


def test_a_toy_is_shown_in_kt_and_has_no_map():
    toy = Samples(torch.zeros(100, 2), torch.zeros(100), torch.linspace(0, 1, 100))
    assert energy_histogram(toy).axes[0].get_xlabel() == "u (kT)"
    with pytest.raises(InputError, match="positions must come from a molecule"):
        ramachandran(toy)


@pytest.mark.parametrize(
    "u", [torch.zeros(50), torch.zeros(1), torch.linspace(0, 1e30, 50), torch.linspace(0, 900, 50)]
)
@pytest.mark.parametrize("plot", [energy_histogram, weight_histogram])
def test_strange_weights_make_a_picture_all_the_same(plot, u, tmp_path):
    plot(Samples(torch.zeros(len(u), 1), torch.zeros(len(u)), u)).savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize("plot", [energy_histogram, weight_histogram])
def test_there_is_no_picture_of_nothing(plot):
    with pytest.raises(InputError, match="samples must hold a draw of finite energy"):
        plot(Samples(torch.zeros(5, 1), torch.zeros(5), torch.full((5,), torch.inf)))


def test_the_course_of_a_training():
    history = History(losses=[3.0, float("nan"), 1.0])
    assert training_curve(history).axes[0].get_ylabel() == "loss"
    history.rounds = [Round(1200.0, 0.5, 600.0, 1000, 60.0), Round(600.0, 0.7, 300.0, 1000, 120.0)]
    figure = training_curve(history)
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.5, 0.7]
    assert figure.axes[1].lines[0].get_ydata().tolist() == [1200.0, 600.0]


def test_matplotlibs_own_state_is_left_alone(peptide):
    before = dict(matplotlib.rcParams)
    ramachandran(peptide)
    weight_histogram(peptide)
    assert dict(matplotlib.rcParams) == before


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


def test_names_are_text_and_no_formulae(peptide, tmp_path):
    strange = replace(peptide, torsions={r"a$\frac$": [0, 1, 2, 3], "b$": [1, 2, 3, 4]})
    save_figure(free_energy_profiles(strange), tmp_path / "profiles.svg")
    save_figure(ramachandran(strange, r"a$\frac$", "b$"), tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.png", "profiles.svg"]
