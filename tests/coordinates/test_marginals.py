"""The measure against physics: bonds and angles of reweighted draws follow the law of a dynamics in Cartesian space.

No round trip sees the measure, and closed forms know only what was put into them. A dynamics of all atoms knows
nothing of internal coordinates: where its marginals and those of weighted draws of the chart agree, the measure is
right, and where the first three atoms' share of it is left out, they do not.
"""

import math

import numpy as np
import openmm
import pytest
import torch
from corpus import corpus
from openmm import app
from scipy.special import kolmogorov

import boltzgen as bg
from boltzgen.sampling.dynamics import replica_exchange
from boltzgen.units import kT

UNLIKELY, IMPOSSIBLE = 1e-4, 1e-7  # p-values: of the right law once in 1e4 marginals, of the wrong one always


def kolmogorov_smirnov(draws, log_w, chains):
    """p-value of weighted draws (n,) and chains of equal weights (rows, walkers) having one law.

    Each counts with its effective size: Kish's of the weights; of the walkers, which are independent, the number of
    frames whose mean would vary as much as the means of the walkers do.
    """
    w = (log_w - log_w.max()).exp()
    frames = chains.flatten()
    order = torch.cat([draws, frames]).argsort()
    steps = torch.cat([w / w.sum(), torch.full_like(frames, -1 / len(frames))])[order]
    distance = steps.cumsum(0).abs().max().item()
    n, m = bg.effective_sample_size(log_w), min(map(worth, (chains, (chains < frames.median()).double())))
    return kolmogorov(distance * math.sqrt(n * m / (n + m)))


def worth(chains):
    """Independent frames whose mean has the variance that the mean of these (rows, walkers) has."""
    return min(chains.numel(), (chains.var() / chains.mean(0).var() * chains.shape[1]).item())


def marginals(molecule, temperature, *, n, walkers, rounds, steps, step_size):
    """p-values of all bonds and angles, with the measure as it is and without the share of the first three atoms."""
    energy, coordinates = molecule.energy(temperature), bg.InternalCoordinates(molecule)
    flow = bg.molecular_flow(coordinates.circular, *coordinates.harmonic_scales(temperature))
    samples = bg.draw(flow, bg.Pullback(energy, coordinates), n, seed=1)
    y, stiff = samples.x.double(), 2 * molecule.n_atoms - 3
    first = [0, 1, molecule.n_atoms - 1]  # r2, r3 and the angle between
    share = 2 * y[:, 0].log() + 2 * y[:, 1].log() + y[:, first[2]].sin().log()

    run = replica_exchange(
        energy,
        torch.tensor(molecule.positions),
        torch.tensor(molecule.masses / kT(temperature)),
        [temperature],
        walkers=walkers,
        rounds=rounds,
        equilibration=rounds // 2,
        steps=steps,
        step_size=step_size,
        seed=2,
    )
    frames, log_det = coordinates.inverse(run.x.flatten(0, 1))
    assert torch.isfinite(log_det).double().mean() > 0.999  # else the laws differ by what lies outside the chart
    frames = frames.view(rounds, walkers, -1)
    right, wrong = (
        np.array([kolmogorov_smirnov(y[:, k], log_w, frames[..., k]) for k in range(stiff)])
        for log_w in (samples.log_w, samples.log_w - share)
    )
    return right, wrong, first


def chain_of_springs():
    """Five atoms, soft enough for the measure to show in every bond and angle."""
    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    atoms = [topology.addAtom(f"C{k}", app.element.carbon, residue) for k in range(5)]
    bonds, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    for k, atom in enumerate(atoms):
        system.addParticle(12.0)
        if k:
            topology.addBond(atoms[k - 1], atom)
            bonds.addBond(k - 1, k, 0.15, 1.5e4)
        if k > 1:
            angles.addAngle(k - 2, k - 1, k, 1.3, 50.0)
    system.addForce(bonds)
    system.addForce(angles)
    positions = [[0.15, 0, 0], [0, 0, 0], [0.04, 0.145, 0], [0.18, 0.12, 0.05], [0.2, 0.17, 0.18]]
    return bg.Molecule.from_openmm(system, topology, np.array(positions), name="chain")


def test_a_soft_molecule_has_the_marginals_of_its_dynamics():
    right, wrong, first = marginals(
        chain_of_springs(), 300.0, n=40_000, walkers=500, rounds=60, steps=8, step_size=0.006
    )
    assert right.min() > UNLIKELY, right
    assert (wrong[first] < IMPOSSIBLE).all(), wrong
    assert np.delete(wrong, first).min() > UNLIKELY, wrong  # and nowhere else


@pytest.mark.slow
def test_isobutane_has_the_marginals_of_its_dynamics():
    """All 13 bonds and 12 angles of a force field; hot, since the measure hardly shows in stiff bonds that are cold.

    Its torsions are those of methyls: alike in all their wells, so that none need be crossed.
    """
    right, wrong, first = marginals(
        corpus("isobutane"), 1000.0, n=120_000, walkers=500, rounds=120, steps=10, step_size=0.001
    )
    assert right.min() > UNLIKELY, right
    assert (wrong[first[:2]] < IMPOSSIBLE).all(), wrong  # the angle of 111 degrees is far from the poles of its sine
