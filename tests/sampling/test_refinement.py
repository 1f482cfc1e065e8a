import math
from types import SimpleNamespace

import pytest
import torch

from boltzgen.energies import Energy, Pullback, Softened, toys
from boltzgen.errors import EnergyError, InputError
from boltzgen.flows import BLOCK, coupling_flow
from boltzgen.reweighting import (
    by_population,
    effective_sample_size,
    expectation,
    free_energy_difference,
    log_partition,
    pareto_k,
)
from boltzgen.sampling import Schedule, annealing_schedule, draw, refine, refinement

MEAN, COVARIANCE = [1.5, -1.0], [[0.5, 0.2], [0.2, 0.4]]


def gaussian():
    return toys.Gaussian(MEAN, COVARIANCE)


def identity(dim=2):
    """A flow that has learned nothing: N(0, 1)."""
    return coupling_flow(dim, layers=2, hidden=(8,)).double()


SCHEDULE = Schedule((0.2, 0.6, 1.0), (0.4, 0.3), 3)
STEEP = Schedule((0.6, 0.8, 1.0), (0.4, 0.3), 1)  # weights worth less than half of the draws after the first stage


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


def populations(size, n=24 * BLOCK, **options):
    """Weights and ⟨x⟩ of populations that go a long way in few stages."""
    samples = refine(identity(), gaussian(), n, seed=3, schedule=STEEP, population=size, **options)
    assert not samples.independent
    return by_population(samples.log_w, samples.x[:, 0], size)


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_populations_have_unbiased_weights(assert_consistent, threshold):
    log_w, x = populations(16, resample_below=threshold)
    z = torch.as_tensor(log_w - gaussian().log_partition()).exp()
    error = float(z.std()) / math.sqrt(len(z))
    assert error < 0.03
    assert abs(float(z.mean()) - 1) < 4 * error
    assert_consistent(expectation(log_w, x), MEAN[0])


def test_weights_that_survive_resampling_are_caught(monkeypatch, assert_consistent):
    """The twin: chosen by weight, and weighed with it again."""
    honest = refinement._resampled

    def stale(log_w, *given):
        rows, _ = honest(log_w, *given)
        return rows, log_w[rows]

    monkeypatch.setattr(refinement, "_resampled", stale)
    log_w, _ = populations(16)
    with pytest.raises(AssertionError, match="sigmas"):
        assert_consistent(log_partition(log_w), gaussian().log_partition())


def test_errors_that_take_relatives_for_strangers_are_too_small():
    """Hundreds of populations, so that their spread is known to a few per cent."""
    samples = refine(identity(), gaussian(), 16 * BLOCK, seed=3, schedule=STEEP, population=64, resample_below=1.0)
    naive = expectation(samples.log_w, samples.x[:, 0]).standard_error
    honest = expectation(*by_population(samples.log_w, samples.x[:, 0], 64)).standard_error
    assert honest > 1.2 * naive


def test_resampling_keeps_the_sum_of_the_weights_and_copies_by_weight():
    generator = torch.Generator().manual_seed(1)
    log_w = 3 * torch.randn(8, 64, generator=generator, dtype=torch.float64)
    log_w[:, ::5] = -torch.inf
    log_w[2] = -torch.inf  # without any weight
    log_w[4] = 700.0  # equal: no reason to resample
    rows, new = refinement._resampled(log_w.flatten(), torch.rand(8, generator=generator, dtype=torch.float64), 0.5)
    rows, new = rows.view(8, 64), new.view(8, 64)
    assert (rows // 64 == torch.arange(8)[:, None]).all()  # no population takes from another
    kept = torch.tensor([2, 4])
    assert rows[kept].equal(64 * kept[:, None] + torch.arange(64))
    assert new[kept].equal(log_w[kept])
    poor = torch.tensor([0, 1, 3, 5, 6, 7])
    assert new[poor].logsumexp(1).numpy() == pytest.approx(log_w[poor].logsumexp(1).numpy(), abs=1e-12)
    assert (new[poor] == new[poor, :1]).all()
    wanted = 64 * log_w[poor].softmax(1)
    copies = torch.stack([torch.bincount(one % 64, minlength=64) for one in rows[poor]])
    assert ((copies - wanted).abs() < 1).all()
    assert (copies[wanted == 0] == 0).all()


def test_an_offset_next_to_one_chooses_no_draw_of_weight_zero():
    log_w = torch.tensor([0.0, -1.0, -torch.inf, -torch.inf], dtype=torch.float64)
    rows, _ = refinement._resampled(log_w, torch.tensor([1 - 2**-53], dtype=torch.float64), 1.0)
    assert rows.tolist() == [0, 0, 1, 1]


def test_resampled_draws_depend_on_seed_and_index_only():
    options = {"seed": 1, "schedule": STEEP, "population": 32}
    long = refine(identity(), gaussian(), 2048, **options)
    for n, batch_size in ((64, BLOCK), (1056, 2 * BLOCK)):
        other = refine(identity(), gaussian(), n, batch_size=batch_size, **options)
        assert other.x.equal(long.x[:n])
        assert other.log_w.equal(long.log_w[:n])
    never = refine(identity(), gaussian(), 1024, resample_below=0.0, **options)
    alone = refine(identity(), gaussian(), 1024, seed=1, schedule=STEEP)
    assert never.x.equal(alone.x)
    assert never.log_w.equal(alone.log_w)
    assert not long.x[:1024].equal(alone.x)


@pytest.mark.parametrize("population", [1, 0, 48, 2048, 64.0])
def test_a_population_must_fit(population):
    with pytest.raises(InputError, match="population must be"):
        refine(identity(), gaussian(), 4096, schedule=SCHEDULE, population=population)
    with pytest.raises(InputError, match=r"divides n = 100; got 64"):
        refine(identity(), gaussian(), 100, schedule=SCHEDULE, population=64)
    with pytest.raises(InputError, match="resample_below must lie between 0 and 1"):
        refine(identity(), gaussian(), 128, schedule=SCHEDULE, population=64, resample_below=1.5)


AT_THE_TARGET = Schedule((1.0,), (0.7,), 3, moves=8)


def wide():
    """Wider than the flow: its heavy weights lie far out."""
    return toys.Gaussian([0.2, 0.0], [[1.6, 0.0], [0.0, 1.0]])


def test_moves_at_the_target_leave_the_weights_and_make_errors_of_means_smaller(assert_consistent):
    """From errors that know the weights of x to sd(x)/√ess, that of as many equal draws."""
    before, after = (
        refine(identity(), wide(), 8192, seed=1, schedule=schedule)
        for schedule in (Schedule((1.0,), (), 3), AT_THE_TARGET)
    )
    assert after.log_w.numpy() == pytest.approx(before.log_w.numpy(), abs=1e-9)
    plain, moved = (expectation(samples.log_w, samples.x[:, 0]) for samples in (before, after))
    assert moved.standard_error < plain.standard_error / 1.2
    assert moved.standard_error == pytest.approx(math.sqrt(1.6 / moved.ess), rel=0.15)
    assert_consistent(moved, 0.2)
    assert_consistent(expectation(after.log_w, (after.x[:, 0] - 0.2) ** 2), 1.6)
    assert_consistent(log_partition(after.log_w), wide().log_partition())
    assert after.independent


def test_relatives_part_at_the_target():
    """A population resampled there has errors no larger than its draws had, once they have moved apart."""
    errors = []
    for schedule, resample_below in ((Schedule((1.0,), (), 3), 0.0), (AT_THE_TARGET, 1.0)):
        options = {"schedule": schedule, "population": 64, "resample_below": resample_below}
        samples = refine(identity(), wide(), 16 * BLOCK, seed=3, **options)
        errors.append(expectation(*by_population(samples.log_w, samples.x[:, 0], 64)).standard_error)
    assert errors[1] < errors[0] / 1.1, errors


def test_the_step_at_the_target_is_found_and_its_evaluations_are_counted():
    target = gaussian()
    plain, moved = (annealing_schedule(identity(), target, seed=1, moves=moves) for moves in (0, 4))
    assert (moved.beta, moved.step[:-1], len(moved.acceptance)) == (plain.beta, plain.step, len(moved.beta))
    assert 0.4 < moved.acceptance[-1] < 0.95
    assert moved.evaluations == plain.evaluations + 4 * 3
    counted = gaussian()
    refine(identity(), counted, BLOCK, seed=1, schedule=moved)
    assert counted.evaluations.total == moved.evaluations * BLOCK


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
    assert target.evaluations.energy == 0  # nothing is evaluated once more for the record


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
    assert samples.positions().numpy() == pytest.approx(samples.x.view(100, 4, 3).numpy(), rel=1e-6)
    assert samples.potential.numpy() == pytest.approx(samples.u.numpy())
    assert samples.u.numpy() == pytest.approx(target.energy(samples.x).numpy(), rel=1e-12)
    assert not samples.x.equal(draw(identity(12), target, 100, seed=1).x)  # they have moved
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
        Schedule((0.5, 1.0), (0.1,), 3, moves=2),
        Schedule((0.5, 1.0), (0.1, 0.1), 3),
        Schedule((1.0,), (0.1,), 3, moves=-1),
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
    with pytest.raises(InputError, match="share must be a number"):
        annealing_schedule(identity(), gaussian(), share="0.8")
    with pytest.raises(InputError, match="share must lie between 0 and 1"):
        annealing_schedule(identity(), gaussian(), share=1.0)
    with pytest.raises(InputError, match="steps must be a positive integer"):
        annealing_schedule(identity(), gaussian(), steps=0)


@pytest.mark.parametrize("options", [{"resample_below": None}, {"resample_below": 2.0}, {"population": 3}])
def test_options_out_of_range_are_refused_before_the_pilot(options):
    target = gaussian()
    with pytest.raises(InputError, match="must"):
        refine(identity(), target, 192, **options)
    assert target.evaluations.gradient == 0
