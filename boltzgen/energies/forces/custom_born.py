"""OBC generalized Born as OpenMM spells it out in the expressions of a `CustomGBForce`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import openmm

from ...errors import UnsupportedSystemError
from .born import GeneralizedBorn
from .nonbonded import require_no_cutoff

__all__ = ["recognized_born"]

_SINGLE, _PAIRS = openmm.CustomGBForce.SingleParticle, openmm.CustomGBForce.ParticlePairNoExclusions

_FORMS = {  # what OpenMM writes, without white space and definitions of constants; # is a number
    "overlap": (
        "I=select(step(r+sr2-or1),0.5*(1/L-1/U+0.25*(r-sr2^2/r)*(1/(U^2)-1/(L^2))+0.5*log(L/U)/r),0);"
        "U=r+sr2;L=max(or1,D);D=abs(r-sr2)",
        _PAIRS,
    ),
    "OBC 1": ("B=1/(1/or-tanh(#*psi+#*psi^3)/radius);psi=I*or;radius=or+offset", _SINGLE),
    "OBC 2": ("B=1/(1/or-tanh(psi-#*psi^2+#*psi^3)/radius);psi=I*or;radius=or+offset", _SINGLE),
    "self": ("-0.5*#*(1/soluteDielectric-1/solventDielectric)*charge^2/B", _SINGLE),
    "surface": ("#*(radius+#)^2*(radius/B)^6;radius=or+offset", _SINGLE),
    "pair": (
        "-#*(1/soluteDielectric-1/solventDielectric)*charge1*charge2/f;f=sqrt(r^2+B1*B2*exp(-r^2/(4*B1*B2)))",
        _PAIRS,
    ),
}
_CONSTANTS = {"soluteDielectric", "solventDielectric", "offset", "kappa"}  # what OpenMM defines by a number
_NUMBER = r"\d+\.?\d*(?:[eE][-+]?\d+)?"


def recognized_born(force: openmm.CustomGBForce) -> GeneralizedBorn:
    """The force as a `GeneralizedBorn`, its expressions compared character by character with those OpenMM writes.

    Only numbers and white space may differ; the constants are read from the expressions or the global parameters.

    Raises:
        UnsupportedSystemError: if any expression is another one.
    """
    require_no_cutoff(force)
    read = _expressions(force)
    columns = [force.getPerParticleParameterName(p) for p in range(force.getNumPerParticleParameters())]
    complete = {"overlap", "self", "pair"} <= read.keys() and {"charge", "or", "sr"} <= set(columns)
    if not complete or ("OBC 1" in read) == ("OBC 2" in read) or read["self"].polar() != read["pair"].polar():
        raise _unknown(force, f"an inconsistent set of them ({', '.join(read) or 'none'})")
    radius = read["OBC 1"] if "OBC 1" in read else read["OBC 2"]
    table = np.array([force.getParticleParameters(i) for i in range(force.getNumParticles())]).reshape(-1, len(columns))
    charge, offset_radius, scaled_radius = (table[:, columns.index(name)] for name in ("charge", "or", "sr"))
    surface = np.zeros_like(charge)
    if "surface" in read:
        tension, probe = read["surface"].numbers
        rho = offset_radius + read["surface"].constants["offset"]
        surface = tension * (rho + probe) ** 2 * rho**6
    first, second = radius.numbers
    return GeneralizedBorn(
        charge,
        offset_radius=offset_radius,
        scaled_radius=scaled_radius,
        radius=offset_radius + radius.constants["offset"],
        surface=surface,
        polar=read["pair"].polar(),
        rescaling=(first, 0.0, second) if "OBC 1" in read else (1.0, first, second),
        engulfing=False,
    )


@dataclass
class _Expression:
    """The numbers found in an expression, and the constants it may refer to by name."""

    numbers: list[float]
    constants: dict[str, float]

    def polar(self) -> float:
        return self.numbers[0] * (1 / self.constants["soluteDielectric"] - 1 / self.constants["solventDielectric"])


def _expressions(force: openmm.CustomGBForce) -> dict[str, _Expression]:
    """Every expression of the force by the role of the form it matches."""
    constants = {
        force.getGlobalParameterName(g): force.getGlobalParameterDefaultValue(g)
        for g in range(force.getNumGlobalParameters())
    }
    texts = []
    for v in range(force.getNumComputedValues()):
        name, text, kind = force.getComputedValueParameters(v)
        texts.append((f"{name}={text}", kind))
    texts += [force.getEnergyTermParameters(t) for t in range(force.getNumEnergyTerms())]
    read: dict[str, _Expression] = {}
    for text, kind in texts:
        role, expression = _recognise(force, text, kind, constants)
        if role in read:
            raise _unknown(force, f"{text!r} twice")
        read[role] = expression
    return read


def _recognise(
    force: openmm.CustomGBForce, text: str, kind: int, constants: dict[str, float]
) -> tuple[str, _Expression]:
    parts = []
    for part in "".join(text.split()).split(";"):
        name, _, value = part.partition("=")
        if name in _CONSTANTS and re.fullmatch(_NUMBER, value):
            constants = constants | {name: float(value)}
        else:
            parts.append(part)
    for role, (form, form_kind) in _FORMS.items():
        match = re.fullmatch(re.escape(form).replace(r"\#", f"({_NUMBER})"), ";".join(parts))
        if match and kind == form_kind and _CONSTANTS & set(re.findall(r"\w+", form)) <= constants.keys():
            return role, _Expression([float(number) for number in match.groups()], constants)
    raise _unknown(force, repr(text))


def _unknown(force: openmm.CustomGBForce, got: str) -> UnsupportedSystemError:
    return UnsupportedSystemError(
        f'{force.getName()} must be OBC generalized Born as OpenMM writes it; got {got}: use backend="openmm"'
    )
