"""Dihedral angles by name: phi, psi, omega and chi of every peptide, and those a user names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from ..errors import InputError

__all__ = ["Quadruple", "named_torsions", "peptide_torsions"]

Quadruple = tuple[int, int, int, int]

# The side chain along which chi1, chi2, ... are counted, from N and CA on (IUPAC 1970, rule 2.3).
_SIDE_CHAINS = {
    residue: ("N", "CA", *path.split())
    for residues, path in {
        "ARG": "CB CG CD NE CZ NH1",
        "ASN ASP ASH": "CB CG OD1",
        "CYS CYX CYM": "CB SG",
        "GLN GLU GLH": "CB CG CD OE1",
        "HIS HID HIE HIP HSD HSE HSP": "CB CG ND1",
        "ILE": "CB CG1 CD1",
        "LEU PHE TYR TRP": "CB CG CD1",
        "LYS LYN": "CB CG CD CE NZ",
        "MET": "CB CG SD CE",
        "PRO": "CB CG CD",
        "SER": "CB OG",
        "THR": "CB OG1",
        "VAL": "CB CG1",
    }.items()
    for residue in residues.split()
}


def peptide_torsions(topology: Mapping[str, Any]) -> dict[str, Quadruple]:
    """The backbone and side-chain torsions of the peptides in a topology.

    Of residue i: phi C(i−1)–N–CA–C, psi N–CA–C–N(i+1), omega CA–C–N(i+1)–CA(i+1), chi1, chi2, … along the side chain.
    The methyl carbon of an acetyl or N-methyl cap stands for its CA. Neighbours are found by bonds, so that gaps and
    cyclic peptides are read right.

    Arguments:
        topology: as `topology_data` gives it.

    Returns:
        Four atom indices for each name: "phi" where the molecule has one phi; otherwise "phi_2" with the residue's
        number, or "phi_A2" with its chain in front where numbers repeat.

    References:
        IUPAC-IUB Commission on Biochemical Nomenclature (1970), Biochemistry 9, 3471.
    """
    atoms, bonds = topology["atoms"], topology["bonds"]
    residue_of = [tuple(atom[2:]) for atom in atoms]
    residues: dict[tuple[str, ...], dict[str, int]] = {}
    for index, atom in enumerate(atoms):
        residues.setdefault(residue_of[index], {})[atom[0]] = index
    before, after = {}, {}
    for i, j in bonds:
        for c, n in ((i, j), (j, i)):
            if (atoms[c][0], atoms[n][0]) == ("C", "N") and residue_of[c] != residue_of[n]:
                before[residue_of[n]], after[residue_of[c]] = residues[residue_of[c]], residues[residue_of[n]]

    bonded = {frozenset(pair) for pair in bonds}
    found = []
    for residue, here in residues.items():
        previous, following = before.get(residue, {}), after.get(residue, {})
        chain = (here.get("N"), _alpha(here), here.get("C"), following.get("N"), _alpha(following))
        wanted: dict[str, tuple[int | None, ...]]
        wanted = {"phi": (previous.get("C"), *chain[:3]), "psi": chain[:4], "omega": chain[1:]}
        side = [here.get(name) for name in _SIDE_CHAINS.get(residue[0], ())]
        if residue[0] == "ILE" and side[-1] is None:
            side[-1] = here.get("CD")  # CHARMM's name
        wanted |= {f"chi{k + 1}": tuple(side[k : k + 4]) for k in range(len(side) - 3)}
        for kind, (i, j, k, m) in wanted.items():
            if i is None or j is None or k is None or m is None:
                continue
            if all(frozenset(pair) in bonded for pair in ((i, j), (j, k), (k, m))):
                found.append((kind, residue, (i, j, k, m)))

    kinds = Counter(kind for kind, _, _ in found)
    numbers = Counter((kind, residue[1]) for kind, residue, _ in found)
    torsions = {}
    for kind, (_, number, letter), quadruple in found:
        place = number if numbers[kind, number] == 1 else f"{letter}{number}"
        torsions[kind if kinds[kind] == 1 else f"{kind}_{place}"] = quadruple
    return torsions


def named_torsions(
    topology: Mapping[str, Any], labels: Sequence[str], given: Mapping[str, Sequence[int | str]] | None
) -> dict[str, Quadruple]:
    """The torsions of the peptides and those a user names, which come last and replace those of the same name.

    Arguments:
        topology: as `topology_data` gives it.
        labels: of the atoms, as `atom_labels` gives them.
        given: four atoms for each name, by label ("ALA2-CA") or by index from 0.

    Raises:
        InputError: if a name does not stand for four different atoms of the molecule.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InputError(
            f"torsions must be a dict of four atoms each; got {type(given).__name__}: "
            'write {"phi": ["ACE1-C", "ALA2-N", "ALA2-CA", "ALA2-C"]}'
        )
    torsions = peptide_torsions(topology)
    for name, atoms in (given or {}).items():
        if isinstance(atoms, str) or not isinstance(atoms, Sequence) or len(atoms) != 4:
            raise InputError(
                f"torsion {name!r} must be four atoms, by label or by index from 0; got {atoms!r}: "
                'write e.g. ["ACE1-C", "ALA2-N", "ALA2-CA", "ALA2-C"]'
            )
        i, j, k, m = (_atom(name, atom, labels) for atom in atoms)
        if len({i, j, k, m}) < 4:
            raise InputError(
                f"torsion {name!r} must be of four different atoms; got {list(atoms)}: name each of them once"
            )
        torsions[name] = (i, j, k, m)
    return torsions


def _alpha(residue: Mapping[str, int]) -> int | None:
    """CA, or the methyl carbon of a cap ("CH3"; AMBER also writes "C" in NME, which has no other carbon)."""
    if "CA" in residue:
        return residue["CA"]
    if "CH3" in residue:
        return residue["CH3"]
    return residue.get("C") if "O" not in residue else None


def _atom(torsion: str, atom: object, labels: Sequence[str]) -> int:
    if isinstance(atom, str):
        if atom in labels:
            return labels.index(atom)
        close = get_close_matches(atom, labels, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"labels look like {labels[0]!r}"
        raise InputError(f"torsion {torsion!r} must name atoms of the molecule; got {atom!r}: {hint}")
    if isinstance(atom, (int, np.integer)) and not isinstance(atom, bool) and 0 <= atom < len(labels):
        return int(atom)
    raise InputError(
        f"torsion {torsion!r} must name atoms of the molecule; got {atom!r}: indices run from 0 to {len(labels) - 1}"
    )
