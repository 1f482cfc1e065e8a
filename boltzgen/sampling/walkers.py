"""What dynamics leave behind: walkers, and their frames as ensembles of equal weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..arguments import instances
from ..errors import InputError
from ..molecule import Molecule
from .samples import Samples

__all__ = ["Simulation", "WalkerState", "check_thin", "equal_weights"]


@dataclass(frozen=True)
class WalkerState:
    """Configurations and velocities of all walkers, and the random numbers to come."""

    x: Tensor  # (W, *event)
    v: Tensor
    random: Tensor


@dataclass(frozen=True)
class Simulation:
    """What W independent walkers leave behind, in main memory, but for the state.

    Attributes:
        x: the configurations kept, (n, W, *event).
        u: their energies, (n, W), float64.
        kinetic: their kinetic energies in kT, (n, W), float64; d/2 on average, as far as the time step allows.
        temperature: that of the energy.
        state: where the simulation stands; `resume=` it to go on as if it had not stopped.
    """

    x: Tensor
    u: Tensor
    kinetic: Tensor
    temperature: float
    state: WalkerState = field(repr=False)

    def samples(self, molecule: Molecule | None = None) -> Samples:
        """The n W frames as an ensemble of equal weights, to be saved, exported, compared with or learnt from.

        They are correlated, so that `independent` is False, and know no log Z.

        Arguments:
            molecule: whose positions they are, if they are a molecule's.
        """
        return equal_weights(self.x.flatten(0, 1), self.u.flatten(), self.temperature, molecule)


def equal_weights(x: Tensor, u: Tensor, temperature: float, molecule: Molecule | None = None) -> Samples:
    """Frames (n, *event) that follow exp(−u), as draws from the target itself up to its unknown log Z.

    Raises:
        InputError: if they are not the molecule's.
    """
    u = u.double()
    if molecule is None:
        return Samples(x, -u, u, temperature=temperature, independent=False)
    instances(molecule=(molecule, Molecule))
    if tuple(x.shape[1:]) != (molecule.n_atoms, 3):
        raise InputError(
            f"frames of {molecule.name} must have the shape {(molecule.n_atoms, 3)}; got {tuple(x.shape[1:])}: pass "
            "the molecule that was simulated"
        )
    about: dict[str, Any] = {
        "system": molecule.name,
        "topology": molecule.topology_data,
        "torsions": {name: [int(i) for i in atoms] for name, atoms in molecule.torsions.items()},
    }
    x = x.to(torch.float32)
    return Samples(x, -u, u, temperature=temperature, independent=False, cartesian=x, potential=u, **about)


def check_thin(thin: int, what: str, n: int) -> None:
    """Refuses a dynamics that would keep nothing."""
    if thin > n:
        raise InputError(f"thin must be at most the number of {what}, {n}; got {thin}: nothing would be kept")
