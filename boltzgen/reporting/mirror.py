"""Mirror images: as many conformers as images of them where a molecule is its own, and none of the molecule else."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..coordinates import stereocentres
from ..reweighting.ratio import ratio_of_means
from ..reweighting.weights import scaled_weights
from ..sampling import Samples
from .lights import Check, check, grade
from .modes import ROUNDING

__all__ = ["hands", "mirror_images", "mirrored_torsions"]

_HANDED = 0.999  # of the draws on one side: a centre that keeps its hand
_LOOKED_AT = 10_000
_BACKBONE = {"CNCC", "CCNC", "NCCN"}
_TORSIONS = 6
_LEFT_HANDED = "ALA ARG ASN ASP ASH CYS CYX GLN GLU GLH HIS HID HIE HIP ILE LEU LYS LYN MET PHE PRO SER THR TRP TYR VAL"
"""Residues whose names mean the L amino acid."""


def mirror_images(samples: Samples) -> list[Check]:
    """The check of a molecule that is its own mirror image, none for others.

    A reflection leaves the energy as it is and turns each torsion φ into −φ. So the cells that the torsions make, cut
    at 0° and ±120°, have the populations of their images, and what the weights say of both may differ by their errors
    only. Unlike the weights themselves it sees a conformer that was lost, if its image was not. Only correction maps
    of backbones (CMAP) may tell left from right, as that of glycine in ff19SB does: there the light is amber at worst.
    """
    torsions = mirrored_torsions(samples)[:_TORSIONS]
    if not torsions or samples.n_failed == len(samples):
        return []
    backbone = any(_elements(samples, name) in _BACKBONE for name in torsions)
    w = scaled_weights(samples.log_w.numpy())
    angles = np.stack([samples.torsion(name).numpy() for name in torsions], 1)
    # 0 for trans, 1 and −1 for gauche: the image of a cell is its negative
    sector = np.where(np.abs(angles) > 2 * np.pi / 3, 0, np.sign(angles)).astype(np.int64)
    cell = sector @ 3 ** np.arange(len(torsions))
    apart = 0.0
    for one in np.unique(np.abs(cell[(w > 0) & (cell != 0)])):
        ratio = ratio_of_means(w * np.where(cell == one, 1.0, np.where(cell == -one, -1.0, 0.0)), w)
        apart = max(apart, abs(ratio.value) / (ratio.standard_error + ROUNDING))
    return [
        check(
            "mirror images", apart, "at most 4 sigmas", grade(-apart, -4, -math.inf if backbone else -6),
            "how far conformers and their mirror images, which this molecule has as often, are apart in population",
            "the flow lost a mode, or is thin there: train again from a hotter temperature"
            + (", unless the force field has a correction map that prefers one hand" if backbone else ""),
        )
    ]  # fmt: skip


def mirrored_torsions(samples: Samples) -> list[str]:
    """The named torsions that a reflection turns into their negatives, all atoms being where their like were.

    That is so if two like leaves, such as the hydrogens of CH₂, can change places at every centre that keeps a hand.
    Torsions that end in one of several like branches are left out: coordinates may name those by their places.
    """
    if samples.topology is None or not samples.torsions:
        return []
    elements = [atom[1] for atom in samples.topology["atoms"]]
    neighbours: list[list[int]] = [[] for _ in elements]
    for i, j in samples.topology["bonds"]:
        neighbours[i].append(j)
        neighbours[j].append(i)
    look = [(element, len(around)) for element, around in zip(elements, neighbours, strict=True)]
    good = samples.positions()[samples.u.isfinite().nonzero()[:_LOOKED_AT, 0]]
    for centre, around in enumerate(neighbours):
        leaves = [elements[k] for k in around if len(neighbours[k]) == 1]
        if len(around) > 2 and len(set(leaves)) == len(leaves) and _handed(good, centre, around[:3]):
            return []

    def alone(end: int, pivot: int, other: int) -> bool:
        around = neighbours[pivot]
        return {end, other} <= set(around) and [look[k] for k in around if k != other].count(look[end]) == 1

    return [name for name, (a, b, c, d) in samples.torsions.items() if alone(a, b, c) and alone(d, c, b)]


def hands(samples: Samples) -> list[Check]:
    """The check that stereocentres keep their hand, L for amino acids by name; none without stereocentres.

    The mirror image has the same energy, so that no weight can tell it from the molecule.
    """
    if samples.topology is None or samples.n_failed == len(samples):
        return []
    atoms, bonds = samples.topology["atoms"], samples.topology["bonds"]
    w = torch.from_numpy(scaled_weights(samples.log_w.numpy()))
    positions, wrong, mixed = samples.positions(), torch.zeros(len(w), dtype=torch.bool), False
    centres = stereocentres([(i, j) for i, j in bonds], [atom[1] for atom in atoms])
    for centre in centres:
        around = sorted(j if i == centre else i for i, j in bonds if centre in (i, j))
        named = {atoms[k][0]: k for k in around}
        left = atoms[centre][2] in _LEFT_HANDED.split() and atoms[centre][0] == "CA" and {"N", "C", "CB"} <= set(named)
        three = [named["N"], named["C"], named["CB"]] if left else around[:3]
        right = torch.linalg.det(positions[:, three].double() - positions[:, [centre]].double()) > 0
        share = float(w[right].sum() / w.sum())
        mixed = mixed or 1 - _HANDED < share < _HANDED
        wrong |= right != (left or share > 0.5)
    if not centres:
        return []
    share = float(w[wrong].sum() / w.sum())
    return [
        check(
            "handedness", share, "at most 0.1 % mirrored",
            "green" if share <= 1 - _HANDED else "red" if mixed else "amber",
            "share of the draws in which a stereocentre has another hand than in most, or an amino acid that of D",
            "draw on InternalCoordinates, which keep hands, and start from the right one", percent=True,
        )
    ]  # fmt: skip


def _elements(samples: Samples, name: str) -> str:
    atoms = () if samples.topology is None else samples.topology["atoms"]
    return "".join(atoms[k][1] for k in samples.torsions[name])


def _handed(positions: Tensor, centre: int, around: list[int]) -> bool:
    """Whether three neighbours of a centre keep their turning order in practically all draws."""
    v = positions[:, around].double() - positions[:, [centre]].double()
    side: npt.NDArray[np.bool_] = (torch.linalg.det(v) > 0).numpy()
    return not 1 - _HANDED < side.mean() < _HANDED
