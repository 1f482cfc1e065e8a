"""A double well from its energy alone, against the exact answer.

The two wells are separated by a barrier of 10 kT, which a simulation crosses once in a blue moon; the flow draws
from both. Run:  python examples/01_double_well.py [--quick]
"""

import argparse

import boltzgen as bg

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute")
quick = parser.parse_args().quick

target = bg.toys.DoubleWell()
flow = bg.coupling_flow(target.event_shape[0], hidden=(64, 64))

# From ten times the temperature, where the barrier is low, down to the one we want.
history = bg.anneal(flow, target, steps=500 if quick else 8000)
print(f"trained with {history.energy + history.gradient:,} energy evaluations")

samples = bg.draw(flow, target, 20_000 if quick else 100_000, seed=1)
print(f"effective samples: {bg.effective_sample_size(samples.log_w):.0f} of {len(samples)}")

log_z = bg.log_partition(samples.log_w)
delta_f = bg.free_energy_difference(samples.log_w, target.in_a(samples.x), target.in_b(samples.x))
print(f"log Z   {log_z}   exact {target.log_partition():.5f}")
print(f"F_b-F_a {delta_f}   exact {target.free_energy_difference():.5f}")

for estimate, exact in [(log_z, target.log_partition()), (delta_f, target.free_energy_difference())]:
    assert abs(estimate.value - exact) < 4 * estimate.standard_error, "more than four standard errors off"
