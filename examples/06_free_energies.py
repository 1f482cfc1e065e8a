"""A free-energy difference in four ways, against the exact answer.

Two wells that a barrier of 10 kT divides. From the flow's weighted draws alone: masks for the two states, and log Z.
With samples of the target beside them, as a simulation would give: Bennett's acceptance ratio. And between the target
and a hotter one, from the same draws.
Run:  python examples/06_free_energies.py [--quick]
"""

import argparse

import torch

import boltzgen as bg
from boltzgen.reweighting import bennett_acceptance_ratio, free_energy_change

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute")
quick = parser.parse_args().quick

target = bg.toys.DoubleWell()
flow = bg.coupling_flow(2, hidden=(64, 64))
bg.anneal(flow, target, steps=300 if quick else 8000, compile="never" if quick else "auto", progress=False)
samples = bg.draw(flow, target, 10_000 if quick else 100_000, seed=1)
print(bg.judge(samples), "\n")

# Between two states of one target: the ratio of what they weigh.
in_a, in_b = target.in_a(samples.x), target.in_b(samples.x)
between_states = bg.free_energy_difference(samples.log_w, in_a, in_b)

# From the flow to the target: the flow is normalised, so the difference is absolute.
absolute = -bg.log_partition(samples.log_w)

# The same with draws of both ends; otherwise these would be uncorrelated frames of a simulation.
frames = target.sample(5_000, seed=2)
log_w_frames = -target.energy(frames) - flow.log_prob(frames.float()).detach().double()
both_ends = bennett_acceptance_ratio(-samples.log_w, log_w_frames)

# To another target, here a hotter one, with the draws there are. Their errors largely cancel.
hotter = target.at(1.2 * target.temperature)
with_hotter = bg.reweight(samples, hotter)
between_targets = free_energy_change(samples.log_w, with_hotter.log_w)
axis = torch.linspace(-9, 9, 901, dtype=torch.float64)
log_z_hotter = float((-hotter.energy(torch.cartesian_prod(axis, axis))).logsumexp(0) + 2 * (axis[1] - axis[0]).log())

for name, estimate, exact in [
    ("well b − well a", between_states, target.free_energy_difference()),
    ("−log Z, one end", absolute, -target.log_partition()),
    ("−log Z, both ends", both_ends, -target.log_partition()),
    ("hotter − target", between_targets, target.log_partition() - log_z_hotter),
]:
    print(f"{name:<20} {estimate}   exact {exact:.5f}")
    assert abs(estimate.value - exact) < 4 * estimate.standard_error, "more than four standard errors off"
