"""What each command does: a few calls of the library, and printing."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EnergyError, InputError
from ..files import write_atomically

if TYPE_CHECKING:
    from ..energies import Energy
    from ..generator import BoltzmannGenerator
    from ..molecule import Molecule
    from ..reporting import Verdict
    from ..reporting.verdict import Status

__all__ = ["check", "demo", "estimate", "sample", "systems", "train"]


def demo(options: argparse.Namespace) -> Status:
    """Alanine dipeptide from its PDB file to free energies, pictures and results.json."""
    from .. import reporting
    from ..generator import BoltzmannGenerator
    from ..molecule import Molecule

    begin = time.monotonic()
    out = Path(options.out)
    molecule = Molecule.load("alanine_dipeptide")
    generator = BoltzmannGenerator(molecule, seed=options.seed)
    _say(f"{molecule.name}: {molecule.n_atoms} atoms at {generator.temperature:g} K, from the energy alone")
    history = generator.train(run_dir=out / "run", minutes=options.minutes)
    _say(_trained(history))
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
    reporting.ramachandran(samples).savefig(out / "ramachandran.png", dpi=150)
    reporting.weight_histogram(samples).savefig(out / "weights.png", dpi=150)
    _show(options, results, reporting.judge(samples), reference=molecule.reference)
    _say(f"written: {out}/report.html, results.json, ramachandran.png, weights.png, run/")
    return reporting.judge(samples).status


def systems(options: argparse.Namespace) -> None:
    """The bundled systems."""
    from ..molecule.systems import available

    found = available()
    if options.json:
        print(json.dumps([{"name": s.name, "title": s.title, "temperature": s.temperature} for s in found], indent=2))
        return
    width = max(len(s.name) for s in found)
    for system in found:
        print(f"{system.name:<{width}}  {system.title}")


def check(options: argparse.Namespace) -> None:
    """Whether a molecule can be sampled, minutes before hours."""
    from .. import reporting
    from ..molecule import Molecule

    molecule, _ = _target(options.system, options.forcefield)
    if not isinstance(molecule, Molecule):
        raise InputError(f"{options.system} must be a molecule to be checked; got a toy: train it at once")
    found = reporting.examine(molecule, options.temperature)
    if options.json:
        plain = {name: getattr(found, name) for name in ("forces", "zmatrix", "stereocentres", "rotors", "speed")}
        checks = [{"name": one.name, "value": one.value, "status": one.status} for one in found.checks]
        plain |= {"system": molecule.name, "status": found.status, "checks": checks, "minutes": found.minutes}
        print(json.dumps(plain, indent=2))
    else:
        print(found)
    if found.status == "red":
        failed = ", ".join(one.name for one in found.checks if one.status == "red")
        raise EnergyError(f"{molecule.name} must pass its checks; got red for: {failed}")
    _say(f"next: boltzgen train {options.system} --out run")


def train(options: argparse.Namespace) -> None:
    """Trains a generator in a run folder, or goes on training there."""
    from ..generator import BoltzmannGenerator

    out = Path(options.out)
    target, toy = _target(options.system, options.forcefield)
    generator = BoltzmannGenerator(target, temperature=options.temperature, seed=options.seed)
    _say(_described(options, generator))
    out.mkdir(parents=True, exist_ok=True)
    # a saved generator brings its molecule along, but not a toy
    run = {"system": options.system, "temperature": options.temperature, "toy": toy}
    write_atomically(out / "run.json", json.dumps(run, indent=2).encode())
    history = generator.train(run_dir=out, minutes=options.minutes, compile="never" if options.no_compile else "auto")
    _say(_trained(history))
    if options.json:
        print(json.dumps({"run": str(out), "evaluations": history.evaluations, "seconds": history.seconds}, indent=2))
    _say(f"next: boltzgen sample {out}")


def sample(options: argparse.Namespace) -> Status:
    """Draws from a trained generator and keeps the weighted ensemble."""
    from .. import reporting

    generator, folder = _generator(Path(options.generator))
    samples = generator.sample(options.n, seed=options.seed, progress=True)
    out = Path(options.out) if options.out else folder / "samples.npz"
    samples.save(out)
    verdict = reporting.judge(samples)
    _show(options, reporting.results(samples), verdict, reference={})
    _say(f"written: {out}; next: boltzgen estimate {out}")
    return verdict.status


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
        _say(f"written: {options.out}/report.html, results.json")
    else:
        results = reporting.results(samples, estimates=estimates, others=others)
    verdict = reporting.judge(samples, others=others)
    _show(options, results, verdict, reference={})
    return verdict.status


def _target(system: str, forcefield: list[str] | None) -> tuple[Molecule | Energy, dict[str, Any] | None]:
    """The molecule or toy energy meant by a name, a folder or a PDB file, and what makes the toy."""
    from ..molecule import Molecule
    from ..molecule.forcefield import DEFAULT_FORCEFIELD
    from ..molecule.systems import find

    if system.lower().endswith((".pdb", ".ent")):
        forcefield = forcefield or list(DEFAULT_FORCEFIELD)
        molecule = Molecule.from_pdb(system, forcefield)
        _say(f"{system} with {' '.join(forcefield)}")
        return molecule, None
    found = find(system)
    if found.toy is None:
        return found.molecule(), None
    return found.energy(), {"name": found.toy, "parameters": dict(found.parameters)}


def _generator(path: Path) -> tuple[BoltzmannGenerator, Path]:
    """The generator of a run folder, a file or a bundled system, and the folder to write into."""
    from ..energies import toys
    from ..generator import BoltzmannGenerator

    if not path.exists():
        return BoltzmannGenerator.load(path), Path()
    folder = path if path.is_dir() else path.parent
    file = folder / "run.json"
    run = json.loads(file.read_text()) if file.exists() else {"toy": None}
    if run["toy"] is None:
        return BoltzmannGenerator.load(path), folder
    target = toys.load(run["toy"]["name"], **run["toy"]["parameters"])
    if run["temperature"] is not None:
        target = target.at(run["temperature"])
    return BoltzmannGenerator.load(path, target=target), folder


def _described(options: argparse.Namespace, generator: BoltzmannGenerator) -> str:
    """What is about to be trained."""
    molecule = generator.molecule
    if molecule is None:
        return f"{options.system}: {generator.target.event_shape.numel()} dimensions at kT = {generator.temperature:g}"
    return f"{molecule.name}: {molecule.n_atoms} atoms at {generator.temperature:g} K"


def _trained(history: Any) -> str:
    rounds = history.rounds
    ess = f", effective samples {100 * rounds[-1].ess:.1f} % of the last buffer" if rounds else ""
    total = history.energy + history.gradient
    return f"trained {history.seconds:.0f} s ({history.compiled}), {total:.3g} energy evaluations{ess}"


def _show(options: argparse.Namespace, results: dict[str, Any], verdict: Verdict, *, reference: dict[str, Any]) -> None:
    """The results: JSON if asked for, else a table, with the reasons against it if there are any."""
    if options.json:
        print(json.dumps(results, indent=2))
        return
    print(f"\n{results['system'] or 'samples'}: {results['n']} draws, effective {results['ess']:.0f} ", end="")
    k = "not known" if results["pareto_k"] is None else f"{results['pareto_k']:.2f}"
    print(f"({100 * results['ess_fraction']:.1f} %), Pareto k {k}, verdict {results['verdict']}")
    for name, entry in results["estimates"].items():
        known = f"   (reference {_number(reference[name])})" if name in reference else ""
        print(f"  {name:<32} {_number(entry)} {entry['unit']}{known}".rstrip())
    if verdict.status == "red":
        print(f"\n{verdict}")


def _number(entry: Mapping[str, Any]) -> str:
    """value ± error; what is not finite is None in the results."""
    value, error = entry["value"], entry["standard_error"]
    return "not known" if value is None else f"{value:.4f} ± {'not known' if error is None else f'{error:.4f}'}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
