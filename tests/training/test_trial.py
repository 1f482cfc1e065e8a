"""The trial of compiled code: what differs from eager in value or gradient is named."""

import torch

from boltzgen.energies.toys import DoubleWell
from boltzgen.flows import coupling_flow, molecular_flow
from boltzgen.training.trial import compare

ROWS = (64, 64)


class Compiled(DoubleWell):
    """An energy that goes through torch.compile, or what stands in its place below."""

    compiled_methods = ("_energy",)


def off_by_one(f, **_):
    return lambda *args: f(*args) + 1.0 if f.__name__ == "_energy" else f(*args)


def test_a_planted_miscompilation_is_noticed_in_value(monkeypatch):
    monkeypatch.setattr(torch, "compile", off_by_one)
    assert "pass gives" in compare(coupling_flow(2, layers=2), Compiled(), ROWS)


def test_a_planted_miscompilation_is_noticed_in_gradient(monkeypatch):
    def wrong(f, **_):
        return lambda *args: 2 * f(*args) - f(*args).detach() if f.__name__ == "_energy" else f(*args)

    monkeypatch.setattr(torch, "compile", wrong)
    assert "gradient is off" in compare(coupling_flow(2, layers=2), Compiled(), ROWS)


def test_honest_compilation_passes(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    assert compare(coupling_flow(2, layers=2), Compiled(), ROWS) == ""


def test_flows_for_every_temperature_are_tried_at_temperatures(monkeypatch):
    hinge = molecular_flow([False, True], torch.zeros(1), torch.eye(1), temperature=4.0)
    for flow in (coupling_flow(2, layers=2, temperature=1.0), hinge):
        monkeypatch.setattr(torch, "compile", lambda f, **_: f)
        assert compare(flow, Compiled(), ROWS) == ""
        monkeypatch.setattr(torch, "compile", off_by_one)
        assert "pass gives" in compare(flow, Compiled(), ROWS)
