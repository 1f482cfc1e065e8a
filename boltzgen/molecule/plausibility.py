"""Whether positions can be those of the molecule: wrong units and wrong atom order show in the bond lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import openmm

from ..errors import InputError

__all__ = ["TENFOLD_SHORT", "check_bond_lengths", "covalent_bond_lengths", "expected_bond_lengths", "typical_ratio"]

STIFF = 5e4
"""kJ/mol/nm²: harmonic bonds at least this stiff are chemical ones, not restraints or Urey-Bradley terms."""
LONGEST, SHORTEST = 1.35, 0.6
"""Beyond these multiples of its expected length a bond is not strained but between the wrong atoms. A heavy atom
exchanged with its own hydrogen stretches a bond 1.44 times; at 1000 K a bond varies by some 6 %."""
TENFOLD_SHORT = 0.07, 0.14
"""Of its expected length, what the typical bond has between where a unit ten times as large was meant."""

# Cordero et al. (2008), Dalton Trans. 2832, table 2, in nm.
_COVALENT_RADII = {
    "H": 0.031, "Li": 0.128, "B": 0.084, "C": 0.076, "N": 0.071, "O": 0.066, "F": 0.057, "Na": 0.166, "Mg": 0.141,
    "Al": 0.121, "Si": 0.111, "P": 0.107, "S": 0.105, "Cl": 0.102, "K": 0.203, "Ca": 0.176, "Mn": 0.139, "Fe": 0.132,
    "Co": 0.126, "Ni": 0.124, "Cu": 0.132, "Zn": 0.122, "As": 0.119, "Se": 0.120, "Br": 0.120, "I": 0.139,
}  # fmt: skip


def covalent_bond_lengths(elements: Sequence[str], bonds: Iterable[tuple[int, int]]) -> dict[tuple[int, int], float]:
    """Sum of covalent radii in nm by bonded pair; pairs of unknown elements are left out."""
    return {
        (i, j): _COVALENT_RADII[elements[i]] + _COVALENT_RADII[elements[j]]
        for i, j in bonds
        if elements[i] in _COVALENT_RADII and elements[j] in _COVALENT_RADII
    }


def expected_bond_lengths(
    system: openmm.System, elements: Sequence[str], bonds: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], float]:
    """Length in nm by bonded pair: the System's where it has a stiff harmonic bond, else the sum of covalent radii.

    Bonds of the System that the topology lacks count too, and show when the two list their atoms in another order.
    """
    lengths = covalent_bond_lengths(elements, bonds)
    for force in system.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            for index in range(force.getNumBonds()):
                i, j, length, stiffness = force.getBondParameters(index)
                if stiffness._value >= STIFF and length._value > 0:
                    lengths[min(i, j), max(i, j)] = length._value
    return lengths


def check_bond_lengths(
    x: npt.NDArray[np.float64], lengths: Mapping[tuple[int, int], float], labels: Sequence[str]
) -> None:
    """Refusal of frames whose bonds are ten times too long or too short, or between the wrong atoms.

    A few bad frames pass: each bond is judged by its median over the frames, those with NaN or ±inf left out.

    Arguments:
        x: positions in nm, (n, n_atoms, 3).
        lengths: expected length by pair of atoms, in nm.
        labels: names of the atoms.

    Raises:
        InputError: naming the unit they look like, or the worst bond.
    """
    x = x[np.isfinite(x).all(axis=(1, 2))]
    if not lengths or not len(x):
        return
    measured, ratio = _measured(x, lengths)
    typical = float(np.median(ratio))
    if 7 < typical < 14:
        raise _wrong_unit(typical, "ångström", "divide them by 10")
    if TENFOLD_SHORT[0] < typical < TENFOLD_SHORT[1]:
        raise _wrong_unit(typical, "nm divided by 10", "multiply them by 10")
    wrong = (ratio > LONGEST) | (ratio < SHORTEST)
    if wrong.any():
        with np.errstate(divide="ignore"):
            worst = int(np.argmax(np.where(wrong, np.abs(np.log(ratio)), -1.0)))
        pair = list(lengths)[worst]
        raise InputError(
            f"the bond {labels[pair[0]]}–{labels[pair[1]]} must be about {lengths[pair]:.3f} nm long; "
            f"got {measured[worst]:.3f} nm: check that the positions are in nm, in the order of the topology's atoms, "
            "and minimise a distorted structure"
        )


def typical_ratio(x: npt.NDArray[np.float64], lengths: Mapping[tuple[int, int], float]) -> float:
    """Median over the bonds of how many times its expected length each has, NaN if there are none.

    Arguments:
        x: positions in nm, (n, n_atoms, 3).
        lengths: expected length by pair of atoms, in nm.
    """
    return float(np.median(_measured(x, lengths)[1])) if lengths else math.nan


def _measured(
    x: npt.NDArray[np.float64], lengths: Mapping[tuple[int, int], float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Length of each bond, the median over the frames, in nm and in units of what is expected."""
    i, j = np.array(list(lengths)).T
    measured = np.median(np.linalg.norm(x[:, i] - x[:, j], axis=-1), axis=0)
    return measured, measured / np.array(list(lengths.values()))


def _wrong_unit(ratio: float, unit: str, remedy: str) -> InputError:
    return InputError(
        f"positions must be in nm; got bonds {ratio:.2g} times their usual length, which looks like {unit}: {remedy}"
    )
