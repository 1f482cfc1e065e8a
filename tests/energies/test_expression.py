"""Formulae in batches: derivatives of every order, untaken branches, transformations, both precisions."""

import copy
import math
import pickle

import pytest
import torch

from boltzgen.energies.expressions import Expression
from boltzgen.energies.expressions.operations import OPERATIONS
from boltzgen.energies.expressions.tape import _PARTIALS
from boltzgen.errors import UnsupportedSystemError

F64 = torch.float64


def batch(*values, grad=True):
    return torch.tensor([values], dtype=F64, requires_grad=grad)


SAFE = {"log": "x+3", "sqrt": "x+3", "asin": "x/4", "acos": "x/4", "recip": "x+3", "csc": "x+3", "cot": "x+3"}


@pytest.mark.parametrize(
    "name", sorted(_PARTIALS.keys() - {"add", "subtract", "multiply", "divide", "power", "negate"})
)
def test_derivatives_of_functions_are_right_to_third_order(name):
    arguments = "x,y" if name in ("min", "max", "atan2") else SAFE.get(name, "x")
    f = Expression(f"x^2*{name}({arguments})+y", ["x", "y"])
    x, y = batch(0.31, -0.77, 1.13), batch(0.4, 0.9, -0.6)

    def second(x, y):
        slope = torch.autograd.grad(f({"x": x, "y": y}).sum(), x, create_graph=True)[0]
        return torch.autograd.grad(slope.sum(), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(lambda x, y: f({"x": x, "y": y}), (x, y))
    assert torch.autograd.gradgradcheck(lambda x, y: f({"x": x, "y": y}), (x, y))
    assert torch.autograd.gradcheck(second, (x, y))


def test_every_operation_has_its_derivatives():
    assert set(_PARTIALS) | {"select"} == set(OPERATIONS)


def test_derivatives_of_operators_are_right():
    f = Expression("x*y/(x+3)-x^y+(y+2)^3-(-x)", ["x", "y"])
    x, y = batch(0.3, 1.2), batch(0.7, 1.5)
    assert torch.autograd.gradcheck(lambda x, y: f({"x": x, "y": y}), (x, y))
    assert torch.autograd.gradgradcheck(lambda x, y: f({"x": x, "y": y}), (x, y))


def test_a_branch_not_taken_spoils_no_derivative():
    f = Expression("select(step(x), x^2, log(x)/x)*select(step(-x), 1/x, 1)", ["x"])
    x = batch(2.0, 3.0)
    zero = Expression("select(step(x-1), sqrt(x-1), x^2)", ["x"])
    for g, point, expected in ((f, x, [4.0, 6.0]), (zero, batch(0.5, -2.0), [1.0, -4.0])):
        u = g({"x": point})
        (slope,) = torch.autograd.grad(u.sum(), point, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), point)
        assert slope.tolist() == [expected]
        assert curvature.tolist() == [[2.0, 2.0]]


@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_forward_mode_and_vmap_agree_with_reverse_mode():
    f = Expression("k*exp(-x*y)+x^3", ["x", "y"], ["k"])
    x, y, k = batch(0.3, 1.2, grad=False), batch(0.7, 1.5, grad=False), torch.tensor([[2.0]], dtype=F64)

    def total(x):
        return f({"x": x, "y": y.sin(), "k": k * 1.0}).sum()  # parameters computed inside the transformation too

    torch.testing.assert_close(torch.func.hessian(total)(x), torch.autograd.functional.hessian(total, x))
    value, tangent = torch.func.jvp(total, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(value, total(x))
    torch.testing.assert_close(tangent, torch.autograd.functional.jacobian(total, x).sum())


def test_parameters_are_one_per_row_and_have_no_gradient():
    f = Expression("k*x", ["x"], ["k"])
    x = torch.ones(2, 3, dtype=F64, requires_grad=True)
    k = torch.tensor([[1.0], [10.0]], dtype=F64, requires_grad=True)
    u = f({"x": x, "k": k})
    assert u.tolist() == [[1.0] * 3, [10.0] * 3]
    assert torch.autograd.grad(u.sum(), k, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(u.sum(), x)[0].tolist() == [[1.0] * 3, [10.0] * 3]


def test_a_formula_of_nothing_has_the_shape_asked_for():
    f = Expression("2*k", ["x"], ["k"])
    assert f.inputs == {"k"}
    assert f({"k": torch.ones(2, 1)}, torch.zeros(2, 3)).tolist() == [[2.0] * 3] * 2
    assert f({"k": torch.ones(2, 1)}, torch.zeros(2, 0)).shape == (2, 0)


def test_slopes_that_are_equal_or_constant_do_not_share_memory():
    f = Expression("x+y+(x+y)^2", ["x", "y"])
    x, y = batch(1.0, 2.0), batch(3.0, 4.0)
    a, b = torch.autograd.grad(f({"x": x, "y": y}).sum(), (x, y))
    a += 1
    assert b.tolist() == [[9.0, 13.0]]


def test_single_precision_copies_and_pickles():
    f = Expression("exp(x)+2^x", ["x"])
    x = torch.rand(2, 3)
    assert f({"x": x}).dtype == torch.float32
    torch.testing.assert_close(f({"x": x}), x.exp() + 2**x)
    for twin in (copy.deepcopy(f), pickle.loads(pickle.dumps(f))):
        assert torch.equal(twin({"x": x}), f({"x": x}))


def test_numbers_beyond_the_precision_are_infinite():
    wall = Expression("select(step(x-1), 1e300, x)", ["x"])
    assert wall({"x": torch.tensor([[0.5, 2.0]])}).tolist() == [[0.5, math.inf]]
    assert wall({"x": batch(0.5, 2.0)}).tolist() == [[0.5, 1e300]]
    assert Expression("x^(1/0)", ["x"])({"x": batch(0.5, 2.0)}).tolist() == [[0.0, math.inf]]


@pytest.mark.parametrize("names", [(["x"], ["x"], {}), (["x"], ["k"], {"k": 1.0}), (["x"], [], {"x": 1.0})])
def test_a_name_that_could_mean_two_things_is_refused(names):
    with pytest.raises(UnsupportedSystemError, match=r"^every name in a formula must mean one thing; got [xk] for "):
        Expression("2*x", *names)


def test_common_parts_are_computed_once():
    f = Expression("exp(x)*exp(x)+sin(exp(x)); y=exp(x)", ["x"])
    operations = [node.operation for node in f._tape.nodes]
    assert operations.count("exp") == 1
