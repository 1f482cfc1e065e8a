import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import Flow, GaussianMixture, Permutation

MEANS = torch.tensor([[-1.0, 0.5], [1.5, -0.5], [0.0, 2.0]], dtype=torch.float64)
SCALES = torch.tensor([[0.6, 1.1], [0.8, 0.5], [1.3, 0.7]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
N = 4_000
SIGMAS = 5


def mixture():
    return GaussianMixture(MEANS, scales=SCALES, weights=WEIGHTS).double()


def test_is_the_mixture_of_torch():
    z = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(WEIGHTS),
        torch.distributions.Independent(torch.distributions.Normal(MEANS, SCALES), 1),
    )
    assert (mixture().log_prob(z) - exact.log_prob(z)).abs().max() < 1e-6  # parameters passed through float32


def moment(base):
    """E[z_0² z_1] in closed form."""
    second = base.means[:, 0].square() + (2 * base.log_scales[:, 0]).exp()
    return (base.logits.softmax(0) * second * base.means[:, 1]).sum()


def test_draws_have_the_gradient_of_the_law_in_every_parameter():
    base = mixture()
    exact = torch.autograd.grad(moment(base), list(base.parameters()))
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(100):  # independent estimates
        z = base.sample(N, generator)
        found.append(torch.autograd.grad((z[:, 0].square() * z[:, 1]).mean(), list(base.parameters())))
    for expected, *columns in zip(exact, *found, strict=True):
        estimates = torch.stack(columns)
        error = estimates.std(0) / 10
        assert ((estimates.mean(0) - expected).abs() < SIGMAS * error + 1e-12).all()
        assert not ((estimates.mean(0) - 1.1 * expected).abs() < SIGMAS * error).all(), "the twin 10 % off must fail"


def test_draws_are_the_same_with_and_without_gradient():
    base = mixture().float()
    z = base.sample(1000, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(base.sample(1000, torch.Generator().manual_seed(0)), z)
    assert z.requires_grad
    gradients = torch.autograd.grad(z.square().sum(), list(base.parameters()))
    assert all(g.isfinite().all() for g in gradients)


def test_a_flow_with_nothing_but_this_base_learns_by_energy():
    flow = Flow(GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]])), Permutation([1, 0]))
    x, log_q = flow.rsample(5)
    gradients = torch.autograd.grad((x.square().sum(-1) + log_q).mean(), list(flow.parameters()))
    assert all((g != 0).any() for g in gradients)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"means": MEANS[0]}, "means must have shape"),
        ({"means": MEANS, "scales": SCALES[0]}, "scales and weights must have shapes"),
        ({"means": MEANS, "weights": WEIGHTS[:2]}, "scales and weights must have shapes"),
        ({"means": MEANS, "scales": -1.0}, "scales and weights positive"),
        ({"means": MEANS, "weights": 0 * WEIGHTS}, "scales and weights positive"),
    ],
)
def test_wrong_parameters_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        GaussianMixture(**options)
