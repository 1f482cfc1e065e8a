"""From an energy alone to numbers: log Z and ΔF of toys against their exact values, and a twin that must fail."""

import math

import pytest
import torch

import boltzgen as bg

SIGMAS = 4.0


def left_and_right(target):
    """Masks of two states, and their exact free-energy difference in kT."""
    if isinstance(target, bg.toys.GaussianMixture40):
        left = 0.5 * torch.special.erfc(target.locs[:, 0] / (math.sqrt(2) * target.scale))
        share = float(left.double().mean())
        return lambda x: x[:, 0] < 0, lambda x: x[:, 0] > 0, math.log(share / (1 - share))
    return target.in_a, target.in_b, target.free_energy_difference()


def deviations(samples, log_w, in_a, in_b, log_z, delta_f):
    """How many standard errors log Z and ΔF are off."""
    found = bg.log_partition(log_w), bg.free_energy_difference(log_w, in_a(samples.x), in_b(samples.x))
    return [abs(e.value - exact) / e.standard_error for e, exact in zip(found, (log_z, delta_f), strict=True)]


@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
@pytest.mark.parametrize(
    ("target", "settings"),
    [
        (bg.toys.DoubleWell(), {}),
        (bg.toys.MuellerBrown(k=0.1), {}),
        (bg.toys.MuellerBrown(k=0.15), {}),
        (bg.toys.GaussianMixture40(), {"hot": 1000.0}),
    ],
    ids=["double_well", "mueller_brown_0.1", "mueller_brown_0.15", "gmm40"],
)
def test_log_z_and_delta_f_are_within_four_sigma_of_the_exact_values(target, settings):
    flow = bg.coupling_flow(2, layers=6, seed=0)
    bg.anneal(flow, target, steps=1200, seed=0, progress=False, **settings)
    samples = bg.draw(flow, target, 50_000, seed=1)
    in_a, in_b, delta_f = left_and_right(target)
    truth = {"in_a": in_a, "in_b": in_b, "log_z": target.log_partition(), "delta_f": delta_f}
    assert bg.effective_sample_size(samples.log_w) > 0.2 * len(samples)
    assert max(deviations(samples, samples.log_w, **truth)) < SIGMAS
    wrong = samples.log_w + 0.05 + 0.6 * in_b(samples.x).double()
    assert min(deviations(samples, wrong, **truth)) > SIGMAS, "energies that are off must be seen"


def test_one_training_gives_the_whole_range_of_temperatures():
    target, noise = bg.toys.DoubleWell(), torch.Generator().manual_seed(0)
    flow = bg.coupling_flow(2, layers=4, context=1)

    def loss(q):
        temperatures = (4 ** torch.rand(4, generator=noise)).tolist()
        parts = [bg.reverse_kl(q.given([math.log(t)]), target.at(t), 64, generator=noise) for t in temperatures]
        return sum(parts) / len(parts)

    bg.train(flow, loss, steps=300, progress=False)
    x, y = torch.linspace(-4, 4, 4001, dtype=torch.float64), torch.linspace(-9, 9, 1001, dtype=torch.float64)
    for t in (1.0, 1.7, 4.0):
        samples = bg.draw(flow.given([math.log(t)]), target.at(t), 20_000, seed=1)
        grid = torch.stack([x, torch.zeros_like(x)], 1), torch.stack([torch.zeros_like(y), y], 1)
        u_x, u_y = (target.at(t).energy(points) for points in grid)  # u = u_x + u_y: both are 0 at the origin
        exact = sum(float(torch.trapezoid((-u).exp(), axis).log()) for u, axis in ((u_x, x), (u_y, y)))
        found = bg.log_partition(samples.log_w)
        assert abs(found.value - exact) < SIGMAS * found.standard_error
        assert found.ess > 0.8 * len(samples)
    stray = bg.draw(flow.given([math.log(4.0)]), target, 20_000, seed=1)
    assert bg.effective_sample_size(stray.log_w) < 0.8 * len(stray), "the context is what makes it cold"
