"""An energy of your own: any torch function, in one class with one method.

Here: a ring of radius 3 with a notch, u(x) = 4 (|x| − 3)² + 2 cos θ, whose exact averages are known by quadrature.
Run:  python examples/03_your_own_energy.py [--quick]
"""

import argparse

import torch

import boltzgen as bg


class Ring(bg.Energy):
    """u(x) = 4 (|x| − 3)² + 2 cos θ, in kT."""

    def _energy(self, x):  # (n, 2) -> (n,)
        r = x.norm(dim=-1)
        return 4 * (r - 3) ** 2 + 2 * x[:, 0] / r


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute")
quick = parser.parse_args().quick

target = Ring((2,))
flow = bg.coupling_flow(2)
bg.anneal(flow, target, steps=500 if quick else 8000)

samples = bg.draw(flow, target, 20_000 if quick else 100_000, seed=1)
print(bg.judge(samples))
mean_cos = bg.expectation(samples.log_w, samples.x[:, 0] / samples.x.norm(dim=-1))

theta = torch.linspace(0, 2 * torch.pi, 10_001, dtype=torch.float64)[:-1]
weight = torch.exp(-2 * theta.cos())
exact = float((weight * theta.cos()).sum() / weight.sum())
print(f"⟨cos θ⟩ {mean_cos}   exact {exact:.5f}")
assert abs(mean_cos.value - exact) < 4 * mean_cos.standard_error, "more than four standard errors off"
