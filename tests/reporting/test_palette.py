"""Everyone tells the colours of the pictures apart: those who are colour-blind, and who print without colour."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba_array

from boltzgen.reporting import figures
from boltzgen.reporting.palette import ELEMENTS, FLOW, OTHER, PLAIN, REWEIGHTED
from boltzgen.training import History
from boltzgen.training.history import Round

# Machado, Oliveira & Fernandes (2009), table 1, severity 1.0: matrices of linear RGB.
EYES = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
    "no cones": np.tile([0.2126, 0.7152, 0.0722], (3, 1)),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Of linear sRGB, white D65."""


def lab(colour, eyes):
    """CIELAB of an sRGB colour "#RRGGBB" as these eyes see it."""
    srgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ (EYES[eyes] @ linear).clip(0, 1) / TO_XYZ.sum(1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(colours, eyes):
    """The least difference (CIE 1976) of any two of them."""
    return min(float(np.linalg.norm(lab(a, eyes) - lab(b, eyes))) for a, b in combinations(colours, 2))


LEAST = {"all cones": 15, "protanopia": 15, "deuteranopia": 15, "tritanopia": 15, "no cones": 7}
"""CIE 1976 differences, of which 2.3 is just noticeable; without colour, dashes and fills help."""
TWINS = {
    "all cones": (FLOW, "#D55E1C"),
    "protanopia": ("#C00000", "#404000"),
    "deuteranopia": ("#D62728", "#2CA02C"),
    "tritanopia": ("#00B4C8", "#00C0A0"),
    "no cones": (FLOW, OTHER),
}
"""Colours that these eyes do not tell apart: red and green, blue and green, and two here that are of one brightness."""


def beside(figure):
    """The colours of the palette in a figure."""
    found = set()
    for artist in figure.findobj():
        for name in ("get_color", "get_facecolor", "get_edgecolor"):
            if hasattr(artist, name) and len(colours := to_rgba_array(getattr(artist, name)())):
                found |= {to_hex(colour).upper() for colour in colours}
    return found & {FLOW, REWEIGHTED, OTHER, PLAIN}


@pytest.mark.parametrize("eyes", EYES)
def test_colours_beside_each_other_are_told_apart(eyes, peptide):
    history = History([1.0], [Round(600.0, 0.5, 300.0, 4096, 60.0, 0.1), Round(300.0, 0.6, 300.0, 4096, 90.0, 0.05)])
    pairs = {
        name: beside(figure) for name, figure in figures(peptide, history=history, reference=peptide[:2000]).items()
    }
    assert {FLOW, REWEIGHTED, PLAIN} <= pairs["energies"]
    assert {FLOW, REWEIGHTED} <= pairs["training"]
    for name, colours in pairs.items():
        assert len(colours) < 2 or nearest(colours, eyes) > LEAST[eyes], name
    assert nearest(TWINS[eyes], eyes) < LEAST[eyes]


@pytest.mark.parametrize("eyes", [eyes for eyes in EYES if eyes != "no cones"])
def test_atoms_are_told_apart_also_without_their_letters(eyes):
    assert nearest(ELEMENTS.values(), eyes) > LEAST[eyes]


def test_the_measure_of_differences_is_that_of_the_standard():
    assert lab("#FFFFFF", "all cones") == pytest.approx([100, 0, 0], abs=1e-6)
    assert lab("#FF0000", "all cones") == pytest.approx([53.24, 80.09, 67.20], abs=0.01)  # Lindbloom's calculator
    for eyes in EYES:
        assert lab("#777777", eyes)[1:] == pytest.approx([0, 0], abs=0.01)
