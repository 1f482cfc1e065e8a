"""Counts: any integer type, and nothing else."""

import math

import numpy as np
import pytest
import torch

import boltzgen as bg
from boltzgen.arguments import counts, four_atoms, numbers, positive_counts, positive_numbers
from boltzgen.errors import InputError
from boltzgen.reporting import examine, ramachandran


def test_integers_of_any_type_are_counts():
    positive_counts(n=1, steps=np.int64(3), walkers=np.uint8(7))


@pytest.mark.parametrize("value", [0, -1, True, 1e4, np.float64(2.0), math.nan, "3", None, (2,)])
def test_nothing_else_is_and_the_argument_is_named(value):
    with pytest.raises(InputError, match="steps must be a positive integer; got"):
        positive_counts(n=1, steps=value)


COORDINATES = bg.InternalCoordinates(bg.Molecule.load("alanine_dipeptide"))
WELL, FLOW = bg.toys.DoubleWell(), bg.coupling_flow(2)
SAMPLES = bg.draw(FLOW, WELL, 100, seed=1)
STEPS = {"walkers": 1, "steps": 1, "step_size": 0.1, "friction": 1.0, "seed": 0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bg.judge(SAMPLES.log_w), "samples must be a Samples; got a Tensor"),
        (lambda: bg.write_report(SAMPLES.log_w, "x.html"), "samples must be a Samples; got a Tensor"),
        (lambda: bg.judge(SAMPLES, others=SAMPLES), r"pass others=\[samples\]"),
        (lambda: bg.InternalCoordinates("alanine_dipeptide"), r"got 'alanine_dipeptide': use Molecule\.load"),
        (lambda: bg.Pullback(COORDINATES, WELL), "inner must be an Energy; got an InternalCoordinates"),
        (lambda: bg.Softened(100.0, WELL), "inner must be an Energy; got a float"),
        (lambda: bg.Samples(np.zeros((3, 2)), np.zeros(3), np.zeros(3)), "x must be a tensor; got ndarray"),
        (lambda: bg.draw(WELL, FLOW, 10), "flow must be a Flow; got a DoubleWell"),
        (lambda: bg.reweight(WELL, SAMPLES), "samples must be a Samples; got a DoubleWell"),
        (lambda: bg.simulate(np.zeros(2), WELL, 1.0, **STEPS), "energy must be an Energy; got a ndarray"),
        (lambda: bg.reverse_kl(WELL, FLOW, 10), "flow must be a Flow; got a DoubleWell"),
        (lambda: bg.expectation(SAMPLES, lambda x: x), r"pass samples\.log_w"),
        (lambda: bg.write_report(SAMPLES, "x.html", commands="boltzgen demo"), "put it into a list"),
        (lambda: bg.Molecule.from_pdb(None), "the path of a PDB file must be a text or a Path; got None"),
        (lambda: examine("alanine_dipeptide"), "molecule must be a Molecule; got a str"),
        (lambda: ramachandran(SAMPLES, bins=0), "bins must be a positive integer; got 0"),
    ],
)
def test_swapped_and_wrong_arguments_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_numbers_of_numpy_become_those_of_python():
    found = [
        *positive_counts(n=np.int64(3), m=2),
        *counts(seed=np.uint8(0)),
        *positive_numbers(step_size=np.float32(0.5), minutes=1),
        *numbers(p=np.float64(-1.0)),
    ]
    assert found == [3, 2, 0, 0.5, 1.0, -1.0]
    assert [type(value) for value in found] == [int, int, int, float, float, float]


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (counts, -1, "must be a non-negative integer; got -1"),
        (counts, None, "must be a non-negative integer; got None"),
        (positive_numbers, 0.0, "must be a positive number; got 0"),
        (positive_numbers, math.inf, "must be a positive number; got inf"),
        (positive_numbers, math.nan, "must be a positive number; got nan"),
        (positive_numbers, "1", "must be a positive number; got '1'"),
        (numbers, "0.5", "must be a number; got '0.5'"),
        (numbers, None, "must be a number; got None"),
        (numbers, True, "must be a number; got True"),
    ],
)
def test_what_is_no_such_number_is_refused(check, value, message):
    with pytest.raises(InputError, match=f"option {message}"):
        check(option=value)


def test_the_atoms_of_a_torsion_are_four_different_ones():
    for atoms in (np.array([4, 0, 2, 1]), torch.tensor([4, 0, 2, 1]), [torch.tensor(4), np.int8(0), 2, 1]):
        assert four_atoms(atoms, 5) == (4, 0, 2, 1)
    several = [[0], [1], [2], [3]]
    for atoms in (
        [0, 1, 2],
        [0, 1, 2, 2],
        [0, 1, 2, 5],
        [0, 1, 2, -1],
        [0, 1, 2, "a"],
        [0, 1, 2, 2.5],
        None,
        3,
        several,
    ):
        with pytest.raises(InputError, match="a torsion must be four different atoms, numbers from 0 to 4; got"):
            four_atoms(atoms, 5)
