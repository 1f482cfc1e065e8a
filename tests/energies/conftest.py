"""What tests of compiled forces share: a System of some atoms and one force, compared with OpenMM in every respect."""

import itertools

import openmm
import pytest
import torch

from boltzgen.energies.force_field import ForceFieldEnergy
from boltzgen.energies.parity import TOLERANCE, deviations


@pytest.fixture
def alone():
    """alone(force, n_atoms): a System of nothing else, with masses 1, 2, 3, ..."""

    def build(force, n_atoms):
        system = openmm.System()
        for i in range(n_atoms):
            system.addParticle(1.0 + i)
        system.addForce(force)
        return system

    return build


@pytest.fixture
def assert_parity(alone):
    """check(force, n_atoms): energies, forces and curvatures are right in batches; bad frames spoil no other.

    In every corner, and in both precisions, energies are finite or +inf and gradients are finite.
    """

    def check(force, n_atoms, *, size=1.0, single=2e-5):
        system = alone(force, n_atoms)
        energy = ForceFieldEnergy(system, 300.0, check=False)
        x = size * torch.rand(20, n_atoms, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        (deviation,) = deviations(energy, system, x).values()
        assert max(deviation.energy, deviation.gradient) < TOLERANCE, f"differs from OpenMM: {deviation}"
        (rough,) = deviations(energy, system, x.float()).values()
        assert max(rough.energy, rough.gradient) < single, f"differs from OpenMM in float32: {rough}"
        u, g = energy.energy(x), gradient(energy, x)
        along = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(energy.energy(leaf).sum(), leaf, create_graph=True)
        if slope.requires_grad:
            (curved,) = torch.autograd.grad((slope * along).sum(), leaf)
            difference = (gradient(energy, x + 1e-6 * along) - gradient(energy, x - 1e-6 * along)) / 2e-6
            wrong = (curved - difference).abs().amax((1, 2)) / difference.abs().amax((1, 2)).clamp_min(1)
            assert wrong.median() < 1e-6
        spoilt = x.clone()
        spoilt[3, 1, 1], spoilt[5, 0] = torch.nan, spoilt[5, 1]
        kept = [i for i in range(20) if i not in (3, 5)]
        assert torch.equal(energy.energy(spoilt)[kept], u[kept])
        assert torch.equal(gradient(energy, spoilt)[kept], g[kept])
        assert not gradient(energy, spoilt)[3].any()
        for dtype in (torch.float64, torch.float32):
            corners = torch.cat([spoilt, edges(x[0])]).to(dtype)
            u, g = energy.energy(corners), gradient(energy, corners)
            assert not u.isnan().any()
            assert not u.isneginf().any()
            assert g.isfinite().all()
            assert not g[u.isposinf()].any()

    return check


def edges(x):
    """Configurations at the edge of what can be evaluated, of the atoms of x, (n_atoms, 3).

    All in one place; on a line, forwards, to and fro, and bent by 1e-3 to 1e-8 rad at every atom; and x with every pair
    of atoms, in turn, at distances of 0.1 to 1e-8 nm.
    """
    n = len(x)
    count = torch.arange(n, dtype=x.dtype)[:, None]
    along, aside = (torch.tensor(v, dtype=x.dtype) for v in ([0.0, 0.0, 0.1], [0.1, 0.0, 0.0]))
    found = [torch.zeros_like(x), count * along, (count % 2) * along]
    found += [count * along + (count % 2) * aside * 10.0**-k / 2 for k in range(3, 9)]
    for i, j in itertools.combinations(range(n), 2):
        for k in range(1, 9):
            close = x.clone()
            close[j] = x[i] + torch.tensor([0.0, 10.0**-k, 0.0], dtype=x.dtype)
            found.append(close)
    return torch.stack(found)


def gradient(energy, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(energy.energy(x).sum(), x)[0]
