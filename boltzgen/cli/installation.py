"""What an installation is made of, and whether it works: the first thing to send with a question."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
from typing import Any

from ..errors import EnergyError
from ..run_folder import PACKAGES

__all__ = ["doctor"]

_NEXT = "\n" + 21 * " "


def doctor(options: argparse.Namespace) -> None:
    """Versions, platforms, compiler and threads, and a self-test of the force field and the flow."""
    facts = _facts()
    facts["problems"] = problems = [*_clashes(), *_self_test()]
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            if name != "problems":
                lines = value or ["none"] if isinstance(value, list) else [value]
                print(f"{name:<20} {_NEXT.join(map(str, lines))}")
        print("everything works" if not problems else "\n".join(f"PROBLEM: {problem}" for problem in problems))
    if problems:
        raise EnergyError(f"the installation must pass its self-test; got {len(problems)} problems: see above")


def _facts() -> dict[str, Any]:
    import torch

    from ..energies.openmm_platforms import platforms

    names, failures = platforms()
    compiler = next((found for name in ("g++", "c++", "clang++") if (found := shutil.which(name))), "none")
    return {
        "Python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "OpenMM platforms": names,
        "plugins left out": [_briefly(failure) for failure in failures],
        "C++ compiler": compiler,
        "processors": os.cpu_count() or 1,
        "torch threads": torch.get_num_threads(),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "installed in": os.path.dirname(os.path.dirname(__file__)),
    }


def _briefly(failure: str) -> str:
    """What OpenMM says of a plugin it could not load, without folders: most lack the library of a GPU."""
    found = re.fullmatch(r"Error loading library (\S+): (.*)", failure, flags=re.DOTALL)
    if found is None:
        return failure
    reason = found[2].replace(": cannot open shared object file: No such file or directory", " not found")
    return f"{os.path.basename(found[1])}: {reason}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def _clashes() -> list[str]:
    """Other distributions that own the import name."""
    owners = importlib.metadata.packages_distributions().get("boltzgen", [])
    return [
        f"the distribution {owner!r} installs a package named boltzgen too: uninstall it, or use another environment"
        for owner in sorted(set(owners) - {"boltzgen-flows"})
    ]


def _self_test() -> list[str]:
    """What does not work, in words."""
    import torch

    from ..coordinates import InternalCoordinates
    from ..energies import Pullback
    from ..flows import molecular_flow
    from ..molecule import Molecule
    from ..sampling import draw

    try:
        molecule = Molecule.load("alanine_dipeptide")
        coordinates = InternalCoordinates(molecule)
        target = Pullback(molecule.energy(300.0, backend="torch"), coordinates)  # compares itself with OpenMM
        flow = molecular_flow(coordinates.circular, *coordinates.harmonic_scales(300.0))
        samples = draw(flow, target, 500, seed=1)
        back, _ = coordinates.inverse(samples.positions().double())
        x, _ = coordinates(back)
        lost = (target.inner.energy(x) - samples.potential).abs() if samples.potential is not None else torch.zeros(1)
    except Exception as error:
        return [f"the self-test ended with {type(error).__name__}: {error}"]
    found = []
    if samples.n_failed > 50:
        found.append(f"{samples.n_failed} of 500 harmonic draws of alanine dipeptide have no finite energy")
    if float(lost[torch.isfinite(lost)].median()) > 0.1:
        found.append("coordinates and energies do not agree with themselves")
    return found
