"""Frames evaluated one by one in an OpenMM Context: in this process, or, run as a script, in a process that serves one.

The script knows nothing of the package, so that a worker starts fast and never imports the user's program.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Sequence
from typing import IO, Any

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends its workers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed, while importing or later, must not get between the answers

import numpy as np
import openmm

__all__ = ["Frames", "dynamics_context"]

_PROPERTIES = {"Threads": "1", "Precision": "mixed", "DeterministicForces": "true"}


class Frames:
    """Potential energies and forces of batches of positions, each frame on its own.

    Arguments:
        xml: the System.
        platform: name of an OpenMM platform.
        centred: whether to put the first atom at the origin, which changes nothing but rounding errors: the CPU
            platform works in single precision.
    """

    def __init__(self, xml: str, platform: str, *, centred: bool) -> None:
        self._context = _context(openmm.XmlSerializer.deserialize(xml), platform, openmm.VerletIntegrator(0.001))
        self._centred = centred

    def evaluate(self, x: np.ndarray, *, forces: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """U and F of x, (n, n_atoms, 3) in nm: (n,) in kJ/mol and (n, n_atoms, 3) in kJ/mol/nm.

        A frame that is not finite, or that OpenMM refuses or finds NaN for, has U = +inf and F = 0.
        """
        if self._centred:
            with np.errstate(all="ignore"):
                x = x - x[:, :1]
        energy = np.full(len(x), np.inf)
        force = np.zeros(x.shape) if forces else None
        for i in np.flatnonzero(np.isfinite(x).all((1, 2))):
            try:
                self._context.setPositions(x[i])
                state = self._context.getState(getEnergy=True, getForces=forces)
            except openmm.OpenMMException:
                continue
            value = state.getPotentialEnergy()._value
            if np.isfinite(value):
                energy[i] = value
                if force is not None:
                    force[i] = state.getForces(asNumpy=True)._value
        if force is not None:
            force[~np.isfinite(force).all((1, 2))] = 0.0
        return energy, force


def dynamics_context(xml: str, platform: str, integrator: openmm.Integrator, masses: Sequence[float]) -> openmm.Context:
    """A Context that moves particles of these masses, in dalton, without removing the motion of their centre."""
    system = openmm.XmlSerializer.deserialize(xml)
    for i in reversed(range(system.getNumForces())):
        if isinstance(system.getForce(i), openmm.CMMotionRemover):
            system.removeForce(i)
    for i, mass in enumerate(masses):
        system.setParticleMass(i, mass)
    return _context(system, platform, integrator)


def _context(system: openmm.System, platform: str, integrator: openmm.Integrator) -> openmm.Context:
    engine = openmm.Platform.getPlatformByName(platform)
    properties = {name: value for name, value in _PROPERTIES.items() if name in engine.getPropertyNames()}
    return openmm.Context(system, integrator, engine, properties)


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers what is asked until there is nothing more to read; an answer is a result, or a text that says why not."""
    frames: Frames | None = None
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: Any
            if frames is None:
                frames, answer = Frames(**request), "ready"
            else:
                answer = frames.evaluate(**request)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, answers)
