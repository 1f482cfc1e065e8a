"""What tests of compiled forces share: a System of some atoms and one force, compared with OpenMM in every respect."""

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
    """check(force, n_atoms): energies, forces and curvatures are right in batches; bad frames spoil no other."""

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
        line = torch.arange(n_atoms, dtype=torch.float64)[:, None] * torch.tensor([0.0, 0.0, 0.1], dtype=torch.float64)
        for corner in (spoilt, line[None], torch.zeros_like(line)[None]):
            assert not energy.energy(corner).isnan().any()
            assert gradient(energy, corner).isfinite().all()

    return check


def gradient(energy, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(energy.energy(x).sum(), x)[0]
