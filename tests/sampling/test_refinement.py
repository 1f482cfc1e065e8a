import math
from types import SimpleNamespace

import pytest
import torch

from boltzgen.energies import Energy, Pullback, Softened, toys
from boltzgen.errors import EnergyError, InputError
from boltzgen.flows import BLOCK, coupling_flow
from boltzgen.reweighting import effective_sample_size, expectation, free_energy_difference, log_partition, pareto_k
from boltzgen.sampling import Schedule, annealing_schedule, draw, refine

MEAN, COVARIANCE = [1.5, -1.0], [[0.5, 0.2], [0.2, 0.4]]


def gaussian():
    return toys.Gaussian(MEAN, COVARIANCE)


def identity(dim=2):
    """A flow that has learned nothing: N(0, 1)."""
    return coupling_flow(dim, layers=2, hidden=(8,)).double()


SCHEDULE = Schedule((0.2, 0.6, 1.0), (0.4, 0.3), 3)


def test_a_gaussian_far_from_the_flow(assert_consistent):
    target = gaussian()
    samples = refine(identity(), target, 8192, seed=1)
    assert_consistent(log_partition(samples.log_w), target.log_partition())
    for k in range(2):
        assert_consistent(expectation(samples.log_w, samples.x[:, k]), MEAN[k])
        spread = expectation(samples.log_w, (samples.x[:, k] - MEAN[k]) ** 2)
        assert_consistent(spread, COVARIANCE[k][k])
    assert samples.independent


def test_weights_that_forget_the_path_are_caught(assert_consistent):
    """The twin: where the draws arrive is not yet the target; their weights make up for it."""
    target = gaussian()
    samples = refine(identity(), target, 8192, seed=1, schedule=SCHEDULE)
    assert_consistent(expectation(samples.log_w, samples.x[:, 0]), MEAN[0])
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(expectation(torch.zeros(8192), samples.x[:, 0]), MEAN[0])
    at_the_end = -samples.u - identity().log_prob(samples.x)
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(log_partition(at_the_end), target.log_partition())


def test_two_wells_have_their_populations(assert_consistent):
    target = toys.DoubleWell("snf")
    samples = refine(identity(), target, 8192, seed=1)
    assert_consistent(log_partition(samples.log_w), target.log_partition())
    difference = free_energy_difference(samples.log_w, target.in_a(samples.x), target.in_b(samples.x))
    assert_consistent(difference, target.free_energy_difference())


def test_heavy_weights_become_light():
    target = toys.Gaussian([3.0], [[0.3]])
    plain, refined = draw(identity(1), target, 4096, seed=1), refine(identity(1), target, 4096, seed=1)
    assert pareto_k(plain.log_w) > 0.7 > pareto_k(refined.log_w)
    assert effective_sample_size(refined.log_w) > 10 * effective_sample_size(plain.log_w)


def test_z_is_unbiased_for_a_crude_schedule():
    """Means of 16 weights each: on average Z, though the logarithm of each is too low."""
    target = gaussian()
    samples = refine(identity(), target, 32 * BLOCK, seed=2, schedule=Schedule((0.5, 1.0), (0.9,), 1), batch_size=8192)
    z = (samples.log_w - target.log_partition()).exp().view(-1, 16).mean(1)
    error = float(z.std()) / math.sqrt(len(z))
    assert abs(float(z.mean()) - 1) < 4 * error
    logs = z.log()
    assert float(logs.mean()) < -4 * float(logs.std()) / math.sqrt(len(z))


def test_angles(assert_consistent):
    class VonMises(Energy):
        def _energy(self, x):
            return -3 * (x - 2.0).cos().sum(-1)

    flow = coupling_flow(2, circular=[True, True], layers=2, hidden=(8,)).double()
    samples = refine(flow, VonMises(2), 4096, seed=1)
    bessel = torch.special.i0(torch.tensor(3.0, dtype=torch.float64))
    assert_consistent(log_partition(samples.log_w), 2 * math.log(2 * math.pi * float(bessel)))
    ratio = float(torch.special.i1(torch.tensor(3.0, dtype=torch.float64)) / bessel)
    assert_consistent(expectation(samples.log_w, (samples.x[:, 1] - 2).cos()), ratio)


def test_what_the_target_excludes_is_never_entered(assert_consistent):
    class Half(Energy):
        def _energy(self, x):
            return torch.where(x[:, 0] > 0.5, 0.5 * x.square().sum(-1), torch.inf)

    samples = refine(identity(), Half(2), 8192, seed=1, schedule=SCHEDULE)
    z = 2 * math.pi * 0.5 * math.erfc(0.5 / math.sqrt(2))
    assert_consistent(log_partition(samples.log_w), math.log(z))
    assert (samples.x[samples.u.isfinite(), 0] > 0.5).all()
    assert len(samples) == 8192


def test_draws_depend_on_seed_and_index_only():
    long = refine(identity(), gaussian(), 2500, seed=1, schedule=SCHEDULE)
    for n, batch_size in ((1000, BLOCK), (2500, 2 * BLOCK)):
        other = refine(identity(), gaussian(), n, seed=1, schedule=SCHEDULE, batch_size=batch_size)
        assert other.x.equal(long.x[:n])
        assert other.log_w.equal(long.log_w[:n])
    assert not refine(identity(), gaussian(), 1000, seed=2, schedule=SCHEDULE).x.equal(long.x[:1000])
    state = torch.get_rng_state()
    assert annealing_schedule(identity(), gaussian(), seed=1) == annealing_schedule(identity(), gaussian(), seed=1)
    assert torch.get_rng_state().equal(state)


def test_every_evaluation_is_counted():
    target = gaussian()
    refine(identity(), target, 2 * BLOCK, seed=1, schedule=SCHEDULE)
    assert target.evaluations.total == SCHEDULE.evaluations * 2 * BLOCK
    assert target.evaluations.energy == 2 * BLOCK


def test_a_flow_that_has_learned_its_target_needs_no_stage():
    target = toys.Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    assert annealing_schedule(identity(), target, seed=1) == Schedule((1.0,), (), 3)
    refined, drawn = refine(identity(), target, 500, seed=1), draw(identity(), target, 500, seed=1)
    assert refined.x.numpy() == pytest.approx(drawn.x.numpy(), abs=1e-12)
    assert refined.log_w.numpy() == pytest.approx(drawn.log_w.numpy(), abs=1e-12)


def test_the_schedule_keeps_the_wanted_share_at_a_good_acceptance():
    coarse, fine = (annealing_schedule(identity(), gaussian(), share=share, seed=1) for share in (0.5, 0.9))
    assert len(fine.beta) > len(coarse.beta) > 1
    assert all(0.4 < a < 0.95 for a in fine.acceptance)


def test_a_molecule_keeps_its_positions_and_energies():
    class Springs(Energy):
        def __init__(self):
            super().__init__((4, 3), temperature=300.0)

        def _energy(self, x):
            return 0.7 * x.square().sum((1, 2))

    class Chain:
        in_shape, out_shape = torch.Size([12]), torch.Size([4, 3])
        molecule = SimpleNamespace(
            name="butane", topology_data={"atoms": [["C", "C", "BUT", "1", "A"]] * 4, "bonds": []}, torsions={}
        )

        def __call__(self, y):
            return y.reshape(-1, 4, 3), y.new_zeros(len(y))

    target = Pullback(Springs(), Chain())
    samples = refine(identity(12), target, 100, seed=1, schedule=SCHEDULE)
    assert samples.system == "butane"
    assert samples.positions().shape == (100, 4, 3)
    assert samples.potential.numpy() == pytest.approx(samples.u.numpy())
    again = refine(identity(12), target.at(400.0), 100, seed=1, schedule=SCHEDULE)
    assert samples.at(400.0).u.shape == again.u.shape


def test_energies_that_are_nowhere_finite_are_an_error():
    class Nowhere(Energy):
        def _energy(self, x):
            return torch.full((len(x),), torch.inf)

    with pytest.raises(EnergyError, match="some of 1024 draws must have a finite energy"):
        refine(identity(), Nowhere(2), 10, seed=1)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule((), (), 3),
        Schedule((0.5,), (), 3),
        Schedule((0.5, 0.4, 1.0), (0.1, 0.1), 3),
        Schedule((0.5, 1.0), (), 3),
        Schedule((0.5, 1.0), (-0.1,), 3),
        Schedule((math.nan, 1.0), (0.1,), 3),
        Schedule((0.5, 1.0), (0.1,), 0),
    ],
)
def test_a_schedule_without_sense_is_refused(schedule):
    with pytest.raises(InputError, match="must"):
        refine(identity(), gaussian(), 10, schedule=schedule)


def test_mistakes_are_explained():
    with pytest.raises(InputError, match="an exact density"):
        refine(identity(), Softened(gaussian(), 1.0), 10)
    with pytest.raises(InputError, match="one shape"):
        refine(identity(3), gaussian(), 10)
    with pytest.raises(InputError, match="schedule must be a Schedule; got an int"):
        refine(identity(), gaussian(), 10, schedule=3)
    with pytest.raises(InputError, match="share must lie between 0 and 1"):
        annealing_schedule(identity(), gaussian(), share=1.0)
    with pytest.raises(InputError, match="steps must be a positive integer"):
        annealing_schedule(identity(), gaussian(), steps=0)
