"""Figures by name, in a notebook and as files."""

from xml.etree import ElementTree

import pytest
import torch
from matplotlib.figure import Figure

from boltzgen.errors import InputError
from boltzgen.reporting import figures, save_figures, structures, write_report
from boltzgen.sampling import Samples
from boltzgen.training import History

TOY = ["energies", "weights", "running"]


def toy(u=None):
    return Samples(torch.zeros(200, 2), torch.zeros(200), torch.linspace(0, 1, 200) if u is None else u)


def test_what_can_be_drawn_is_drawn(chain):
    phi = torch.linspace(-3, 3, 300)
    molecule = figures(chain(phi, phi), history=History(losses=[2.0, 1.0]))
    assert list(molecule) == ["ramachandran", "profiles", *TOY, "structures", "training"]
    assert all(isinstance(figure, Figure) for figure in molecule.values())
    assert list(figures(toy())) == TOY
    assert figures(toy(torch.full((200,), torch.inf))) == {}


def test_figures_as_files(tmp_path):
    files = save_figures(toy(), tmp_path / "new" / "folder")
    assert sorted(file.name for file in files) == sorted(f"{n}.{e}" for n in TOY for e in ("svg", "png"))
    for file in files:
        if file.suffix == ".svg":
            assert ElementTree.parse(file).getroot().tag.endswith("svg")
        else:
            assert file.read_bytes().startswith(b"\x89PNG")


def test_a_report_writes_them_if_it_is_asked_to(tmp_path):
    write_report(toy(), tmp_path / "x.html", figures=tmp_path / "figures")
    assert len(list((tmp_path / "figures").iterdir())) == 2 * len(TOY)


def test_structures_are_drawn_with_every_atom_and_bond(chain):
    figure = structures(chain([0.1, 1.0], [0.2, 2.0]), [1, 0])
    assert [axis.get_title() for axis in figure.axes] == ["draw 1", "draw 0"]
    assert all(len(axis.collections) == 5 and len(axis.lines) == 4 for axis in figure.axes)
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["C", "C", "N"]


def test_structures_of_what_is_not_there(chain):
    with pytest.raises(InputError, match="rows must be between 0 and 0"):
        structures(chain([0.1], [0.1]), [1])
    with pytest.raises(InputError, match="samples must carry a topology"):
        structures(chain([0.1], [0.1], topology=None), [0])
