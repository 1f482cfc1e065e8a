import math

import pytest
import torch

from boltzgen.flows import Planar, Radial

FLOAT32 = 1e-4


def set_constants(layer, *values):
    for head, value in zip(layer.conditioner.heads, values, strict=True):
        head.bias.data = torch.as_tensor(value, dtype=head.bias.dtype)
    return layer


@pytest.mark.parametrize("kind", [Planar, Radial])
@pytest.mark.parametrize("context", [0, 2])
def test_starts_as_the_identity_and_can_learn(kind, context):
    layer = kind(3, context=context, generator=torch.Generator().manual_seed(0))
    z, c = torch.randn(20, 3), torch.randn(20, context) if context else None
    x, log_det = layer.forward(z, c)
    assert (x - z).abs().max() < 1e-6
    assert log_det.abs().max() < 1e-6
    (x.square().sum() + log_det.sum()).backward()
    assert any(p.grad is not None and (p.grad != 0).any() for p in layer.parameters())


def test_planar_moves_along_one_direction_by_its_formula():
    u, w, b = [0.4, -0.2], [1.0, 2.0], [0.3]
    layer = set_constants(Planar(2).double(), u, w, b)
    z = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wu = 0.4 - 0.4
    m = 0.999 * (math.log1p((math.e - 1) * math.exp(wu)) - 1)
    moved = torch.tensor(u) + (m - wu) * torch.tensor(w) / 5
    expected = z + moved * torch.tanh(z @ torch.tensor(w).double() + 0.3)[:, None]
    assert (layer.forward(z)[0] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("u", [[-50.0, -50.0], [-3.0, 0.0], [40.0, 10.0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_planar_is_invertible_whatever_its_parameters(u, dtype):
    layer = set_constants(Planar(2).to(dtype), u, [1.0, 2.0], [0.0])
    z = torch.linspace(-4, 4, 402, dtype=dtype).view(-1, 2)
    x, log_det = layer.forward(z)
    again, _ = layer.inverse(x)
    assert log_det.isfinite().all()
    assert (again - z).abs().max() < 2000 * torch.finfo(dtype).eps * (1 + x.abs().max())  # the stated thousandfold
    along = (x @ torch.tensor([1.0, 2.0], dtype=dtype))[((z @ torch.tensor([1.0, 2.0], dtype=dtype)).argsort())]
    assert (along.diff() > 0).all()


@pytest.mark.parametrize("beta", [-50.0, -1.0, 0.5, 100.0])
def test_radial_is_invertible_whatever_its_parameters(beta):
    layer = set_constants(Radial(2).double(), [1.0, -1.0], [0.5], [beta])
    z = torch.randn(500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z[0] = torch.tensor([1.0, -1.0])  # the centre itself
    x, log_det = layer.forward(z)
    again, back = layer.inverse(x)
    assert (again - z).abs().max() < 1e-9
    assert (log_det + back).abs().max() < 1e-8
    assert torch.allclose(x[0], z[0])


def test_radial_contracts_or_expands_around_its_centre():
    z = torch.tensor([[1.1, 0.0], [5.0, 0.0]], dtype=torch.float64)
    for beta, sign in ((-2.0, -1), (2.0, 1)):
        layer = set_constants(Radial(2).double(), [1.0, 0.0], [0.0], [beta])
        x, log_det = layer.forward(z)
        assert (sign * (x[:, 0] - z[:, 0]) > 0).all()
        assert sign * log_det[0] > 0
        expected = z[1, 0] - 1 + layer.forward(z)[0][1, 0] - z[1, 0]
        assert expected > 0, "points never cross the centre"
