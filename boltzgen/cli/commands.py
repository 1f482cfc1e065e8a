"""What each command does: a few calls of the library, and printing."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EnergyError, InputError
from .printing import print_json, print_results, say
from .runs import trained
from .targets import target_of

if TYPE_CHECKING:
    from ..reporting.verdict import Status

__all__ = ["check", "demo", "estimate", "systems"]


def demo(options: argparse.Namespace) -> Status:
    """Alanine dipeptide from its PDB file to free energies, pictures and results.json."""
    from .. import reporting
    from ..generator import BoltzmannGenerator
    from ..molecule import Molecule

    begin = time.monotonic()
    out = Path(options.out)
    molecule = Molecule.load("alanine_dipeptide")
    generator = BoltzmannGenerator(molecule, seed=options.seed)
    say(f"{molecule.name}: {molecule.n_atoms} atoms at {generator.temperature:g} K, from the energy alone")
    history = generator.train(run_dir=out / "run", minutes=options.minutes)
    say(trained(history))
    samples = generator.sample(options.n, seed=options.seed + 1, progress=True)
    drawn = {"energy": history.energy + len(samples), "gradient": history.gradient}
    results = reporting.write_report(
        samples,
        out / "report.html",
        system=molecule.name,
        evaluations=drawn,
        seconds=time.monotonic() - begin,
        history=history,
    )
    reporting.save_figure(reporting.ramachandran(samples), out / "ramachandran.png")
    reporting.save_figure(reporting.weight_histogram(samples), out / "weights.png")
    print_results(options, results, reporting.judge(samples), molecule.reference)
    say(f"written: {out}/report.html, results.json, ramachandran.png, weights.png, run/")
    return reporting.judge(samples).status


def systems(options: argparse.Namespace) -> None:
    """The bundled systems."""
    from ..molecule.systems import available

    found = available()
    if options.json:
        print_json([{"name": s.name, "title": s.title, "temperature": s.temperature} for s in found])
        return
    width = max(len(s.name) for s in found)
    for system in found:
        print(f"{system.name:<{width}}  {system.title}")


def check(options: argparse.Namespace) -> None:
    """Whether a molecule can be sampled, minutes before hours."""
    from .. import reporting
    from ..molecule import Molecule

    target = target_of(options.system, options.forcefield)
    molecule = target if isinstance(target, Molecule) else target.molecule() if target.toy is None else None
    if molecule is None:
        raise InputError(f"{options.system} must be a molecule to be checked; got a toy: train it at once")
    found = reporting.examine(molecule, options.temperature)
    if options.json:
        plain = {name: getattr(found, name) for name in ("forces", "zmatrix", "stereocentres", "rotors", "speed")}
        checks = [{"name": one.name, "value": one.value, "status": one.status} for one in found.checks]
        plain |= {"system": molecule.name, "status": found.status, "checks": checks, "minutes": found.minutes}
        print_json(plain)
    else:
        print(found)
    if found.status == "red":
        failed = ", ".join(one.name for one in found.checks if one.status == "red")
        raise EnergyError(f"{molecule.name} must pass its checks; got red for: {failed}")
    say(f"next: boltzgen train {options.system} --out run")


def estimate(options: argparse.Namespace) -> Status:
    """Estimates from a saved ensemble."""
    from .. import reporting, reweighting
    from ..sampling import Samples

    samples = Samples.load(options.samples)
    angles = {name: samples.torsion(name) for name in options.torsion}
    estimates = reporting.default_estimates(samples)
    for name, angle in angles.items():
        difference = reweighting.free_energy_difference(samples.log_w, angle < 0, angle > 0)
        estimates[f"free_energy_difference_{name}"] = (difference, "kT")
    others = [Samples.load(path) for path in options.others]
    if options.out:
        page = Path(options.out) / "report.html"
        results = reporting.write_report(samples, page, estimates=estimates, others=others)
        say(f"written: {options.out}/report.html, results.json")
    else:
        results = reporting.results(samples, estimates=estimates, others=others)
    verdict = reporting.judge(samples, others=others)
    print_results(options, results, verdict)
    return verdict.status
