"""Every kind of flow on one density: how near each comes, and what each direction costs.

Two crescents, r ~ N(2, ¼²) and θ with the density (1 + 0.95 cos 2θ)/2π, can be drawn and evaluated exactly, so that
the forward divergence of a flow, E_p[log p(x) − log q(x)], is known up to Monte Carlo noise. Writes flows.png in the
current folder.
Run:  python examples/04_flows.py [--quick]
"""

import argparse
import math
import time

import torch
from matplotlib.figure import Figure

import boltzgen as bg
from boltzgen.flows import Composition, Continuous, Flow, GaussianMixture, Normal, Planar, Radial, gaussianization

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="a minute instead of ten")
quick = parser.parse_args().quick
STEPS, BATCH = (150, 256) if quick else (2000, 512)
torch.manual_seed(1)


def crescents(n):  # -> (n, 2)
    r = 2 + 0.25 * torch.randn(n)
    theta = 2 * math.pi * torch.rand(8 * n + 100)
    theta = theta[torch.rand(len(theta)) < (1 + 0.95 * (2 * theta).cos()) / 1.95][:n]
    return torch.stack([r * theta.cos(), r * theta.sin()], 1)


def log_p(x):  # (n, 2) -> (n,); |r| < 0 has a probability of 6e-16
    r, theta = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    radial = -0.5 * ((r - 2) / 0.25) ** 2 - math.log(0.25 * math.sqrt(2 * math.pi))
    return radial + ((1 + 0.95 * (2 * theta).cos()) / (2 * math.pi)).log() - r.log()


FLOWS = {
    "NICE, additive couplings": bg.coupling_flow(2, transform="additive"),
    "RealNVP, affine couplings": bg.coupling_flow(2, transform="affine"),
    "spline couplings": bg.coupling_flow(2),
    "logistic couplings": bg.coupling_flow(2, transform="logistic", layers=4),
    "MAF, affine": bg.maf(2, layers=8),
    "MAF, splines": bg.maf(2, transform="spline"),
    "IAF, splines": bg.iaf(2, transform="spline"),
    "planar, 16 layers": Flow(Normal(2), Composition([Planar(2) for _ in range(16)])),
    "radial, 16 layers": Flow(Normal(2), Composition([Radial(2) for _ in range(16)])),
    "continuous, 4 steps of RK4": Flow(Normal(2), Continuous(2, hidden=(32, 32), steps=4)),
    "Gaussianization, trained on": gaussianization(crescents(20_000), layers=8, bins=32),
    "mixture of 8 and affine couplings": Flow(
        GaussianMixture(2 * torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), scales=0.5),
        bg.coupling_flow(2, transform="affine", layers=4).bijection,
    ),
}


def microseconds(call, n):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) / n * 1e6


test = crescents(20_000)
axis = torch.linspace(-3.2, 3.2, 120)
grid = torch.cartesian_prod(axis, axis)
pictures = {"the density": log_p(grid)}
print(f"{'':36}{'KL(p‖q)':>9}{'parameters':>12}{'µs a draw':>11}{'µs a density':>14}")
for name, flow in FLOWS.items():
    bg.train(flow, lambda q: bg.forward_kl(q, crescents(BATCH)), steps=STEPS, learning_rate=3e-3, progress=False)
    with torch.no_grad():
        kl = (log_p(test) - flow.log_prob(test)).mean()
        pictures[f"{name}: {kl:.3f}"] = flow.log_prob(grid)
        of_draw = microseconds(lambda: flow.sample(4096, seed=0), 4096)  # noqa: B023
        of_density = microseconds(lambda: flow.log_prob(test[:4096]), 4096)  # noqa: B023
    size = sum(p.numel() for p in flow.parameters())
    print(f"{name:36}{kl:9.3f}{size:12}{of_draw:11.1f}{of_density:14.1f}", flush=True)
    assert kl > -0.02, "a density cannot be nearer to p than p itself"

figure = Figure(figsize=(15, 9.5), layout="constrained")
for place, (title, log_density) in zip(figure.subplots(3, 5).flat, pictures.items(), strict=False):
    place.imshow(log_density.exp().view(120, 120).T, origin="lower", extent=(-3.2, 3.2, -3.2, 3.2), vmax=0.35)
    place.set_title(title, fontsize=9)
for place in figure.axes:
    place.set_axis_off()
figure.savefig("flows.png")
