"""Molecules of five atoms whose torsions phi and psi are what a test wants them to be."""

import pytest
import torch

from boltzgen.sampling import Samples

HIGH = 2.0  # kT
TOPOLOGY = {
    "atoms": [[f"A{k}", element, "MOL", "1", "A"] for k, element in enumerate("HCCNH")],
    "bonds": [[0, 1], [1, 2], [2, 3], [3, 4]],
}


@pytest.fixture
def chain():
    """Samples of H–C–C–N–H with these phi and psi and log-weights, all angles 90°, bonds 0.1 nm unless scaled."""

    def build(phi, psi, log_w=None, *, scale=0.1, **fields):
        phi, psi = torch.as_tensor(phi, dtype=torch.float64), torch.as_tensor(psi, dtype=torch.float64)
        zero, one = torch.zeros_like(phi), torch.ones_like(phi)
        along = torch.stack([phi.cos(), phi.sin(), zero], -1)  # from atom 2 to atom 3, the axis 1 → 2 being z
        across = torch.stack([zero, zero, one], -1)
        third = torch.linalg.cross(along, across)
        a = torch.stack([one, zero, zero], -1)
        b, c = torch.zeros_like(a), torch.stack([zero, zero, one], -1)
        d = c + along
        e = d - psi.cos()[:, None] * across + psi.sin()[:, None] * third
        positions = scale * torch.stack([a, b, c, d, e], 1)
        log_w = zero if log_w is None else torch.as_tensor(log_w, dtype=torch.float64)
        settings = {
            "temperature": 300.0,
            "system": "chain",
            "potential": -log_w,
            "topology": TOPOLOGY,
            "torsions": {"phi": [0, 1, 2, 3], "psi": [1, 2, 3, 4]},
        }
        return Samples(positions.flatten(1), zero, -log_w, cartesian=positions.float(), **settings | fields)

    return build


@pytest.fixture
def peptide():
    """Five atoms whose torsions phi and psi are uniform on (0°, 90°); phi > 45° costs HIGH."""
    n = 4000
    generator = torch.Generator().manual_seed(0)
    phi, psi = (0.5 * torch.pi * torch.rand(2, n, generator=generator, dtype=torch.float64)).unbind()
    zero, one = torch.zeros_like(phi), torch.ones_like(phi)
    positions = torch.stack(
        [
            torch.stack([one, phi.cos(), phi.sin()], -1),  # seen along the axis 1 → 2, phi from atom 3
            torch.stack([one, zero, zero], -1),
            torch.stack([zero, zero, zero], -1),
            torch.stack([zero, one, zero], -1),
            torch.stack([psi.sin(), one, psi.cos()], -1),
        ],
        1,
    )
    u = torch.where(phi > torch.pi / 4, HIGH, 0.0).double()
    u[:3] = torch.inf
    return Samples(
        positions.float().flatten(1),
        torch.zeros(n),
        u,
        temperature=300.0,
        cartesian=positions.float(),
        potential=u,
        topology={"atoms": [["C", "C", "X", "1", "A"]] * 5, "bonds": []},
        torsions={"phi": [0, 1, 2, 3], "psi": [1, 2, 3, 4]},
    )
