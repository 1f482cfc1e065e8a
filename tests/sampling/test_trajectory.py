import mdtraj
import numpy as np
import pytest
import torch
from openmm import app

from boltzgen.sampling.trajectory import as_trajectory

TOPOLOGY = {
    "atoms": [
        ["N", "N", "GLY", "1", "A"],
        ["CA", "C", "GLY", "1", "A"],
        ["C", "C", "ALA", "2", "A"],
        ["CB", "C", "ALA", "2A", "A"],
        ["O", "O", "HOH", "-3", "B"],
        ["M", "", "HOH", "-3", "B"],
    ],
    "bonds": [[0, 1], [1, 2], [4, 5]],
}


def test_chains_residues_atoms_and_bonds_arrive():
    x = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0))
    trajectory = as_trajectory(x, TOPOLOGY)
    topology = trajectory.topology
    assert np.array_equal(trajectory.xyz, x.numpy())
    assert (topology.n_chains, topology.n_residues, topology.n_atoms) == (2, 4, 6)
    assert [residue.resSeq for residue in topology.residues] == [1, 2, 3, -3]
    assert [atom.name for atom in topology.atoms] == ["N", "CA", "C", "CB", "O", "M"]
    assert [atom.element.symbol for atom in topology.atoms] == ["N", "C", "C", "C", "O", "VS"]
    assert [(a.index, b.index) for a, b in topology.bonds] == [(0, 1), (1, 2), (4, 5)]
    assert trajectory.unitcell_lengths is None


@pytest.mark.parametrize("suffix", ["pdb", "dcd", "xtc"])
def test_files_come_back(tmp_path, suffix):
    x = torch.rand(3, 6, 3, generator=torch.Generator().manual_seed(0))
    trajectory = as_trajectory(x, TOPOLOGY)
    trajectory.save(str(tmp_path / f"frames.{suffix}"))
    back = mdtraj.load(str(tmp_path / f"frames.{suffix}"), top=trajectory.topology)
    assert back.xyz == pytest.approx(x.numpy(), abs=6e-4)  # the three decimals of XTC, in nm


def test_openmm_reads_the_exported_topology():
    topology = as_trajectory(torch.zeros(1, 6, 3), TOPOLOGY).topology.to_openmm()
    assert isinstance(topology, app.Topology)
    assert topology.getNumBonds() == 3
