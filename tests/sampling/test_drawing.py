import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from boltzgen.coordinates import InternalCoordinates
from boltzgen.energies import Energy, Pullback, Softened
from boltzgen.errors import InputError
from boltzgen.flows import BLOCK, Bijection, Flow, Normal, coupling_flow, molecular_flow
from boltzgen.molecule import Molecule
from boltzgen.processes import Ranks
from boltzgen.reweighting import effective_sample_size, log_partition
from boltzgen.sampling import Samples, draw, drawing, reweight, weigh
from boltzgen.sampling.drawing import rows_at_once
from boltzgen.training import reverse_kl


class Quartic(Energy):
    """exp(−x⁴ + x² − ½y²…), summed over the batch-last layout, where bits do depend on the number of rows."""

    def __init__(self, dim=6):
        super().__init__(dim)
        self.rows, self.evaluated = [], 0

    def _energy(self, x):
        assert x.dtype == torch.float64
        assert not torch.is_grad_enabled()
        self.rows.append(len(x))
        self.evaluated += int(x.isfinite().all(-1).sum())
        columns = x.T.contiguous()
        return (0.3 * columns**4 - columns**2).sum(0) + columns.sin().exp().sum(0)


class Chain(Bijection):
    """y (n, 12) → positions of four atoms, scaled by 0.1."""

    def __init__(self, molecule):
        super().__init__(12, (4, 3))
        self.molecule = molecule

    def _forward(self, z, context):
        return 0.1 * z.reshape(-1, 4, 3), z.new_full((len(z),), 12 * math.log(0.1))

    def _inverse(self, x, context):
        return 10 * x.flatten(1), x.new_full((len(x),), -12 * math.log(0.1))


class Springs(Energy):
    def __init__(self):
        super().__init__((4, 3), temperature=300.0)

    def _energy(self, x):
        return 50 * x.square().sum((1, 2))


class Identity(Bijection):
    def _forward(self, z, context):
        return z, z.new_zeros(len(z))

    def _inverse(self, x, context):
        return x, x.new_zeros(len(x))


class Broken(Identity):
    """Identity that fails for some rows, in each of the ways a flow can."""

    def _forward(self, z, context):
        x, log_det = z.clone(), z.new_zeros(len(z))
        x[3] = torch.nan
        x[4, 0] = torch.inf
        log_det[5], log_det[6], log_det[7] = torch.nan, torch.inf, -torch.inf
        return x, log_det


def trained(dim=6, seed=0):
    """A flow far from the identity."""
    flow = coupling_flow(dim, layers=4, hidden=(16,), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return flow


def same(a, b):
    return all(getattr(a, name).equal(getattr(b, name)) for name in ("x", "log_q", "u", "log_w"))


def test_a_draw_depends_on_seed_and_index_only():
    flow, target = trained(), Quartic()
    long = draw(flow, target, 2500, seed=1)
    for n, batch_size in ((2500, 1), (2500, 100), (2500, 1023), (1, 1024), (1024, 7), (1025, 1024), (2049, 512)):
        assert same(draw(flow, target, n, seed=1, batch_size=batch_size), long[:n])
    assert set(target.rows) == {BLOCK}  # the bits of a row may depend on how many there are
    assert not draw(flow, target, 100, seed=2).x.equal(long.x[:100])


def test_no_bit_depends_on_the_batch_on_a_cpu():
    flow, target = trained(), Quartic()
    assert same(*(draw(flow, target, 5000, seed=1, batch_size=b) for b in (1024, 3000)))
    assert same(*(reweight(draw(flow, target, 5000, seed=1), target, batch_size=b) for b in (1, 5000)))
    assert set(target.rows) == {BLOCK}


@pytest.mark.parametrize(("batch_size", "rows"), [(1, 1024), (1024, 1024), (1025, 2048), (3000, 3072)])
def test_an_accelerator_has_as_many_blocks_at_once_as_it_wants(batch_size, rows):
    assert rows_at_once(batch_size, torch.device("cuda")) == rows
    assert rows_at_once(batch_size, torch.device("cpu")) == 1024


def test_draws_are_the_flows_own():
    flow = trained()
    samples = draw(flow, Quartic(), 1500, seed=4)
    x, log_q = flow.sample(1500, seed=4)
    assert samples.x.equal(x)
    assert samples.log_q.equal(log_q.double())
    assert samples.seed == 4
    assert samples.independent


def test_each_draw_is_evaluated_once_in_float64():
    flow, target = trained(), Quartic()
    samples = draw(flow, target, 1500, seed=1)
    assert target.evaluations.energy == target.evaluated == 1500
    assert target.evaluations.gradient == 0
    with torch.no_grad():
        assert samples.u.numpy() == pytest.approx(target.energy(samples.x.double()).numpy(), rel=1e-12)
    assert samples.u.dtype == torch.float64
    assert not samples.x.requires_grad


def test_a_learned_energy_is_evaluated_in_its_own_precision():
    class Learned(Energy):
        def __init__(self):
            super().__init__(6)
            self.net = nn.Linear(6, 1)

        def _energy(self, x):
            return self.net(x).squeeze(-1).square()

    samples = draw(trained(), Learned(), 10, seed=1)
    assert samples.u.dtype == torch.float64


def test_weights_give_the_exact_log_z_and_a_wrong_density_does_not():
    class Gaussian(Energy):
        def _energy(self, x):
            return 0.5 * (x.square().sum(-1)) / 0.8

    flow = Flow(Normal(2), Identity(2))
    samples = draw(flow, Gaussian(2), 20_000, seed=3)
    estimate, exact = log_partition(samples.log_w), math.log(2 * math.pi * 0.8)
    assert abs(estimate.value - exact) < 4 * estimate.standard_error
    twin = log_partition(samples.log_w + 0.05)
    assert abs(twin.value - exact) > 4 * twin.standard_error


def test_what_the_flow_cannot_draw_has_weight_zero_and_is_counted():
    flow = Flow(Normal(6), Broken(6))
    samples = draw(flow, Quartic(), 2000, seed=1)
    clean = draw(Flow(Normal(6), Identity(6)), Quartic(), 2000, seed=1)
    failed = torch.zeros(2000, dtype=torch.bool)
    failed[[3, 4, 5, 6, 7]] = failed[[BLOCK + 3, BLOCK + 4, BLOCK + 5, BLOCK + 6, BLOCK + 7]] = True
    assert samples.n_failed == 10
    assert samples.u.isposinf().equal(failed)
    assert samples.log_w.isneginf().equal(failed)
    assert samples.x.isfinite().all()
    assert not samples.log_q.isnan().any()
    assert same(samples[~failed], clean[~failed])


def test_energies_of_1e30_kt_are_capped_in_training_and_nowhere_else():
    class Explosive(Energy):
        def _energy(self, x):
            return torch.where(x[:, 0] > 0, 1e30, 0.5 * x.square().sum(-1))

    flow, energy = Flow(Normal(2), Identity(2)), Explosive(2)
    samples = draw(flow, energy, 1000, seed=1)
    high = samples.x[:, 0] > 0
    assert 400 < high.sum() < 600
    assert (samples.u[high] == 1e30).all()
    assert samples.log_w.equal(-samples.u - samples.log_q)
    assert samples.n_failed == 0
    assert Softened(energy, 10.0).energy(samples.x.double()).max() < 100
    loss = reverse_kl(flow, energy, 1000, soften=20.0, generator=torch.Generator().manual_seed(0))
    assert loss.isfinite()


def test_mirror_images_are_outside_the_chart_and_counted():
    """Trap 7: the mirror image has the same energy, so only the chart can keep it out."""
    molecule = Molecule.load("alanine_dipeptide")
    coordinates = InternalCoordinates(molecule)
    mean, factor = coordinates.harmonic_scales(300.0)
    # the improper of C-beta, drawn a radian wide: some draws leave (-pi, 0), where the L form is
    improper = coordinates.labels.index("improper ALA2-CB ALA2-CA ALA2-N ALA2-C")
    row = int((~coordinates.circular[:improper]).sum())
    factor[row] /= factor[row].norm()
    flow = molecular_flow(coordinates.circular, mean, factor)
    samples = draw(flow, Pullback(molecule.energy(300.0), coordinates), 2000, seed=1)
    mirrored = samples.x[:, improper].sin() > 0
    assert 0.1 < mirrored.double().mean() < 0.25
    assert samples.log_w[mirrored].isneginf().all()
    assert samples.n_failed >= mirrored.sum()
    assert len(samples) == 2000


def test_a_molecule_leaves_positions_energies_and_names(tmp_path):
    topology = {"atoms": [[f"C{i}", "C", "BUT", "1", "A"] for i in range(4)], "bonds": [[0, 1], [1, 2], [2, 3]]}
    molecule = SimpleNamespace(name="butane", topology_data=topology, torsions={"backbone": (0, 1, 2, 3)})
    target = Pullback(Springs(), Chain(molecule))
    flow = Flow(Normal(12), Identity(12))
    samples = draw(flow, target, 1100, seed=1)
    assert samples.system == "butane"
    assert samples.temperature == 300.0
    assert samples.positions().equal((0.1 * samples.x.double()).reshape(-1, 4, 3).float())
    assert samples.potential.numpy() == pytest.approx(0.5 * samples.x.double().square().sum(-1).numpy())
    assert samples.u.numpy() == pytest.approx(samples.potential.numpy() - 12 * math.log(0.1))
    assert samples.torsion("backbone").shape == (1100,)
    assert samples.to_mdtraj().topology.n_bonds == 3
    assert target.evaluations.energy == 1100
    samples.save(tmp_path / "butane.npz")
    pool = Samples.load(tmp_path / "butane.npz") + draw(flow, target, 7, seed=2)
    assert (len(pool), pool.torsions) == (1107, {"backbone": [0, 1, 2, 3]})


def test_other_pullbacks_have_no_positions():
    target = Pullback(Springs(), Chain(None))
    samples = draw(Flow(Normal(12), Identity(12)), target, 10, seed=1)
    assert samples.cartesian is None
    assert samples.system == "Pullback"


@pytest.mark.parametrize("wrap", [lambda e: Softened(e, 10.0), lambda e: Pullback(Softened(e, 10.0), Identity(6))])
def test_the_softened_training_energy_is_never_a_target(wrap):
    """Trap 5: weights of the softened energy aim at another law."""
    energy = Quartic()
    with pytest.raises(InputError, match=r"target must be an exact density; got .*: draw with the energy it softens"):
        draw(trained(), wrap(energy), 10)
    assert not energy.rows


def test_a_flow_of_another_shape_is_refused_before_any_work():
    target = Quartic(5)
    with pytest.raises(InputError, match=r"one shape; got \(6,\) and \(5,\): build the flow for this target"):
        draw(trained(6), target, 10)
    assert not target.rows


@pytest.mark.parametrize(("n", "batch_size"), [(0, 1), (-1, 1), (2.5, 1), (True, 1), (5, 0), (5, 1.5)])
def test_wrong_numbers_are_refused(n, batch_size):
    with pytest.raises(InputError, match="must be a positive integer"):
        draw(trained(), Quartic(), n, batch_size=batch_size)


def test_a_wrong_seed_is_refused():
    with pytest.raises(InputError, match="seed"):
        draw(trained(), Quartic(), 5, seed=-1)


def test_a_conditional_flow_is_refused():
    with pytest.raises(InputError, match="flow must need no context; got one of size 1"):
        draw(coupling_flow(6, layers=2, context=1), Quartic(), 5)


def test_randomness_is_explicit():
    flow, target = trained(), Quartic()
    state = torch.get_rng_state()
    first = draw(flow, target, 10, seed=1)
    assert torch.get_rng_state().equal(state)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.rand(3).sum() != 0
        assert same(draw(flow, target, 10, seed=1), first)
        torch.manual_seed(7)
        unnamed = draw(flow, target, 10)
        torch.manual_seed(7)
        assert same(draw(flow, target, 10), unnamed)
        assert same(draw(flow, target, 10, seed=unnamed.seed), unnamed)


def test_progress_reaches_the_end(capsys):
    draw(trained(), Quartic(), 3000, seed=1, progress=True)
    assert "3000 of 3000" in capsys.readouterr().err
    draw(trained(), Quartic(), 10, seed=1)
    assert not capsys.readouterr().err


def test_alanine_dipeptide_from_flow_to_trajectory():
    molecule = Molecule.load("alanine_dipeptide")
    coordinates = InternalCoordinates(molecule)
    target = Pullback(molecule.energy(300.0), coordinates)
    flow = molecular_flow(coordinates.circular, *coordinates.harmonic_scales(300.0))
    samples = draw(flow, target, 1100, seed=1)
    assert samples.system == "alanine_dipeptide"
    assert samples.n_failed < 110
    assert same(samples[:50], draw(flow, target, 50, seed=1, batch_size=16))
    y = samples.x[:50].double()
    assert samples.torsion("phi")[:50].numpy() == pytest.approx(coordinates.torsion(y, "phi").numpy(), abs=1e-4)
    trajectory = samples.to_mdtraj(resample=10, seed=0)
    assert [residue.name for residue in trajectory.topology.residues] == ["ACE", "ALA", "NME"]
    # the stored U/kT is that of the stored positions, but for their rounding to float32
    energy = molecule.energy(300.0)
    assert samples.potential[:50].numpy() == pytest.approx(
        energy.energy(samples.positions()[:50].double()).numpy(), rel=1e-3
    )
    assert samples.potential.isfinite().sum() == len(samples) - samples.n_failed


@pytest.mark.parametrize("n", [1, 1100, 3 * BLOCK])
def test_reweighted_draws_are_those_of_the_other_target_bit_for_bit(n):
    flow, other = trained(), Pullback(Quartic(), Identity(6)).at(2.0)
    samples = draw(flow, Quartic(), n, seed=1)
    found = reweight(samples, other)
    assert same(found, draw(flow, other, n, seed=1))
    assert (found.temperature, found.system, found.seed, found.independent) == (2.0, "Pullback", 1, True)
    assert other.evaluations.energy == 2 * n
    assert not found.u.equal(samples.u)


def test_what_was_no_configuration_fails_for_every_target():
    flow = Flow(Normal(6), Broken(6))
    samples = draw(flow, Quartic(), 2000, seed=1)
    assert same(reweight(samples, Quartic()), samples)


def test_what_only_the_first_target_excludes_counts_for_the_second():
    class Half(Quartic):
        def _energy(self, x):
            return torch.where(x[:, 0] > 0, super()._energy(x), torch.inf)

    flow = trained()
    half = draw(flow, Half(), 1000, seed=1)
    assert half.n_failed > 100
    assert same(reweight(half, Quartic()), draw(flow, Quartic(), 1000, seed=1))


def chains(seed=1, n=1100):
    """Draws of a molecule's Pullback, its target and its flow."""
    topology = {"atoms": [[f"C{i}", "C", "BUT", "1", "A"] for i in range(4)], "bonds": []}
    molecule = SimpleNamespace(name="butane", topology_data=topology, torsions={})
    target, flow = Pullback(Springs(), Chain(molecule)), Flow(Normal(12), Identity(12))
    return draw(flow, target, n, seed=seed), target, flow


def test_another_temperature_needs_no_evaluation():
    samples, target, flow = chains()
    before = target.evaluations.total
    hot = samples.at(450.0)
    assert target.evaluations.total == before
    drawn = draw(flow, target.at(450.0), 1100, seed=1)
    for column in ("x", "log_q", "u", "potential", "log_w"):
        assert getattr(hot, column).numpy() == pytest.approx(getattr(drawn, column).numpy(), rel=1e-12)
    assert (hot.temperature, hot.system, hot.seed) == (450.0, "butane", 1)
    assert hot.at(300.0).u.numpy() == pytest.approx(samples.u.numpy(), rel=1e-12)
    # the Jacobian is no potential: the twin that divides all of u by the temperature is off
    assert (samples.u * 300 / 450 - drawn.u).abs().min() > 1


def test_a_potential_that_is_not_known_has_no_other_temperature():
    samples = draw(trained(), Quartic(), 10, seed=1)
    with pytest.raises(InputError, match=r"use reweight\(samples, target\.at\(2\)\)"):
        samples.at(2.0)
    with pytest.raises(InputError, match="positive number of kelvin"):
        chains(n=5)[0].at(0.0)


def test_targets_on_other_coordinates_are_refused():
    samples, target, _ = chains()

    class Wider(Chain):
        def _forward(self, z, context):
            return 0.11 * z.reshape(-1, 4, 3), z.new_zeros(len(z))

    with pytest.raises(InputError, match="must place the atoms where the samples have them"):
        reweight(samples, Pullback(Springs(), Wider(target.bijection.molecule)))
    assert same(reweight(samples, target), samples)


def test_what_cannot_be_reweighted_is_explained():
    samples = draw(trained(), Quartic(), 10, seed=1)
    with pytest.raises(InputError, match="an exact density"):
        reweight(samples, Softened(Quartic(), 1.0))
    with pytest.raises(InputError, match=r"got 10 of \(6,\)"):
        reweight(samples, Quartic(5))
    with pytest.raises(InputError, match="got 0 of"):
        reweight(samples[:0], Quartic())
    with pytest.raises(InputError, match="batch_size must be a positive integer"):
        reweight(samples, Quartic(), batch_size=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clashing_frames_of_a_molecule_weigh_nothing_and_stay_in_n(dtype):
    """Row 4: two hydrogens of different ends 1e-2 to 1e-8 nm apart, or in one place, among two good frames."""
    molecule = Molecule.load("butane")

    def positions(y):
        return y.reshape(-1, molecule.n_atoms, 3), y.new_zeros(len(y))

    target = Pullback(molecule.energy(300.0), positions, event_shape=3 * molecule.n_atoms)
    x = torch.tensor(molecule.positions, dtype=dtype).repeat(10, 1, 1)
    ends = [atom for atom in range(molecule.n_atoms) if molecule.elements[atom] == "H"]
    for k in range(2, 10):
        x[k, ends[0]] = x[k, ends[-1]]
        x[k, ends[0], 0] += 10.0**-k if k < 9 else 0.0
    samples = weigh(coupling_flow(3 * molecule.n_atoms, layers=2, hidden=(4,)), target, x.flatten(1))
    assert len(samples) == 10
    assert not samples.log_w.isnan().any()
    assert samples.log_w[:2].isfinite().all()
    assert (samples.log_w[2:] < samples.log_w[0] - 1e6).all()
    assert samples.log_w[9].isneginf()
    assert samples.n_failed == int(samples.u.isposinf().sum()) >= 1
    assert torch.equal(samples.u.isposinf(), samples.log_w.isneginf())
    assert effective_sample_size(samples.log_w) == pytest.approx(2.0)


@pytest.mark.parametrize("blocks", [1, 3, 16, 17, 40])
def test_processes_share_the_blocks_evenly(monkeypatch, blocks):
    n, drawn = blocks * BLOCK - 100, []
    for rank in range(2):
        alone = Ranks(rank, 2)
        monkeypatch.setattr(Ranks, "gathered", lambda _, column, lengths: column)
        monkeypatch.setattr(drawing, "ranks", lambda alone=alone: alone)
        flow = coupling_flow(6, layers=2)
        with torch.no_grad():
            parts = drawing.weighed_blocks(flow, Quartic(), 0, n, seed=1, batch_size=BLOCK)
            drawn.append(sum(len(columns[0]) for _, columns in parts))
    assert sum(drawn) == n
    assert abs(drawn[0] - drawn[1]) < 2 * BLOCK
