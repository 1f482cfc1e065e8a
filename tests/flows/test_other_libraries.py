"""Zuko and normflows as oracles: the same parameters give the same map and the same density; and theirs plug in."""

import math

import normflows as nf
import pytest
import torch
import zuko

import boltzgen as bg
from boltzgen.flows import (
    Affine,
    Autoregressive,
    CircularSpline,
    Composition,
    Flow,
    Normal,
    Planar,
    Radial,
    Spline,
)

SAME = 1e-5
BINS = 6
N = 200


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def logits(shares, floor):
    """Unnormalised parameters of ours that give these shares of the interval, floor included."""
    return ((shares - floor) / (1 - BINS * floor)).log()


def zuko_spline(n):
    """Parameters, the transform of zuko, and the same parameters for ours, batch last."""
    widths, heights, derivatives = noise(n, 1, BINS), noise(n, 1, BINS, seed=1), 2 * noise(n, 1, BINS - 1, seed=2)
    theirs = zuko.transforms.MonotonicRQSTransform(widths, heights, derivatives, bound=5.0, slope=1e-3)
    shares = torch.stack([theirs.horizontal.diff(dim=-1), theirs.vertical.diff(dim=-1)])[:, :, 0] / 10  # (2, n, K)
    bins = logits(shares, 1e-6).permute(0, 2, 1).reshape(2 * BINS, n)
    ends = torch.zeros(1, n, dtype=torch.float64)
    return theirs, [bins, torch.cat([ends, derivatives[:, 0].T, ends]), torch.zeros(2, n, dtype=torch.float64)]


def test_the_spline_is_that_of_zuko_both_ways():
    theirs, theta = zuko_spline(N)
    ours = Spline(1, bins=BINS, min_width=1e-6, min_height=1e-6)
    x = 3 * noise(N, 1, seed=3)
    y, log_det = theirs.call_and_ladj(x)
    found, found_log_det = ours.forward(x.T, *theta)
    assert (found.T - y).abs().max() < SAME
    assert (found_log_det - log_det[:, 0]).abs().max() < SAME
    back, _ = ours.inverse(y.T, *theta)
    assert (back.T - x).abs().max() < SAME
    twin, _ = ours.forward(x.T, 1.01 * theta[0], *theta[1:])
    assert (twin.T - y).abs().max() > SAME, "the twin with parameters 1 % off must differ"


class OfZuko(Affine):
    """The map of zuko's layers, z = exp(a) x + b with a soft bound of its own."""

    def forward(self, z, *theta):
        z, log_det = z - theta[0], self._scale(theta[1])
        return z * (-log_det).exp(), -log_det.sum(0)

    def inverse(self, x, *theta):
        log_scale = self._scale(theta[1])
        return x * log_scale.exp() + theta[0], log_scale.sum(0)

    @staticmethod
    def _scale(raw):
        return raw / (1 + (raw / math.log(1e-3)).abs())


def test_a_masked_autoregressive_flow_is_that_of_zuko():
    d = 4
    torch.manual_seed(0)
    theirs = zuko.flows.MAF(d, transforms=2, hidden_features=(16, 16), activation=torch.nn.SiLU).double()
    layers = []
    for transform in theirs.transform.transforms:
        order = transform.order.argsort().tolist()
        layer = Autoregressive(d, OfZuko(d), order=order, hidden=(16, 16)).double()
        networks = [m for m in transform.hyper if isinstance(m, zuko.nn.MaskedLinear)]
        for mine, network in zip(layer.conditioner.hidden, networks, strict=False):
            mine.weight.data, mine.bias.data, mine.mask = network.weight.data, network.bias.data, network.mask.double()
        for k, head in enumerate(layer.conditioner.heads):
            last = networks[-1]
            head.weight.data, head.bias.data, head.mask = (v.data[k::2] for v in (last.weight, last.bias, last.mask))
        layers.insert(0, layer)  # zuko goes from x to z
    ours = Flow(Normal(d), Composition(layers)).double()
    x = noise(N, d)
    assert (ours.log_prob(x) - theirs().log_prob(x)).abs().max() < SAME
    z = noise(N, d, seed=1)
    assert (ours.bijection.forward(z)[0] - theirs().transform.inv(z)).abs().max() < SAME
    head = layers[0].conditioner.heads[0]
    head.bias.data = head.bias.data + 1e-3
    assert (ours.log_prob(x) - theirs().log_prob(x)).abs().max() > SAME, "the twin 1e-3 off must differ"


class FromZuko(bg.Bijection):
    """The adapter of docs/flows.md."""

    def __init__(self, dim, flow, context=0):
        super().__init__(dim, context_size=context)
        self.flow = flow

    def _forward(self, z, context):
        return self.flow(context).transform.inv.call_and_ladj(z)

    def _inverse(self, x, context):
        return self.flow(context).transform.call_and_ladj(x)


class Harmonic(bg.Energy):
    def _energy(self, x):
        return 0.5 * x.square().sum(-1)


@pytest.mark.parametrize("kind", [zuko.flows.MAF, zuko.flows.NSF, zuko.flows.NICE])
@pytest.mark.parametrize("context", [0, 2])
def test_a_zuko_flow_plugs_in(kind, context):
    torch.manual_seed(0)
    theirs = kind(3, context, transforms=2, hidden_features=(8,)).double()
    flow = Flow(Normal(3), FromZuko(3, theirs, context)).double()
    c = noise(50, context, seed=5) if context else None
    x, log_q = flow.sample(50, seed=1, context=c)
    assert (theirs(c).log_prob(x) - log_q).abs().max() < SAME
    assert (flow.log_prob(x, c) - log_q).abs().max() < SAME
    if not context:
        assert len(bg.draw(flow, Harmonic(3), 500, seed=1)) == 500
    history = bg.train(flow, lambda q: -q.log_prob(x, c).mean(), steps=20, progress=False)
    assert history.losses[-1] < history.losses[0]


class FromNormflows(bg.Bijection):
    """The adapter of docs/flows.md."""

    def __init__(self, dim, layer):
        super().__init__(dim)
        self.layer = layer

    def _forward(self, z, context):
        return self.layer(z)

    def _inverse(self, x, context):
        return self.layer.inverse(x)


def test_a_normflows_flow_plugs_in():
    torch.manual_seed(0)
    layers = [
        nf.flows.AutoregressiveRationalQuadraticSpline(3, 1, 8, init_identity=False),
        nf.flows.LULinearPermute(3),
        nf.flows.CoupledRationalQuadraticSpline(3, 1, 8),
    ]
    theirs = nf.NormalizingFlow(nf.distributions.DiagGaussian(3, trainable=False), layers).double()
    flow = Flow(Normal(3), Composition([FromNormflows(3, layer) for layer in layers])).double()
    x, log_q = flow.sample(50, seed=1)
    assert log_q.dtype == torch.float64
    assert (theirs.log_prob(x) - log_q).abs().max() < SAME
    assert (flow.log_prob(x) - log_q).abs().max() < 1e-9, "float32 sums would be worse"
    assert len(bg.draw(flow, Harmonic(3), 500, seed=1)) == 500
    history = bg.train(flow, lambda q: -q.log_prob(x).mean(), steps=20, progress=False)
    assert history.losses[-1] < history.losses[0]


def softplus_derivatives(raw):
    """Parameters of ours for the derivatives normflows makes of these."""
    wanted = (1e-3 + torch.nn.functional.softplus(raw)).log()
    bound = -math.log(1e-3)
    return wanted / (1 - wanted.abs() / bound)


@pytest.mark.parametrize("tails", ["circular", "linear"])
def test_splines_are_those_of_normflows(tails):
    n_derivatives = BINS if tails == "circular" else BINS - 1
    bound = math.pi if tails == "circular" else 5.0
    widths, heights, raw = noise(N, BINS), noise(N, BINS, seed=1), noise(N, n_derivatives, seed=2)
    x = 1.5 * noise(N, seed=3).clamp(-2, 2)
    y, log_det = nf.utils.splines.unconstrained_rational_quadratic_spline(
        x, widths, heights, raw, tails=tails, tail_bound=bound
    )
    bins = torch.cat([widths.T, heights.T])
    derivatives = softplus_derivatives(raw.T)
    if tails == "circular":
        ours, theta = CircularSpline(1, bins=BINS), [bins, derivatives]
    else:
        ends = torch.zeros(1, N, dtype=torch.float64)
        ours = Spline(1, bins=BINS)
        theta = [bins, torch.cat([ends, derivatives, ends]), torch.zeros(2, N, dtype=torch.float64)]
    found, found_log_det = ours.forward(x[None], *theta)
    assert (found[0] - y).abs().max() < SAME
    assert (found_log_det - log_det).abs().max() < SAME
    assert (ours.inverse(y[None], *theta)[0][0] - x).abs().max() < SAME


def constants(layer, *values):
    for head, value in zip(layer.conditioner.heads, values, strict=True):
        head.bias.data = value.double().reshape(-1)
    return layer


def test_planar_is_that_of_normflows():
    theirs = nf.flows.Planar((3,), u=noise(1, 3), w=noise(1, 3, seed=1), b=noise(1, seed=2)).double()
    w, inner = theirs.w[0].detach(), float((theirs.w * theirs.u).sum().detach())
    along = math.log1p(math.exp(inner)) - 1  # w·û there; ours is 0.999 (log(1 + (e − 1) e^c) − 1) at w·u = c
    mine = math.log(math.expm1(along / 0.999 + 1)) - math.log(math.e - 1)
    u = theirs.u[0].detach() + (mine - inner) * w / w.square().sum()
    ours = constants(Planar(3).double(), u, w, theirs.b.detach())
    z = noise(N, 3, seed=3)
    x, log_det = theirs.forward(z)
    found, found_log_det = ours.forward(z)
    assert (found - x).abs().max() < SAME
    assert (found_log_det - log_det).abs().max() < SAME
    again, back = ours.inverse(x)
    assert (again - z).abs().max() < SAME
    assert (back + log_det).abs().max() < SAME


def test_radial_is_that_of_normflows():
    torch.manual_seed(0)
    theirs = nf.flows.Radial((3,)).double()
    alpha = theirs.alpha.detach().abs()
    wanted = (torch.nn.functional.softplus(theirs.beta.detach()) - alpha) / alpha
    mine = torch.expm1(wanted / 0.999 + 1).log() - math.log(math.e - 1)
    ours = constants(Radial(3).double(), theirs.z_0.detach(), alpha.log(), mine)
    z = noise(N, 3, seed=3)
    x, log_det = theirs.forward(z)
    found, found_log_det = ours.forward(z)
    assert (found - x).abs().max() < SAME
    assert (found_log_det - log_det).abs().max() < SAME
    assert (ours.inverse(x)[0] - z).abs().max() < SAME
