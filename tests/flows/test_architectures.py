import math

import numpy as np
import pytest
import torch

from boltzgen.energies import toys
from boltzgen.errors import InputError
from boltzgen.flows import Affine, Coupling, architectures, coupling_flow, iaf, maf, molecular_flow
from boltzgen.training import forward_kl, train

PI = math.pi
FLOAT32 = 1e-4
MASK = [False, True, False, True, False]


def harmonic():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    return torch.randn(3, generator=generator, dtype=torch.float64), torch.linalg.cholesky(a @ a.T + torch.eye(3))


def dependence(flow):
    """Which x depends on which z, the layers taken together."""
    z = flow.base.sample(8, torch.Generator().manual_seed(0)).requires_grad_()
    x, _ = flow.bijection.forward(z)
    return torch.stack([torch.autograd.grad(c.sum(), z, retain_graph=True)[0].abs().sum(0) for c in x.T]) > 0


@pytest.mark.parametrize("build", [coupling_flow, maf, iaf])
@pytest.mark.parametrize("transform", ["affine", "spline", "additive"])
@pytest.mark.parametrize("circular", [None, [True, False, True, False, False], [True] * 5])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_flows_start_at_their_base(dim, circular, transform, build):
    flow = build(dim, transform=transform, circular=circular and circular[:dim])
    angle = torch.tensor(circular[:dim] if circular else [False] * dim)
    x, log_q = flow.sample(50, seed=0)
    normal = torch.where(angle, -math.log(2 * PI), -0.5 * x.square() - 0.5 * math.log(2 * PI)).sum(-1)
    assert (log_q - normal).abs().max() < FLOAT32
    assert (flow.log_prob(x) - normal).abs().max() < FLOAT32
    z = flow.base.sample(1024, torch.Generator())
    assert ((flow.bijection.forward(z)[0] - z)[:, ~angle]).abs().max() < 1e-4 if (~angle).any() else True


@pytest.mark.parametrize("transform", ["affine", "spline", "additive", "logistic"])
def test_every_dimension_is_transformed_and_conditions_others(transform, randomise):
    flow = randomise(coupling_flow(5, transform=transform, circular=MASK, layers=4))
    moved = torch.stack(
        [torch.isin(torch.arange(5), layer._order[-layer.transformer.dim :]) for layer in flow.bijection.bijections]
    )
    assert (moved[0] ^ moved[1]).all()
    assert (moved[2] ^ moved[3]).all()
    assert dependence(flow).all()


def test_additive_flows_keep_the_volume(randomise):
    flow = randomise(coupling_flow(3, transform="additive", circular=[True, False, False]))
    z = flow.base.sample(10)
    assert (flow.bijection.forward(z)[1] == 0).all()


def test_seeds_decide_and_the_global_state_is_not_touched():
    state = torch.random.get_rng_state()
    mean, factor = harmonic()
    for make in (
        lambda s: coupling_flow(3, circular=[True, True, False], seed=s),
        lambda s: molecular_flow(MASK, mean, factor, seed=s),
        lambda s: maf(3, circular=[True, True, False], seed=s),
    ):
        first, again, other = make(1).state_dict(), make(1).state_dict(), make(2).state_dict()
        assert all(torch.equal(first[k], again[k]) for k in first)
        assert any(not torch.equal(first[k], other[k]) for k in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def transformed(flow):
    """The dimensions each coupling transforms."""
    return [sorted(layer._order[-layer.transformer.dim :].tolist()) for layer in flow.bijection.bijections]


def test_masks_can_be_chosen():
    assert transformed(coupling_flow(5, masks="alternating", layers=3)) == [[0, 2, 4], [1, 3], [0, 2, 4]]
    assert transformed(coupling_flow(5, masks="reversed", layers=3)) == [[0, 1, 2], [3, 4], [0, 1, 2]]
    assert transformed(coupling_flow(1, masks="reversed", layers=2)) == [[0], [0]]
    assert transformed(coupling_flow(3, masks=[[2], [0, 1]], layers=3)) == [[2], [0, 1], [2]]
    assert transformed(coupling_flow(1, masks="alternating", layers=2)) == [[0], [0]]
    first, second = transformed(coupling_flow(4, masks="random", layers=2))
    assert sorted(first + second) == [0, 1, 2, 3]


def test_networks_can_be_residual():
    flow = coupling_flow(2, residual=True)
    assert all(layer.conditioner.residual for layer in flow.bijection.bijections)
    with pytest.raises(InputError, match="residual layers must be of one width"):
        coupling_flow(2, residual=True, hidden=(8, 9))


def test_residual_networks_add_to_what_they_are_given(randomise):
    layer = randomise(Coupling(2, [1], [0], Affine(1), hidden=(8, 8), residual=True))
    plain = Coupling(2, [1], [0], Affine(1), hidden=(8, 8))
    plain.load_state_dict(layer.state_dict())
    z = torch.randn(5, 2)
    assert not torch.equal(layer.forward(z)[0], plain.forward(z)[0])
    for either in (layer, plain):
        either.conditioner.hidden[1].weight.data.zero_()
        either.conditioner.hidden[1].bias.data.zero_()
    assert not torch.allclose(layer.forward(z)[1][0], layer.forward(z)[1][1]), "the first layer still speaks"
    assert torch.equal(plain.forward(z)[1][:1], plain.forward(z)[1][1:2])


def test_splines_have_the_bins_that_were_asked_for():
    of_many, usual = coupling_flow(3, circular=[False, False, True], bins=40), coupling_flow(2)
    assert all("bins=40" in str(layer.transformer) for layer in of_many.bijection.bijections)
    assert all("min_width=0.0002" in str(layer.transformer) for layer in of_many.bijection.bijections)
    assert all("min_height=0.001" in str(layer.transformer) for layer in usual.bijection.bijections)


def test_networks_see_waves_of_linear_dimensions_only():
    flow = coupling_flow(3, circular=[False, False, True], frequencies=4, masks=[[0, 2], [1]], layers=2)
    assert [layer.conditioner.hidden[0].weight.shape[1] for layer in flow.bijection.bijections] == [9, 9 + 4]


def test_flows_for_every_temperature_start_at_the_square_root_of_its_width():
    mean, factor = harmonic()
    hot = molecular_flow(MASK, mean, factor, temperature=1200.0)
    cold = molecular_flow(MASK, mean, factor / 2)
    (x, log_q), (y, log_r) = hot.at(300.0).sample(50, seed=1), cold.sample(50, seed=1)
    stiff = ~torch.tensor(MASK).bool()  # torsions are uniform in both
    assert torch.allclose(x[:, stiff], y[:, stiff], atol=1e-5)
    assert torch.allclose(log_q, log_r, atol=1e-4)
    plain, any_ = coupling_flow(3, circular=[0, 1, 0], seed=1), coupling_flow(3, circular=[0, 1, 0], temperature=1.0)
    (x, _), (y, log_q) = plain.sample(50, seed=2), any_.at(9.0).sample(50, seed=2)
    assert torch.allclose(y[:, [0, 2]], 3 * x[:, [0, 2]], atol=1e-5)
    assert torch.allclose(any_.at(9.0).log_prob(y), log_q, atol=1e-5)
    assert hot.marginal.context_size == 1, "the law of the torsions is one for every temperature too"


def test_a_scale_is_that_of_the_linear_dimensions():
    angle = [False, True, False]
    plain, wide = coupling_flow(3, circular=angle, seed=1), coupling_flow(3, circular=angle, seed=1, scale=20)
    (x, log_q), (y, log_r) = plain.sample(50, seed=2), wide.sample(50, seed=2)
    assert torch.equal(y, x * torch.tensor([20.0, 1.0, 20.0]))
    assert torch.allclose(log_r, log_q - 2 * math.log(20), atol=1e-5)
    assert torch.allclose(wide.log_prob(y), log_r, atol=1e-5)
    assert coupling_flow(1, circular=[True], scale=20).sample(9, seed=0)[0].abs().max() <= math.pi


def test_waves_teach_a_density_of_many_modes_sooner():
    target = toys.load("gmm40")
    x, known = target.sample(20_000, seed=1), target.sample(5000, seed=2)

    def loss(flow):
        return forward_kl(flow, x[torch.randint(len(x), (512,))])  # of torch's generator, which `train` seeds

    def missing(frequencies):
        flow = coupling_flow(2, layers=2, bins=32, frequencies=frequencies, scale=20)
        train(flow, loss, steps=600, learning_rate=5e-3, progress=False)
        with torch.no_grad():
            return float((-target.energy(known) - flow.log_prob(known)).mean())

    assert missing(7) < 0.6 * missing(0)


@pytest.mark.parametrize("build", [maf, iaf])
def test_autoregressive_flows_mix_all_dimensions(build, randomise):
    flow = randomise(build(4, layers=2, circular=[False, True, False, True])).double()
    assert dependence(flow).all()
    x, log_q = flow.sample(20, seed=0)
    assert (flow.log_prob(x) - log_q).abs().max() < 1e-8


def test_seams_differ_from_layer_to_layer():
    flow = coupling_flow(2, circular=[True, True], layers=4)
    shifts = torch.cat([layer.transformer.shift for layer in flow.bijection.bijections])
    assert len(shifts.unique()) == 4
    assert (shifts.abs() <= PI).all()


def test_context_reaches_every_layer(randomise):
    mean, factor = harmonic()
    for flow in (
        coupling_flow(3, context=2),
        molecular_flow(MASK, mean, factor, context=2),
        coupling_flow(1, context=2),
        maf(3, context=2),
        iaf(1, context=2),
    ):
        assert flow.context_size == 2
        context = torch.randn(5, 2, requires_grad=True)
        _, log_q = randomise(flow).rsample(5, context=context)
        assert (torch.autograd.grad(log_q.sum(), context)[0] != 0).all()


def test_molecular_flows_start_as_the_harmonic_approximation():
    mean, factor = harmonic()
    flow = molecular_flow(torch.tensor(MASK), mean, factor)
    x, log_q = flow.sample(2000, seed=0)
    normal = torch.distributions.MultivariateNormal(mean, scale_tril=factor)
    exact = normal.log_prob(x[:, [0, 2, 4]].double()) - 2 * math.log(2 * PI)
    assert (log_q - exact).abs().max() < FLOAT32
    assert (flow.log_prob(x) - exact).abs().max() < FLOAT32
    torsions = x[:, [1, 3]]
    assert (torsions.abs() <= PI).all()
    assert torsions.cos().mean(0).abs().max() < 5 * math.sqrt(0.5 / 2000)


def test_torsions_come_first_and_in_order(randomise):
    mean, factor = harmonic()
    for order in (None, [3, 1]):
        seen = dependence(randomise(molecular_flow(MASK, mean, factor, order=order)).double())
        first, second = order or [1, 3]
        assert seen[first].tolist() == [i == first for i in range(5)]
        assert seen[second].tolist() == [i in (first, second) for i in range(5)]
        assert seen[[0, 2, 4]].all()


@pytest.mark.parametrize(
    "options", [{"triangular": True}, {"stiff_layers": 0, "triangular": True}, {"stiff_layers": 3}]
)
def test_parts_can_be_left_out(options, randomise):
    mean, factor = harmonic()
    flow = randomise(molecular_flow(MASK, mean, factor, **options), scale=0.2).double()
    x, log_q = flow.sample(20, seed=0)
    assert (flow.log_prob(x) - log_q).abs().max() < 1e-8
    assert dependence(flow)[[0, 2, 4]][:, [1, 3]].all(), "everything stiff is given the torsions"


@pytest.mark.parametrize("circular", [[True, True], [False, False], [True], [False]])
def test_molecules_without_torsions_or_without_anything_else(circular, randomise):
    k = circular.count(False)
    flow = randomise(molecular_flow(circular, torch.zeros(k), torch.eye(k)), scale=0.2).double()
    x, log_q = flow.sample(20, seed=0)
    assert x.shape == (20, len(circular))
    assert (flow.log_prob(x) - log_q).abs().max() < 1e-8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coupling_flow(0), "dim must be a positive integer"),
        (lambda: coupling_flow(torch.Size([2])), "dim must be a positive integer"),
        (lambda: coupling_flow(3, layers=1), "layers must be at least 2"),
        (lambda: coupling_flow(2, hidden=64), "hidden must be a sequence of widths"),
        (lambda: coupling_flow(2, hidden=(64, 0)), "hidden must be a positive integer"),
        (lambda: coupling_flow(2, bins=0), "bins must be a positive integer"),
        (lambda: coupling_flow(2, frequencies=-1), "frequencies must be a non-negative integer"),
        (lambda: coupling_flow(2, scale=0.0), "scale must be"),
        (lambda: maf(2, hidden=64), "hidden must be a sequence of widths"),
        (lambda: coupling_flow(3, masks="halves"), "masks must be"),
        (lambda: coupling_flow(3, masks=[]), "masks must be"),
        (lambda: coupling_flow(3, masks=5), "masks must be"),
        (lambda: coupling_flow(3, masks=[0, 1]), "masks must be"),
        (lambda: coupling_flow(3, circular=5), "circular must have length 3; got 5"),
        (lambda: coupling_flow(2, context=-1), "context must be a non-negative integer"),
        (lambda: maf(2, context=1.5), "context must be a non-negative integer"),
        (lambda: coupling_flow(2, context=2, temperature=1.0), "context must be 0 where .* is a temperature; got 2"),
        (lambda: coupling_flow(3, masks=[[0], []]), "masks must be"),
        (lambda: coupling_flow(3, masks=[[0, 0]]), "distinct dimensions"),
        (lambda: coupling_flow(3, masks=[[0], [3]]), "masks must be"),
        (lambda: maf(0), "dim must be a positive integer"),
        (lambda: iaf(2, layers=0), "layers must be a positive integer"),
        (lambda: maf(2, transform="planar"), "transform must be one of"),
        (lambda: iaf(2, circular=[True]), "circular must have length 2"),
        (lambda: coupling_flow(3, transform="planar"), "transform must be one of affine, spline, additive"),
        (lambda: coupling_flow(3, circular=[True]), "circular must have length 3"),
        (lambda: molecular_flow([True, False], torch.zeros(2), torch.eye(2)), "mean and factor"),
        (lambda: molecular_flow([True, False], torch.zeros(1), torch.eye(1), order=[1]), "order must name"),
        (lambda: molecular_flow([True, False], torch.zeros(1), torch.eye(1), torsion_floor=0.5), "min_width"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("build", [coupling_flow, maf, iaf])
def test_numbers_of_numpy_make_the_same_flow(build):
    ours, theirs = build(3, layers=2, seed=1), build(np.int64(3), layers=np.int32(2), seed=np.int64(1))
    assert torch.equal(ours.sample(5, seed=2)[0], theirs.sample(5, seed=np.int64(2))[0])
    for seed in (-1, 0.5, "1"):
        with pytest.raises(InputError, match="seed must be a non-negative integer"):
            build(3, seed=seed)


def lost(n=5000):
    """The share of draws of torsions whose density comes back by more than 1 kT differently, of a wild flow."""
    flow = molecular_flow([True] * 7 + [False] * 3, torch.zeros(3), torch.eye(3), seed=0)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in flow.parameters():
            p += 0.3 * torch.randn(p.shape, generator=noise)
        torsions, log_q = flow.marginal.sample(n, seed=1)
        return float(((flow.marginal.log_prob(torsions) - log_q).abs() > 1).double().mean())


def test_torsions_have_no_spikes_that_single_precision_cannot_invert(monkeypatch):
    assert lost() == 0
    monkeypatch.setattr(architectures, "_NARROWEST", 24 * 1e-4)
    monkeypatch.setattr(architectures, "_TORSION_SLOPE", 1e-3)
    assert lost() > 0.05


def test_flows_of_other_constants_are_of_another_architecture():
    a, b, c = (molecular_flow([True, False], torch.zeros(1), torch.eye(1), torsion_floor=f) for f in (1e-4, 1e-4, 1e-3))
    assert a.architecture == b.architecture != c.architecture
    assert "min_width=0.0001" in str(a)
    orders = [
        molecular_flow([True, True, True], torch.zeros(0), torch.zeros(0, 0), order=o) for o in ([1, 0, 2], [0, 1, 2])
    ]
    assert orders[0].architecture != orders[1].architecture, "which no weight tells"
