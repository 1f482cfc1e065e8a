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
    gains = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None, None]
    mixture = (logits.softmax(0) * torch.sigmoid((z - gains * mean) * torch.exp(-5 * torch.tanh(log_scale / 5)))).sum(0)
    assert (layer(z, *theta)[0] - mixture.logit()).abs().max() < 1e-4


def test_components_learn_apart():
    layer = LogisticMixture(1, components=4)
    theta = [t.zero_().requires_grad_() for t in parameters(layer, 3, dtype=torch.float32)]
    x, _ = layer(torch.randn(1, 3), *theta)
    (gradient,) = torch.autograd.grad(x.sum(), theta[0])
    assert len(gradient.view(3, 4, 3)[1, :, 0].unique()) == 4


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
    with pytest.raises(InputError, match="components must be at least 1"):
        LogisticMixture(1, **options)
