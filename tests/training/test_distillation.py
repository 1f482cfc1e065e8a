"""Distillation: students reach teachers whose law is known, by both divergences."""

import copy
import math

import pytest
import torch

import boltzgen as bg
from boltzgen.errors import CheckpointError, InputError
from boltzgen.flows import Autoregressive, Flow, Inverse, MultivariateNormal, Normal, Permutation
from boltzgen.training import distill

MEAN = torch.tensor([1.0, -0.5])
FACTOR = torch.tensor([[0.7, 0.0], [0.5, 1.2]])
KL = 0.01  # of a student after its lesson; a student without one is above 0.5
BENT = 0.06  # of those of a curved law


def normal_teacher():
    return Flow(MultivariateNormal(MEAN, FACTOR), Permutation([0, 1]))


def student():
    return bg.coupling_flow(2, transform="affine", layers=2, hidden=(16,))


def energy():
    return bg.toys.Gaussian(MEAN, FACTOR @ FACTOR.T)


def sampler(n):
    return MEAN + torch.randn(n, 2) @ FACTOR.T


def reverse_divergence(flow, teacher=None, n=20_000):
    """KL(student ‖ teacher), by Monte Carlo."""
    teacher = teacher or normal_teacher()
    x, log_q = flow.sample(n, seed=7)
    with torch.no_grad():
        return float((log_q - teacher.log_prob(x)).mean())


@pytest.mark.parametrize(
    ("teacher", "options"),
    [
        (energy(), {}),
        (normal_teacher(), {}),
        (normal_teacher(), {"divergence": "forward"}),
        (sampler, {}),
    ],
    ids=["energy", "flow", "flow, drawn", "sampler"],
)
def test_the_student_learns_the_law_of_every_kind_of_teacher(teacher, options):
    flow = student()
    assert reverse_divergence(flow) > 0.5
    history = distill(teacher, flow, steps=250, n=256, learning_rate=0.02, progress=False, **options)
    assert len(history.losses) == 250
    assert reverse_divergence(flow) < KL


@pytest.mark.parametrize("teacher", [energy(), sampler], ids=["reverse", "forward"])
def test_the_parameters_of_a_base_learn_the_analytic_optimum_by_either_divergence(teacher):
    flow = Flow(MultivariateNormal(torch.zeros(2), torch.eye(2)), Permutation([0, 1]))
    distill(teacher, flow, steps=250, n=256, learning_rate=0.05, progress=False)
    factor = flow.base.weight.tril(-1) + flow.base.weight.diagonal().exp().diag()
    assert (flow.base.mean - MEAN).abs().max() < 0.03
    assert (factor - FACTOR).abs().max() < 0.03


def test_a_base_and_a_coupling_learn_together_by_reverse_kl():
    """x_0 = z_0 and x_1 = e^σ(z_0) z_1 + μ(z_0), where the law of z is to be learnt too: all that is known is x."""
    bijection = bg.flows.Coupling(2, [1], [0], bg.flows.Affine(1), hidden=(16,))
    flow = Flow(MultivariateNormal(torch.zeros(2), torch.eye(2)), bijection)
    before = [p.detach().clone() for p in flow.parameters()]
    bg.train(flow, lambda q: bg.reverse_kl(q, energy(), 256), steps=400, learning_rate=0.02, progress=False)
    assert all((p - q).abs().max() > 0.01 for p, q in zip(flow.parameters(), before, strict=True)), "both parts learn"
    assert reverse_divergence(flow) < KL
    with torch.no_grad():
        least = bg.reverse_kl(flow, energy(), 20_000, generator=torch.Generator().manual_seed(0))
    assert float(least) == pytest.approx(-energy().log_partition(), abs=KL)
    x, _ = flow.sample(100_000, seed=1)
    assert (x.mean(0) - MEAN).abs().max() < 0.03
    assert (x.T.cov() - FACTOR @ FACTOR.T).abs().max() < 0.05


class Well(torch.nn.Module):
    """A neural-network potential inside a harmonic well."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))

    def forward(self, x):
        return 0.5 * x[:, 0].square() + self.net(x)[:, 0]


def test_an_unnormalised_network_can_teach():
    torch.manual_seed(0)
    net = Well()
    before = copy.deepcopy(net.state_dict())
    teacher = bg.ModuleEnergy(net, 1)
    flow = bg.coupling_flow(1, layers=2, hidden=(8,))
    distill(teacher, flow, steps=200, n=256, learning_rate=0.01, progress=False)
    grid = torch.linspace(-8, 8, 4001)[:, None]
    with torch.no_grad():
        p = (-teacher.energy(grid)).softmax(0)
        gap = (p * (p.log() - math.log(0.004) - flow.log_prob(grid))).sum()
    assert gap < KL
    assert all(q.grad is None and q.requires_grad for q in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_plain_stack_of_layers_teaches_whatever_trains_the_flow():
    """By `train` itself, which freezes no target: the layers are read, and neither changed nor given gradients."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Softplus(), torch.nn.Linear(4, 1))
    before, flow = copy.deepcopy(layers.state_dict()), student()
    weights = [p.clone() for p in flow.parameters()]
    target = bg.ModuleEnergy(layers, 2)
    bg.train(flow, lambda q: bg.reverse_kl(q, target, 32), steps=3, progress=False)
    assert any(not torch.equal(p, q) for p, q in zip(weights, flow.parameters(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in layers.parameters())
    assert all(torch.equal(value, before[key]) for key, value in layers.state_dict().items())


def test_an_autoregressive_teacher_makes_a_student_that_draws_in_one_pass():
    """The worked example: MAF fitted to data, then distilled into an IAF."""
    torch.manual_seed(0)
    teacher, flow = bg.maf(2, hidden=(16,), layers=2), bg.iaf(2, hidden=(16,), layers=2)
    bg.train(teacher, lambda q: bg.forward_kl(q, sampler(256)), steps=200, learning_rate=0.02, progress=False)
    assert reverse_divergence(teacher) < KL
    before = copy.deepcopy(teacher.state_dict())
    distill(teacher, flow, steps=200, n=256, learning_rate=0.02, progress=False)
    assert reverse_divergence(flow, teacher) < KL
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    layers = [layer for layer in flow.bijection.bijections if isinstance(layer, Inverse)]
    assert len(layers) == 2
    assert all(isinstance(layer.bijection, Autoregressive) for layer in layers)


def test_an_autoregressive_teacher_of_a_curved_law_makes_a_student_that_bends():
    """The same where no linear map will do: x_1 is normal about x_0²."""

    def bent(n):
        z = torch.randn(n, 2)
        return torch.stack([z[:, 0], z[:, 0].square() + 0.5 * z[:, 1]], 1)

    teacher, flow = (make(2, transform="spline", hidden=(32,), layers=2) for make in (bg.maf, bg.iaf))
    distill(bent, teacher, steps=400, n=256, learning_rate=0.01, progress=False)
    distill(teacher, flow, steps=300, n=256, learning_rate=0.01, progress=False)
    torch.manual_seed(0)
    x = bent(20_000)
    z = torch.stack([x[:, 0], 2 * (x[:, 1] - x[:, 0].square())], 1)
    with torch.no_grad():
        assert (Normal(2).log_prob(z) + math.log(2) - teacher.log_prob(x)).mean() < BENT
    assert reverse_divergence(flow, teacher) < BENT
    straight = MultivariateNormal(x.mean(0), torch.linalg.cholesky(x.T.cov()))
    assert reverse_divergence(Flow(straight, Permutation([0, 1])), teacher) > 10 * BENT, "a normal law must fail"


def test_lessons_repeat_and_leave_the_global_noise_alone():
    runs = []
    for _ in range(2):
        state, flow = torch.random.get_rng_state(), student()
        runs.append(distill(sampler, flow, steps=5, seed=3, progress=False).losses)
        assert torch.equal(torch.random.get_rng_state(), state)
    assert runs[0] == runs[1]
    assert distill(sampler, student(), steps=5, seed=4, progress=False).losses != runs[0]


def test_a_checkpoint_of_other_lessons_is_refused(tmp_path):
    kept = {"steps": 3, "progress": False, "checkpoint": tmp_path / "lesson.pt"}
    distill(bg.toys.DoubleWell(), student(), **kept)
    assert len(distill(bg.toys.DoubleWell(), student(), **kept).losses) == 3
    for teacher, options in (
        (bg.toys.DoubleWell("snf"), {}),
        (bg.toys.DoubleWell(), {"n": 7}),
        (bg.toys.DoubleWell(), {"soften": 3.0}),
    ):
        with pytest.raises(CheckpointError):
            distill(teacher, student(), **kept, **options)


def test_a_teacher_in_another_dtype_is_understood():
    teacher = Flow(Normal(2), Permutation([1, 0])).double()
    for divergence in ("reverse", "forward"):
        history = distill(teacher, student(), steps=3, divergence=divergence, progress=False)
        assert all(math.isfinite(loss) for loss in history.losses)


@pytest.mark.parametrize(
    ("teacher", "options", "message"),
    [
        (energy(), {"divergence": "forward"}, "be drawable"),
        (sampler, {"divergence": "reverse"}, "have a density"),
        (normal_teacher(), {"divergence": "both"}, "divergence must be"),
        (torch.zeros(5, 2), {}, "for data, pass"),
        (sampler, {"soften": 20.0}, "soften must be None for a forward divergence"),
        (sampler, {"n": 0}, "n must be a positive integer"),
        (sampler, {"n": 2.5}, "n must be a positive integer"),
        (bg.coupling_flow(3), {}, "configurations of one shape"),
        (bg.coupling_flow(2, context=1), {}, "must need no context"),
    ],
)
def test_teachers_that_cannot_are_refused(teacher, options, message):
    with pytest.raises(InputError, match=message):
        distill(teacher, student(), steps=1, progress=False, **options)


def test_a_conditional_student_is_refused():
    with pytest.raises(InputError, match="must need no context"):
        distill(energy(), bg.coupling_flow(2, context=1), steps=1)
