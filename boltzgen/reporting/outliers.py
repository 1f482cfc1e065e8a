"""The draws to look at first when something is wrong: the heaviest, the lightest, the highest in energy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..sampling import Samples
from ..units import kT
from .weighing import weighed

__all__ = ["extremes", "pdb_text"]

_OF_EACH = {"heaviest": 2, "lightest": 1, "highest energy": 2}
_COORDINATES = 10
"""dimensions up to which a configuration that is no molecule is written out."""


def extremes(samples: Samples) -> list[dict[str, Any]]:
    """The heaviest two, the lightest and the two of highest energy among the draws of finite energy, as plain data.

    Of heavy draws the flow makes too few: they carry the estimates. Of light ones it makes too many.

    Returns:
        For each {"why", "index" (row of the samples), "log_w" (about the logarithm of the mean weight), "share" (of all
        the weight), "u" (kT)}; for a molecule also {"potential" (kJ/mol), "torsions" (degrees), "pdb"}, otherwise "x"
        if it is short. A draw that is extreme in two ways comes once, "why" naming both.

    Raises:
        InputError: if every weight is zero.
    """
    good, w = weighed(samples)
    rows = np.flatnonzero(good)
    log_w = samples.log_w.numpy()[rows]
    centred = log_w - np.logaddexp.reduce(log_w) + math.log(len(samples))
    energy = (samples.u if samples.potential is None else samples.potential).numpy()[rows]
    orders = {"heaviest": -centred, "lightest": centred, "highest energy": -energy}
    reasons: dict[int, list[str]] = {}
    for why, order in orders.items():
        for k in np.argsort(order, kind="stable")[: _OF_EACH[why]]:
            reasons.setdefault(int(k), []).append(why)
    return [
        {
            "why": ", ".join(why),
            "index": int(rows[k]),
            "log_w": float(centred[k]),
            "share": float(w[k]),
            "u": float(samples.u[rows[k]]),
            **_configuration(samples, int(rows[k])),
        }
        for k, why in reasons.items()
    ]


def pdb_text(positions: Tensor, topology: dict[str, Any]) -> str:
    """One frame (n_atoms, 3), in nm, as the text of a PDB file, with every bond in a CONECT record."""
    lines = []
    for number, ((name, element, residue, residue_id, chain), xyz) in enumerate(
        zip(topology["atoms"], (10 * positions.double()).tolist(), strict=True), start=1
    ):
        shown = f" {name:<3}" if len(name) < 4 else name[:4]
        where = "".join(f"{c:8.3f}" for c in xyz)
        lines.append(
            f"ATOM  {number:5d} {shown} {residue[:3]:>3} {str(chain)[:1] or 'A'}{str(residue_id)[:4]:>4}    "
            f"{where}  1.00  0.00          {element or '':>2}"
        )
    lines += [f"CONECT{i + 1:5d}{j + 1:5d}" for i, j in topology["bonds"]]
    return "\n".join([*lines, "END", ""])


def _configuration(samples: Samples, row: int) -> dict[str, Any]:
    if samples.potential is None or samples.topology is None:
        x = samples.x[row].double().flatten()
        return {"x": x.tolist()} if len(x) <= _COORDINATES else {}
    one = samples[torch.tensor([row])]
    return {
        "potential": float(samples.potential[row]) * kT(samples.temperature),
        "torsions": {name: math.degrees(float(one.torsion(name))) for name in samples.torsions},
        "pdb": pdb_text(samples.positions()[row], dict(samples.topology)),
    }
