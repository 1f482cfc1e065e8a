"""What each command does: a few calls of the library, and printing."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, EnergyError, InputError
from ..files import require_writable
from ..processes import ranks
from .printing import goes_on, in_a_line, print_json, print_results, say
from .runs import about_training, cost, settings_of, trained
from .targets import target_of

if TYPE_CHECKING:
    from ..generator import BoltzmannGenerator
    from ..reporting.verdict import Status
    from ..sampling import Samples

__all__ = ["check", "demo", "estimate", "report", "systems"]

_REMEMBERED = ("system", "settings", "seed", "resolved", "fingerprint", "sha256")
"""of what run.json says, for a report."""
_ENOUGH = 4000
"""configurations of a reference that are weighed."""


def demo(options: argparse.Namespace) -> Status | None:
    """Alanine dipeptide from its PDB file to free energies, pictures and results.json."""
    from .. import reporting
    from ..generator import BoltzmannGenerator
    from ..molecule import Molecule

    begin = time.monotonic()
    out = Path(options.out)
    molecule = Molecule.load("alanine_dipeptide")
    generator = BoltzmannGenerator(molecule, seed=options.seed).to(options.device)
    say(f"{molecule.name}: {molecule.n_atoms} atoms at {generator.temperature:g} K, from the energy alone")
    say(f"interrupt it at any time; it goes on with: {goes_on(options)}")
    settings = settings_of(options)
    about = about_training(settings, target_of(molecule.name, None), generator)
    history = generator.train(run_dir=out / "run", minutes=options.minutes, about=about)
    say(trained(history))
    samples = generator.sample(options.n, seed=(options.seed + 1) % 2**63, progress=True)
    bundled = BoltzmannGenerator.load(molecule.name).to(options.device)
    known = bundled.sample(options.n, seed=(options.seed + 2) % 2**63, progress=True)
    if not ranks().leads:
        return None
    results = reporting.write_report(
        samples,
        out / "report.html",
        system=molecule.name,
        **cost(history, len(samples)) | {"seconds": time.monotonic() - begin},
        history=history,
        others=[known],
        reference=known,
        reference_values=molecule.reference,
        commands=[f"boltzgen demo --minutes {options.minutes:g} --seed {options.seed} -n {options.n}"],
        forces=_forces(generator),
        provenance=_of_training(out / "run", samples, generator).get("provenance"),
    )
    reporting.save_figure(reporting.ramachandran(samples), out / "ramachandran.png")
    reporting.save_figure(reporting.weight_histogram(samples), out / "weights.png")
    verdict = reporting.judge(samples, others=[known])
    print_results(options, results, verdict, molecule.reference)
    if not options.json:
        print(f"\nthe generator that comes with boltzgen: {in_a_line(reporting.results(known))}")
    say(f"written: {out}/report.html, results.json, ramachandran.png, weights.png, run/")
    return verdict.status


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
    from ..reporting.plain import as_json

    target = target_of(options.system, options.forcefield)
    molecule = target if isinstance(target, Molecule) else target.molecule() if target.toy is None else None
    if molecule is None:
        raise InputError(f"{options.system} must be a molecule to be checked; got a toy: train it at once")
    found = reporting.examine(molecule, options.temperature, hold=options.hold or (), device=options.device)
    if options.json:
        plain = {
            name: getattr(found, name) for name in ("forces", "zmatrix", "stereocentres", "rotors", "angles", "speed")
        }
        checks = [{"name": one.name, "value": one.value, "status": one.status} for one in found.checks]
        plain |= {"system": molecule.name, "status": found.status, "checks": checks, "minutes": found.minutes}
        print_json(as_json(plain))
    else:
        print(found)
    if found.status == "red":
        failed = [one for one in found.checks if one.status == "red"]
        remedies = "; ".join(dict.fromkeys(one.next_step for one in failed))
        raise EnergyError(
            f"{molecule.name} must pass its checks; got red for {', '.join(one.name for one in failed)}: {remedies}"
        )
    given = {name: getattr(options, name) for name in ("forcefield", "hold")}
    more = [word for name, words in given.items() if words for word in (f"--{name}", *words)]
    say(f"next: {shlex.join(['boltzgen', 'train', options.system, *more, '--out', 'run'])}")


def estimate(options: argparse.Namespace) -> Status:
    """Estimates from a saved ensemble."""
    from .. import reporting, reweighting
    from ..reporting.estimates import of_samples
    from ..sampling import Samples

    page = Path(options.out) / "report.html" if options.out else None
    if page is not None:
        require_writable(page)
    samples = Samples.load(options.samples)
    angles = {name: samples.torsion(name) for name in options.torsion}
    estimates = reporting.default_estimates(samples)
    for name, angle in angles.items():
        difference = reweighting.free_energy_difference(samples.log_w, angle < 0, angle > 0)
        estimates[f"free_energy_difference_{name}"] = (of_samples(samples, difference), "kT")
    others = [Samples.load(path) for path in options.others]
    if page is not None:
        results = reporting.write_report(samples, page, estimates=estimates, others=others)
        say(f"written: {page}, results.json")
    else:
        results = reporting.results(samples, estimates=estimates, others=others)
    verdict = reporting.judge(samples, others=others)
    print_results(options, results, verdict)
    return verdict.status


def report(options: argparse.Namespace) -> Status:
    """A page for others, from a run folder or a file of draws."""
    from .. import reporting
    from ..sampling import Samples

    path = Path(options.draws)
    file = path / "samples.npz" if path.is_dir() else path
    page = Path(options.out) if options.out else file.with_name("report.html")
    require_writable(options.out or page)
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out must name a page, .html; got {page}: write e.g. --out {page.with_suffix('.html')}")
    if path.is_dir() and not file.exists():
        raise InputError(f"{path} must hold draws; got none: boltzgen sample {shlex.quote(str(path))}")
    if options.figures:
        require_writable(Path(options.figures) / "figure")
    samples = Samples.load(file)
    others = [Samples.load(other) for other in options.others]
    reference = Samples.load(options.reference) if options.reference else None
    generator = _maker(path, samples)
    for name, other in zip(options.others, others, strict=True):
        if generator is not None and generator.drew(other):
            raise InputError(
                f"--others must be draws of trainings from other seeds; got {name}, drawn from the same generator: "
                "train another with `boltzgen train --seed`"
            )
    known = None if reference is None or generator is None else _known(generator, reference)
    if reference is not None and generator is None:
        say(f"coverage is not tested: only the run folder of these draws can weigh {options.reference}")
    facts = _of_training(path, samples, generator) if path.is_dir() else _of_generator(generator, samples)
    if generator is not None and not path.is_dir() and samples.seed is not None and not samples.first:
        draws = shlex.quote(str(file))
        again = f"boltzgen sample {samples.system} -n {len(samples)} --seed {samples.seed} --out {draws}"
        facts["commands"] = [again, f"boltzgen report {draws}"]
    results = reporting.write_report(
        samples,
        page,
        others=others,
        reference=reference,
        reference_log_w=known,
        figures=options.figures,
        **facts,
    )
    verdict = reporting.judge(samples, reference_log_w=known, others=others)
    print_results(options, results, verdict)
    say(f"written: {page}, results.json")
    return verdict.status


def _maker(folder: Path, samples: Samples) -> BoltzmannGenerator | None:
    """The generator of a run folder, or the one that comes with the system, if it made these draws as it stands."""
    from ..generator import BoltzmannGenerator
    from ..molecule.systems import available
    from ..run_folder import RunFolder

    if not folder.is_dir():
        bundled = {system.name: system.folder / "generator.pt" for system in available()}
        file = bundled.get(samples.system)
        generator = BoltzmannGenerator.load(file) if file is not None and file.exists() else None
        return generator if generator is not None and generator.drew(samples) else None
    file = RunFolder(folder).generator
    if not file.exists():
        return None
    try:
        generator = BoltzmannGenerator.load(file)
    except CheckpointError as error:
        say(f"the draws are reported without their generator: {error}")
        return None
    if generator.drew(samples):
        return generator
    say(f"{file} was trained further since these draws, which are reported without it: boltzgen sample makes new ones")
    return None


def _known(generator: BoltzmannGenerator, reference: Samples) -> Samples:
    """Configurations that follow the target, with the weights this generator gives: some thousand are enough."""
    equal = bool((reference.log_w == reference.log_w[0]).all())
    some = reference[:: -(-len(reference) // _ENOUGH)] if equal else reference.resample(_ENOUGH, seed=0)
    return generator.weigh(some.x if some.cartesian is None else some.positions())


def _of_training(folder: Path, samples: Samples, generator: BoltzmannGenerator | None) -> dict[str, Any]:
    """What a run folder knows of the training that came before the draws, for their report."""
    from ..run_folder import RunFolder

    run, facts = RunFolder(folder), dict[str, Any]()
    if run.record.exists():
        told = run.read()
        start = told["starts"][-1] if told["starts"] else {}
        facts["commands"] = list(dict.fromkeys(one["command"] for one in told["starts"]))
        if facts["commands"] and samples.seed is not None:
            where = shlex.quote(str(folder))
            facts["commands"] += [f"boltzgen sample {where} -n {len(samples)} --seed {samples.seed}"]
            facts["commands"] += [f"boltzgen report {where}"]
        facts["provenance"] = {key: told[key] for key in _REMEMBERED if key in told} | start
    made = _of_generator(generator, samples)
    provenance = facts.get("provenance", {}) | made.get("provenance", {})
    return facts | made | ({"provenance": provenance} if provenance else {})


def _of_generator(generator: BoltzmannGenerator | None, samples: Samples) -> dict[str, Any]:
    """What a generator knows of its training and its target, for the report of its draws."""
    if generator is None:
        return {}
    molecule, history, facts = generator.molecule, generator.history, dict[str, Any]()
    facts["forces"] = _forces(generator)
    if molecule is not None and samples.temperature == molecule.default_temperature:
        facts["reference_values"] = molecule.reference
    if history is not None:
        facts |= {"history": history, "evaluations": cost(history, len(samples))["evaluations"]}
        facts["provenance"] = {"seconds": round(history.seconds, 1)}
    return facts


def _forces(generator: BoltzmannGenerator) -> str:
    """Which force is evaluated where, and why, of a molecule."""
    describe = getattr(getattr(generator.target, "inner", None), "describe", None)
    return "" if describe is None else str(describe())
