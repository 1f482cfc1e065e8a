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

EXACT, ROUND_TRIP = 1e-12, 1e-9


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
        (lambda: Autoregressive(3, Affine(3), order=[0, 1, 1]), "order must name some of 3 dimensions once"),
        (lambda: Autoregressive(3, Affine(3), order=[0, 1, 3]), "order must name some of 3 dimensions once"),
        (lambda: Autoregressive(3, Affine(3), order=[]), "order must name some of 3 dimensions once"),
        (lambda: Autoregressive(3, Affine(3), circular=[False]), "circular have an entry for each"),
        (lambda: Autoregressive(3, Affine(3), order=[0, 1]), "must fit"),
        (lambda: Autoregressive(3, Affine(2)), "must fit"),
        (lambda: Autoregressive(2, Affine(2), circular=[True, False]), "use CircularSpline or Rotation"),
        (lambda: Autoregressive(2, TriangularAffine(2)), "every dimension by itself"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def as_couplings(layer):
    """The couplings, one dimension each, that a layer of separate networks is, with its parameters."""
    layout = sorted(layer.transformed, key=lambda i: (bool(layer.circular[i]), i))
    couplings, mine, m = [], layer.conditioner, len(layout)
    for k, i in enumerate(layer.transformed):
        given, place = sorted(layer.transformed[:k], key=layout.index), layout.index(i)
        spline, mask = CircularSpline(1, bins=8, shift=layer.transformer.shift[[place]]), layer.circular.tolist()
        coupling = Coupling(layer.in_shape[0], [i], given, spline, circular=mask, hidden=(16, 12)).double()
        theirs = coupling.conditioner
        couplings.append(coupling)
        with torch.no_grad():
            if not given:
                nothing, angles = torch.zeros(0, 1).double(), torch.zeros(m, 1).double()
                for head, constant in zip(theirs.heads, mine(nothing, angles, None, place), strict=True):
                    head.bias.copy_(constant[:, 0])
                continue
            seen = [f * m + layout.index(j) for f in range(4) for j in given]
            theirs.hidden[0].weight.copy_(mine.hidden[0].weight[place::m][:, seen])
            theirs.hidden[1].weight.copy_(mine.hidden[1].weight[place::m])
            for a, b in zip(mine.heads, theirs.heads, strict=True):
                b.weight.copy_(a.weight[place::m])
            for a, b in zip([*mine.hidden, *mine.heads], [*theirs.hidden, *theirs.heads], strict=True):
                b.bias.copy_(a.bias[place::m])
    return couplings


def test_separate_networks_are_couplings_one_after_the_other(randomise):
    """Three angles; the layer leaves two lengths and an angle alone."""
    circular = [True, False, True, False, True, True]
    seams = torch.tensor([0.5, -1.0, 2.0])
    layer = randomise(
        Autoregressive(
            6, CircularSpline(3, shift=seams), order=[4, 0, 2], circular=circular, hidden=(16, 12), separate=True
        )
    ).double()
    z = 2 * torch.rand(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    x, log_det = layer.forward(z)
    y, total = z, torch.zeros(7, dtype=torch.float64)
    for coupling in as_couplings(layer):
        y, step = coupling.forward(y)
        total = total + step
    assert (x - y).abs().max() < EXACT
    assert (log_det - total).abs().max() < EXACT
    assert torch.equal(x[:, [1, 3, 5]], z[:, [1, 3, 5]])
    back, log_back = layer.inverse(x)
    assert (back - z).abs().max() < ROUND_TRIP
    assert (log_back + log_det).abs().max() < ROUND_TRIP


def test_what_a_layer_leaves_alone_is_not_seen(randomise):
    layer = randomise(Autoregressive(4, Affine(2), order=[2, 0], separate=True)).double()
    z = torch.tensor([0.3, -0.5, 1.1, 0.7], dtype=torch.float64)
    for call in (layer.forward, layer.inverse):
        found = jacobian(call, z) != 0
        assert found.tolist() == [
            [True, False, True, False],
            [False, True, False, False],
            [False, False, True, False],
            [False, False, False, True],
        ]
