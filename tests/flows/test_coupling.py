import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import Affine, CircularSpline, Coupling, Mixed, Spline


def test_only_the_transformed_change_and_only_the_given_matter(randomise):
    layer = randomise(Coupling(4, [3, 1], [2], Affine(2)))
    z = torch.randn(5, 4, requires_grad=True)
    x, log_det = layer.forward(z)
    assert torch.equal(x[:, [0, 2]], z[:, [0, 2]])
    assert (x[:, [3, 1]] != z[:, [3, 1]]).all()
    (gradient,) = torch.autograd.grad(log_det.sum(), z)
    assert (gradient[:, 2] != 0).all()
    assert (gradient[:, [0, 1, 3]] == 0).all()


def test_transformed_dimensions_come_in_the_order_given():
    layer = Coupling(3, [2, 0], [], Affine(2))
    layer.conditioner.heads[0].bias.data = torch.tensor([10.0, 20.0])
    assert layer.forward(torch.zeros(1, 3))[0].tolist() == [[20.0, 0.0, 10.0]]


def test_couplings_one_after_the_other_are_autoregressive(randomise):
    layers = [randomise(Coupling(3, [k], list(range(k)), Spline(1)), seed=k).double() for k in range(3)]
    x = torch.zeros(1, 3, dtype=torch.float64)

    def run(z):
        for layer in layers:
            z, _ = layer.forward(z)
        return z

    jacobian = torch.autograd.functional.jacobian(run, x)[0, :, 0]
    assert torch.equal(jacobian, jacobian.tril())
    assert (jacobian.tril() != 0).sum() == 6


@pytest.mark.parametrize(
    ("transformed", "given", "transformer", "message"),
    [
        ([0], [0], Affine(1), "distinct dimensions"),
        ([0, 0], [1], Affine(2), "distinct dimensions"),
        ([3], [1], Affine(1), "distinct dimensions"),
        ([-1], [1], Affine(1), "distinct dimensions"),
        ([0], [1], Affine(2), "must fit"),
        ([2], [1], Affine(1), "use CircularSpline or Rotation for angles"),
        ([0], [1], CircularSpline(1), "must fit"),
        ([2, 0], [1], Mixed(Affine(1), CircularSpline(1)), "must fit"),
    ],
)
def test_dimensions_that_do_not_fit_are_refused(transformed, given, transformer, message):
    with pytest.raises(InputError, match=message):
        Coupling(3, transformed, given, transformer, circular=[False, False, True])


def test_a_mask_of_the_wrong_length_is_refused():
    with pytest.raises(InputError):
        Coupling(3, [0], [1], Affine(1), circular=[False])
