"""A slow energy distilled into a flow, which then draws what the energy alone could only be asked about.

The energy is a small neural network: no formula, no normalisation, no samples. The flow learns from it without data;
its weighted draws give averages and the normalising constant, compared with quadrature on a grid.
Run:  python examples/07_distillation.py [--quick]
"""

import argparse

import torch

import boltzgen as bg


class Network(torch.nn.Module):
    """u(x) = 2 |x|² + 3 f(x), f a network of one hidden layer, in kT."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))

    def forward(self, x):  # (n, 2) -> (n,)
        return 2 * x.square().sum(1) + 3 * self.layers(x)[:, 0]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute")
quick = parser.parse_args().quick

torch.manual_seed(0)
teacher = bg.ModuleEnergy(Network(), 2)
student = bg.coupling_flow(2, hidden=(32, 32), layers=4)
bg.distill(teacher, student, steps=300 if quick else 4000, progress=False)

samples = bg.draw(student, teacher, 20_000 if quick else 100_000, seed=1)
print(bg.judge(samples), "\n")

# What is exact: sums over a fine grid.
axis = torch.linspace(-5, 5, 1001, dtype=torch.float64)
grid = torch.cartesian_prod(axis, axis)
with torch.no_grad():
    weight = torch.exp(-teacher.energy(grid))
volume = float(axis[1] - axis[0]) ** 2
exact_log_z = float((weight.sum() * volume).log())
exact_mean = float((weight * grid[:, 0]).sum() / weight.sum())

for name, estimate, exact in [
    ("log Z", bg.log_partition(samples.log_w), exact_log_z),
    ("⟨x⟩", bg.expectation(samples.log_w, samples.x[:, 0]), exact_mean),
]:
    print(f"{name:<6} {estimate}   exact {exact:.5f}")
    assert abs(estimate.value - exact) < 4 * estimate.standard_error, "more than four standard errors off"

unweighted = samples.x[:, 0].mean().item()
print(f"The student alone says ⟨x⟩ = {unweighted:.4f}: its own error is left in, the weights take it out.")
