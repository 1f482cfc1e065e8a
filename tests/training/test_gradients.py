"""Every objective's gradient on a Gaussian target against the exact one, and where each was published."""

import inspect
import math
import re

import numpy as np
import pytest
import torch
from test_objectives import Gaussian

from boltzgen import training
from boltzgen.flows import Continuous, Flow
from boltzgen.flows.bases import Normal
from boltzgen.flows.bijection import Bijection
from boltzgen.training import (
    AnnealedReplay,
    alpha_divergence,
    coordinate_entropy,
    flow_matching,
    force_matching,
    forward_kl,
    log_variance,
    reverse_kl,
)

SIGMAS = 5.0
BIAS = 3e-3  # of normalised weights and of a kernel estimate, both of order 1/n; and of nothing else
N, BATCHES = 1500, 30
SHIFT, LOG_SCALE = 0.4, 0.3
WIDTH = 0.5


class Shifted(Bijection):
    """x = m + exp(s) z in one dimension."""

    def __init__(self, shift, log_scale):
        super().__init__(1)
        self.shift = torch.nn.Parameter(torch.tensor(shift, dtype=torch.float64))
        self.log_scale = torch.nn.Parameter(torch.tensor(log_scale, dtype=torch.float64))

    def _forward(self, z, context):
        return self.shift + z * self.log_scale.exp(), self.log_scale.expand(len(z))

    def _inverse(self, x, context):
        return (x - self.shift) / self.log_scale.exp(), -self.log_scale.expand(len(x))


def shifted_flow(shift=SHIFT, log_scale=LOG_SCALE):
    """q = N(m, v), v = exp(2s)."""
    return Flow(Normal(1).double(), Shifted(shift, log_scale))


# what each objective is for q = N(m, v) and p = N(0, 1), up to a constant


def reverse(m, v):
    return 0.5 * (v + m**2 - v.log())


def forward(m, v):
    return 0.5 * ((1 + m**2) / v + v.log())


def order(alpha):
    def divergence(m, v):
        precision = alpha + (1 - alpha) / v
        log = -0.5 * ((1 - alpha) * v.log() + precision.log() + alpha * (1 - alpha) * m**2 / (v * precision))
        return log / (alpha * (alpha - 1))

    return divergence


def entropy(m, v):
    """−E log of the density of x plus the kernel's noise."""
    wide = v + WIDTH**2
    return 0.5 * (wide.log() + v / wide) + 0 * m


def forces(m, v):
    return (1 - 1 / v) ** 2 + (m / v) ** 2


def velocities(m, v):
    """Mean square of s t y + m − (x − z) at y = (1 − t) z + t x, of normal z and an x of mean 1 and the same width."""
    s = v.log() / 2  # E t² y² = 1/30 + 2/5, E t y = 1/3, E t y (x − z) = −1/6 + 2/3
    return s**2 * (1 / 30 + 2 / 5) + 2 * s * m / 3 - 2 * s * (2 / 3 - 1 / 6) + m**2 - 2 * m


def exact_gradient(closed, shift, log_scale):
    m, s = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (shift, log_scale))
    return torch.stack(torch.autograd.grad(closed(m, (2 * s).exp()), (m, s))).numpy()


# the objectives, from draws of p, from weighted draws of an earlier flow, or from nothing


def data(seed):
    return torch.randn(N, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weighted(seed):
    x, log_q = shifted_flow(0.2, 0.4).sample(N, seed=seed)
    return x, -Gaussian().energy(x) - log_q, log_q


def noise(seed):
    return torch.Generator().manual_seed(seed)


def annealed(q, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AnnealedReplay(Gaussian(), N)(q)


def along(q):
    """The flow of the velocity s t z + m."""

    def velocity(z, t, context):
        return q.bijection.log_scale * t[:, None] * z + q.bijection.shift

    return Flow(q.base, Continuous(1, velocity, steps=2))


def on_buffer(q, seed):
    x, log_w, log_q = weighted(seed)
    return forward_kl(q, x, log_w, drawn_log_q=log_q)


ROWS = {
    "reverse KL, total": (reverse_kl, lambda q, k: reverse_kl(q, Gaussian(), N, generator=noise(k)), reverse),
    "reverse KL, path": (
        reverse_kl, lambda q, k: reverse_kl(q, Gaussian(), N, path_gradient=True, generator=noise(k)), reverse,
    ),
    "forward KL, data": (forward_kl, lambda q, k: forward_kl(q, data(k)), forward),
    "forward KL, weighted draws": (forward_kl, lambda q, k: forward_kl(q, *weighted(k)[:2]), forward),
    "forward KL, a buffer whose density is known": (forward_kl, on_buffer, forward),
    "order one half": (
        alpha_divergence, lambda q, k: alpha_divergence(q, Gaussian(), N, alpha=0.5, generator=noise(k)), order(0.5),
    ),
    "order one": (alpha_divergence, lambda q, k: alpha_divergence(q, Gaussian(), N, generator=noise(k)), forward),
    "order two": (
        alpha_divergence, lambda q, k: alpha_divergence(q, Gaussian(), N, alpha=2.0, generator=noise(k)), order(2.0),
    ),
    "order two, annealed": (AnnealedReplay, annealed, lambda m, v: 2 * order(2.0)(m, v)),
    "log-variance": (
        log_variance, lambda q, k: log_variance(q, Gaussian(), N, generator=noise(k)), lambda m, v: 2 * reverse(m, v),
    ),
    "entropy of a coordinate": (
        coordinate_entropy,
        lambda q, k: coordinate_entropy(q, lambda x: x[:, 0], N // 5, width=WIDTH, generator=noise(k)),
        entropy,
    ),
    "matching of forces": (force_matching, lambda q, k: force_matching(q, x := data(k), -x), forces),
    "matching of a velocity": (
        flow_matching, lambda q, k: flow_matching(along(q), 1 + data(k), generator=noise(k + 1000)), velocities,
    ),
}  # fmt: skip
OBJECTIVES = sorted({row[0] for row in ROWS.values()}, key=lambda objective: objective.__name__)


def gradient_of(loss, flow):
    return torch.stack(torch.autograd.grad(loss, (flow.bijection.shift, flow.bijection.log_scale))).numpy()


@pytest.mark.parametrize("name", ROWS)
def test_the_mean_gradient_is_exact_and_one_a_fifth_off_would_be_noticed(name):
    _, objective, closed = ROWS[name]
    found = []
    for seed in range(BATCHES):
        flow = shifted_flow()
        found.append(gradient_of(objective(flow, seed), flow))
    mean, error = np.mean(found, 0), np.std(found, 0) / math.sqrt(BATCHES)
    exact = exact_gradient(closed, SHIFT, LOG_SCALE)
    assert (np.abs(mean - exact) < SIGMAS * error + BIAS).all(), (mean, error, exact)
    assert (np.abs(mean - 0.8 * exact) > SIGMAS * error + BIAS).any(), "the twin must fail"


def test_every_objective_is_in_the_list():
    """What takes a flow and gives a loss; and what is called with one."""
    found = set()
    for name in training.__all__:
        value = getattr(training, name)
        call = value.__call__ if inspect.isclass(value) else value
        parameters = [p for p in inspect.signature(call).parameters if p != "self"]
        if parameters[:1] == ["flow"] and inspect.signature(call).return_annotation == "Tensor":
            found.add(value)
    assert found == set(OBJECTIVES)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.__name__)
def test_every_objective_names_who_published_it(objective):
    sources = re.search(r"References:\n(.*?)(\n\s*\n|\Z)", inspect.getdoc(objective), flags=re.DOTALL)
    assert sources
    assert re.search(r"\b(19|20)\d\d\b", sources[1])
