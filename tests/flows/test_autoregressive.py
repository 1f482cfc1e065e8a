import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import (
    Affine,
    Autoregressive,
    CircularSpline,
    Coupling,
    Inverse,
    Mixed,
    Spline,
    TriangularAffine,
)

EXACT = 1e-12


def jacobian(call, z):
    """∂x/∂z of one row."""
    return torch.autograd.functional.jacobian(lambda v: call(v[None])[0][0], z)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_both_directions_are_triangular_in_the_order(order, randomise):
    layer = randomise(Autoregressive(3, Spline(3), order=order)).double()
    z = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64)
    for call in (layer.forward, layer.inverse):
        found = jacobian(call, z)[order][:, order]
        assert torch.equal(found, found.tril())
        assert (found.tril() != 0).sum() == 6


def test_is_the_couplings_one_after_the_other(randomise):
    """With the same parameters, written out: x_i = μ_i + exp(σ_i) z_i, both functions of x before i."""
    layer = randomise(Autoregressive(3, Affine(3, max_log_scale=1e6), order=[1, 2, 0])).double()
    z = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, total = torch.zeros_like(z), torch.zeros(6, dtype=torch.float64)
    for i in (1, 2, 0):
        mean, log_scale = layer.conditioner(x.T, z.new_zeros(0, 6), None)
        x[:, i] = (mean[i] + log_scale[i].exp() * z[:, i]).detach()
        total = total + log_scale[i]
    found, log_det = layer.forward(z)
    assert (found - x).abs().max() < 1e-6  # the bound of the scale is a tanh
    assert (log_det - total).abs().max() < 1e-6


class Counted(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, *args):
        self.calls += 1
        return self.inner(*args)


def test_one_direction_takes_one_pass_and_the_other_as_many_as_dimensions():
    layer = Autoregressive(4, Affine(4))
    layer.conditioner = Counted(layer.conditioner)
    z = torch.zeros(2, 4)
    for call, passes in ((layer.inverse, 1), (layer.forward, 4), (Inverse(layer).forward, 1)):
        layer.conditioner.calls = 0
        call(z)
        assert layer.conditioner.calls == passes


def test_dimensions_keep_their_places(randomise):
    circular = [True, False, True]
    layer = randomise(Autoregressive(3, Mixed(Affine(1), CircularSpline(2)), circular=circular)).double()
    z = torch.tensor([[3.0, 50.0, -3.0]], dtype=torch.float64)
    x, _ = layer.forward(z)
    assert (x[:, [0, 2]].abs() <= torch.pi).all()
    assert layer.inverse(x)[0][0, 1].item() == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Autoregressive(3, Affine(3), order=[0, 1]), "order and circular"),
        (lambda: Autoregressive(3, Affine(3), order=[0, 1, 1]), "order and circular"),
        (lambda: Autoregressive(3, Affine(3), circular=[False]), "order and circular"),
        (lambda: Autoregressive(3, Affine(2)), "must fit"),
        (lambda: Autoregressive(2, Affine(2), circular=[True, False]), "use CircularSpline or Rotation"),
        (lambda: Autoregressive(2, TriangularAffine(2)), "every dimension by itself"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_coupling_says_the_same_for_two_dimensions(randomise):
    layer = randomise(Autoregressive(2, Spline(2))).double()
    coupling = Coupling(2, [1], [0], Spline(1)).double()
    assert type(coupling.transformer) is type(layer.transformer.at(1))
    z = torch.randn(5, 2, dtype=torch.float64)
    moved = z.clone()
    moved[:, 1] += 1.0
    assert torch.equal(layer.forward(z)[0][:, 0], layer.forward(moved)[0][:, 0])
