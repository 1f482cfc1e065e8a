import math

import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import LogisticMixture


def parameters(layer, n, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(size, n, generator=generator, dtype=dtype) for size in layer.sizes]


def test_is_the_logit_of_the_mixture():
    layer = LogisticMixture(2, components=4, min_slope=1e-6).double()
    theta = parameters(layer, 5)
    theta[1].zero_()
    theta[2].zero_()
    z = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits, mean, log_scale = theta[0].view(3, 4, 2, 5)
    k = torch.arange(4, dtype=torch.float64)
    basis = torch.cos((k[:, None] + 0.5) * k * math.pi / 4) * torch.tensor([0.5, *[0.5**0.5] * 3], dtype=torch.float64)
    assert (basis @ basis.T - torch.eye(4)).abs().max() < 1e-12
    mean = torch.einsum("kj,jmn->kmn", basis, mean) + quantiles(4, 0.625)[:, None, None]
    mixture = (logits.softmax(0) * torch.sigmoid((z - mean) / 0.625 * torch.exp(-5 * torch.tanh(log_scale / 5)))).sum(0)
    assert (layer(z, *theta)[0] - mixture.logit()).abs().max() < 1e-4


def quantiles(K, c):
    """Of the law whose sum with a logistic of scale c is logistic of scale 1, by integrating its density."""
    m = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
    density = math.sin(math.pi * c) / (2 * math.pi * c * (m.cosh() + math.cos(math.pi * c)))
    below = torch.cumulative_trapezoid(density, m)
    assert abs(below[-1] - 1) < 1e-6
    return m[torch.searchsorted(below, (torch.arange(K, dtype=torch.float64) + 0.5) / K)]


@pytest.mark.parametrize("components", [1, 8, 32])
def test_starts_near_the_identity(components):
    layer = LogisticMixture(2, components=components)
    z = torch.linspace(-2, 2, 100).view(2, 50)
    x, log_det = layer(z, *[torch.zeros(size, 50) for size in layer.sizes])
    assert (x - z).abs().max() < 0.15
    assert log_det.abs().max() < 0.5
    if components == 1:
        assert (x - z).abs().max() < 1e-5


def test_weights_learn_from_the_first_step():
    """The slope of the loss in π: none as long as all components are one and the same."""
    layer = LogisticMixture(1)
    theta = [torch.zeros(size, 1, requires_grad=True) for size in layer.sizes]
    x = torch.tensor([[-2.0, 2.0, 2.0]])
    z, log_det = layer.inverse(x, *[t.expand(-1, 3) for t in theta])
    (slope,) = torch.autograd.grad((0.5 * z.square().sum(0) - log_det).mean(), theta[0])
    assert slope[: layer.components].abs().max() > 0.03


def test_components_learn_apart():
    """Two far modes from constants: possible if no component is bound to another, for which 8 would be worth fewer."""
    torch.manual_seed(0)
    layer = LogisticMixture(1)
    theta = [torch.zeros(size, 1, requires_grad=True) for size in layer.sizes]
    optimiser = torch.optim.Adam(theta, lr=0.05)
    x = torch.randn(1, 512) * 0.3 + torch.tensor([-2.0, 2.0]).repeat(256)

    def loss():
        z, log_det = layer.inverse(x, *[t.expand(-1, x.shape[1]) for t in theta])
        return (0.5 * z.square().sum(0) - log_det).mean() + 0.5 * math.log(2 * math.pi)

    loss_of_normal = float(0.5 * math.log(2 * math.pi * math.e) + x.std().log())
    for _ in range(120):
        optimiser.zero_grad()
        (value := loss()).backward()
        optimiser.step()
    _, means, inverse_scales = layer._components(theta[0], x[:, :1])
    assert torch.pdist(torch.stack([means, inverse_scales.log()], -1).flatten(0, 2)).min() > 1e-3
    entropy = math.log(2) + 0.5 * math.log(2 * math.pi * math.e * 0.3**2)
    assert float(value.detach()) < entropy + 0.1
    assert loss_of_normal > entropy + 0.5, "the twin, one normal, must fail"


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_and_invertible_whatever_the_parameters(scale, dtype):
    layer = LogisticMixture(3).to(dtype)
    theta = [t.requires_grad_() for t in parameters(layer, 200, scale, dtype)]
    theta[1] = torch.zeros_like(theta[1], requires_grad=True)  # a translation of 1e4 would only lose digits
    z = 4 * torch.randn(3, 200, dtype=dtype, generator=torch.Generator().manual_seed(1))
    x, log_det = layer(z, *theta)
    again, back = layer.inverse(x.detach(), *theta)
    for value in (x.sum() + log_det.sum(), again.sum() + back.sum()):
        assert all(g.isfinite().all() for g in torch.autograd.grad(value, theta))
    # back in x the answer is right even where the map is flat
    forth, _ = layer(again, *theta)
    assert ((forth - x).abs() < 1e3 * torch.finfo(dtype).eps * (1 + x.abs()) * (1 + scale)).all()


@pytest.mark.parametrize("options", [{"components": 0}, {"min_slope": 0.0}, {"min_slope": 1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=r"components must be a positive|min_slope must lie between"):
        LogisticMixture(1, **options)
