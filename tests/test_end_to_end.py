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
