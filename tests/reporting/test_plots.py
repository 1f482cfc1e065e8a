import math
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
    running_estimates,
    save_figure,
    training_curve,
    weight_histogram,
)
from boltzgen.reporting.maps import map_numbers
from boltzgen.reporting.plots import energy_numbers, training_numbers, weight_numbers
from boltzgen.sampling import Samples
from boltzgen.training import History
from boltzgen.training.history import Round

HIGH = 2.0  # kT


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


def test_pictures_are_drawn_from_the_numbers_that_are_kept(peptide):
    numbers = energy_numbers(peptide, reference=peptide)
    patches = energy_histogram(peptide, reference=peptide).axes[0].patches
    for name, patch in zip(("flow", "reweighted", "reference"), patches, strict=True):
        values, edges, _ = patch.get_data()
        assert (values.tolist(), edges.tolist()) == (numbers[name], numbers["edges"])
    numbers, bars = weight_numbers(peptide), weight_histogram(peptide).axes[0].patches
    assert [bar.get_height() for bar in bars] == numbers["draws"]
    assert [bar.get_x() for bar in bars] == pytest.approx(numbers["edges"][:-1])
    numbers = map_numbers(peptide, reference=peptide)
    meshes = [axis.collections[0].get_array() for axis in ramachandran(peptide, reference=peptide).axes[:4]]
    for name, mesh in zip(("flow", "reweighted", "reference"), meshes, strict=False):
        p = np.array(numbers[name])
        assert p.sum() == pytest.approx(1.0, abs=1e-4)
        shown = ~np.ma.getmaskarray(mesh.reshape(p.shape))
        np.testing.assert_allclose(np.asarray(mesh).reshape(p.shape)[shown], -np.log((p / p.max()).T[shown]))
    difference = np.array(numbers["difference"]["kT"], dtype=float)
    assert np.nanmax(np.abs(difference)) < 1e-6  # from itself
    history = History(losses=[2.0, 1.0], rounds=[Round(600.0, 0.5, 300.0, 10, 30.0, 0.25)])
    numbers, axes = training_numbers(history), training_curve(history).axes
    assert axes[1].lines[0].get_ydata().tolist() == numbers["kl"] == [0.25]
    assert axes[0].lines[0].get_xdata().tolist() == numbers["minutes"] == [0.5]


def test_a_toy_is_shown_in_kt_and_has_no_map():
    toy = Samples(torch.zeros(100, 2), torch.zeros(100), torch.linspace(0, 1, 100))
    assert energy_histogram(toy).axes[0].get_xlabel() == "u (kT)"
    with pytest.raises(InputError, match="positions must come from a molecule"):
        ramachandran(toy)


@pytest.mark.parametrize(
    "u",
    [
        torch.zeros(50),
        torch.zeros(1),
        torch.linspace(0, 1e30, 50),
        torch.linspace(0, 900, 50),
        torch.tensor([-17.8, 900.0], dtype=torch.float64),  # 1.5 u - 0.5 u < u there, by rounding
    ],
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
    assert training_curve(history).axes[0].lines[0].get_ydata()[[0, 2]].tolist() == [3.0, 1.0]
    history.rounds = [Round(1200.0, 0.5, 600.0, 1000, 60.0), Round(600.0, 0.7, 300.0, 1000, 120.0, 0.2)]
    figure = training_curve(history)
    share, divergence, temperature = figure.axes
    assert share.lines[0].get_ydata().tolist() == [0.5, 0.7]
    assert divergence.get_ylabel() == "KL(q‖p) of the draws"
    before, now = divergence.lines[0].get_ydata().tolist()
    assert math.isnan(before), "a record from before it was kept"
    assert now == 0.2
    assert temperature.lines[0].get_ydata().tolist() == [1200.0, 600.0]


def test_many_losses_are_shown_by_their_means():
    found = training_numbers(History(losses=[float(k) for k in range(1000)] + [float("nan")]))
    assert found["steps"][0] == 4
    assert found["steps"][-1] == 1001
    assert found["loss"][:2] == [1.5, 5.5]
    assert found["loss"][-1] is None


def test_matplotlibs_own_state_is_left_alone(peptide):
    before = dict(matplotlib.rcParams)
    ramachandran(peptide)
    weight_histogram(peptide)
    assert dict(matplotlib.rcParams) == before


def test_names_are_text_and_no_formulae(peptide, tmp_path):
    strange = replace(peptide, torsions={r"a$\frac$": [0, 1, 2, 3], "b$": [1, 2, 3, 4]})
    save_figure(free_energy_profiles(strange), tmp_path / "profiles.svg")
    save_figure(ramachandran(strange, r"a$\frac$", "b$"), tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.png", "profiles.svg"]


def test_an_ending_that_names_no_format_is_refused(peptide, tmp_path):
    with pytest.raises(InputError, match=r"path must end in one of .*\.svg.*; got .*map\.doc"):
        save_figure(weight_histogram(peptide), tmp_path / "map.doc")
    save_figure(weight_histogram(peptide), tmp_path / "weights.SVG")
    assert [p.name for p in tmp_path.iterdir()] == ["weights.SVG"]


def test_the_running_estimates_end_at_the_estimates(peptide):
    figure = running_estimates(peptide)
    share, energy = figure.axes[:2]
    assert share.lines[0].get_xdata()[-1] == len(peptide)
    w = peptide.log_w.exp()
    assert share.lines[0].get_ydata()[-1] == pytest.approx(float(w.sum() ** 2 / (w @ w)) / len(peptide))
    mean = float((w[3:] @ peptide.u[3:]) / w.sum()) * 300 * 0.00831446
    assert energy.lines[0].get_ydata()[-1] == pytest.approx(mean, rel=1e-5)
    assert energy.get_title() == "⟨U⟩ (kJ/mol)"
    with pytest.raises(InputError, match="a draw of finite energy"):
        running_estimates(peptide[:3])


def test_the_energies_of_a_reference_are_shown_with_its_weights(peptide):
    reference = replace(peptide, u=torch.where(peptide.u.isinf(), torch.inf, 0.0).double())
    values, edges, _ = energy_histogram(peptide, reference=reference).axes[0].patches[2].get_data()
    assert values[-1] / values.sum() == pytest.approx(0.5, abs=0.05)  # half of it is HIGH
    assert (values * np.diff(edges)).sum() == pytest.approx(1.0, abs=1e-6)
