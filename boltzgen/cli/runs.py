"""Commands on a training and its folder: a configuration, the training, going on with it, and draws from it."""

from __future__ import annotations

import argparse
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from ..files import exclusive, require_writable, write_atomically
from ..processes import ranks
from .launching import limit_threads
from .origins import origin, sha256
from .printing import goes_on, print_json, print_results, say
from .targets import target_of
from .trajectories import load_frames

if TYPE_CHECKING:
    from ..generator import BoltzmannGenerator
    from ..molecule import Molecule
    from ..molecule.systems import System
    from ..reporting.verdict import Status
    from ..training.history import History
    from .settings import Settings

__all__ = ["about_training", "cost", "init", "resume", "sample", "settings_of", "train", "trained"]


_ANEW = ("threads", "device")
"""what a training that goes on may be told otherwise: where it runs."""


def init(options: argparse.Namespace) -> None:
    """Writes a commented configuration for `boltzgen train --config`."""
    from ..molecule import Molecule
    from .settings import Settings

    target = target_of(options.system, None)
    temperature = target.default_temperature if isinstance(target, Molecule) else target.temperature
    out = Path(options.out or f"{target.name}.toml")
    if out.exists():
        raise InputError(f"{out} must not exist yet; got one that does: name another with --out, or remove it")
    try:
        written = Settings.template(options.system, temperature).encode()
    except UnicodeEncodeError:  # a path may hold bytes that are no text; TOML may not
        raise InputError(
            f"the system must have a name that is UTF-8 to stand in a configuration; got {options.system!r}: rename "
            "it, or train it without a file"
        ) from None
    write_atomically(out, written)
    say(f"written: {out}; next: boltzgen train --config {shlex.quote(str(out))} --out run")
    if options.json:
        print_json({"written": str(out)})


def train(options: argparse.Namespace) -> None:
    """Trains a generator in a run folder, or goes on training there."""
    _train(settings_of(options), Path(options.out), options)


def resume(options: argparse.Namespace) -> None:
    """Goes on with a training that was interrupted, as it was told when it began."""
    _train(settings_of(options), Path(options.run_folder), options)


def settings_of(options: argparse.Namespace) -> Settings:
    """What a command that trains is told: by its options, by the run folder it goes on in, or by being the demo."""
    from .settings import Settings

    if "run_folder" in options:
        from ..run_folder import RunFolder

        folder = RunFolder(options.run_folder)
        told = Settings.recalled(folder.read_own().get("settings"), str(folder.record))
        anew = {name: given for name in _ANEW if (given := getattr(options, name)) is not None}
        return Settings.recalled(told.plain() | anew, "the command line") if anew else told
    if "config" in options:
        return Settings.of(options)
    return Settings(system="alanine_dipeptide", minutes=options.minutes, seed=options.seed, device=str(options.device))


def sample(options: argparse.Namespace) -> Status | None:
    """Draws from a trained generator and keeps the weighted ensemble; draws already there are not made again."""
    from ..generator import BoltzmannGenerator

    path = Path(options.generator)
    folder = (path if path.is_dir() else path.parent) if path.exists() else Path()
    part, parts = options.shard
    name = "samples.npz" if parts == 1 else f"samples-{part}-of-{parts}.npz"
    out = Path(options.out) if options.out else folder / name
    require_writable(out)
    generator = BoltzmannGenerator.load(path).to(options.device)
    with ExitStack() as held:
        ranks().first(lambda: held.enter_context(exclusive(out.parent, file=out.name)))
        return _sampled(options, generator, path, out)


def _sampled(options: argparse.Namespace, generator: BoltzmannGenerator, path: Path, out: Path) -> Status | None:
    """Draws into a file that is this process's alone."""
    from .. import reporting
    from ..sampling import Samples
    from ..sampling.extension import extend, shard

    part, parts = options.shard
    there = Samples.load(out) if out.exists() and not options.overwrite else None
    if there is not None:
        say(f"{out} holds {len(there)} draws already")
    first, end = shard(options.n, part, parts)
    say(f"interrupt it at any time; it goes on with: {goes_on(options)}")
    samples = extend(
        there,
        generator.here,
        generator.target,
        end,
        first=first,
        seed=generator.seed if options.seed is None else options.seed,
        keep=lambda some: some.save(out) if ranks().leads else None,
        progress=True,
    )
    if not ranks().leads:
        return None
    if there is None or len(samples) > len(there):
        samples.save(out)
    verdict = reporting.judge(samples)
    file = _file(path)
    drawn = {"seed": samples.seed, "generator": {"file": file.name, "sha256": sha256(file)}}
    results = reporting.results(samples, **cost(generator.history, len(samples)))
    print_results(options, results | drawn | {"command": goes_on(options)}, verdict)
    whole_run = path.is_dir() and out == path / "samples.npz"
    following = f"boltzgen report {shlex.quote(str(path if whole_run else out))}"
    if parts > 1:
        every = f"{shlex.quote(str(out.parent))}/samples-*-of-{parts}.npz"
        if options.out is not None:
            every = f"{shlex.quote(str(out))} THE_OTHER_PARTS"
        following = f"boltzgen merge {every} --out {shlex.quote(str(out.with_name('samples.npz')))}"
    say(f"written: {out}; next: {following}")
    return verdict.status


def cost(history: History | None, draws: int) -> dict[str, Any]:
    """Energy evaluations of a training with so many draws, and its seconds, if it is known."""
    if history is None:
        return {}
    evaluations = {"energy": history.energy + draws, "gradient": history.gradient}
    return {"evaluations": evaluations, "seconds": history.seconds}


def _file(path: Path) -> Path:
    """That of the generator of a run folder or a bundled system, or the one that is named."""
    from ..molecule.systems import find

    return path / "generator.pt" if path.is_dir() else path if path.exists() else find(path).folder / "generator.pt"


def trained(history: Any) -> str:
    """What a training came to, in words."""
    rounds = history.rounds
    ess = f", effective samples {100 * rounds[-1].ess:.1f} % of the last buffer" if rounds else ""
    total = history.energy + history.gradient
    return f"trained {history.seconds:.0f} s ({history.compiled}), {total:.3g} energy evaluations{ess}"


def _train(settings: Settings, out: Path, options: argparse.Namespace) -> None:
    limit_threads(settings.threads)
    from ..generator import BoltzmannGenerator

    target = target_of(settings.system, settings.forcefield)
    generator = BoltzmannGenerator(
        target, temperature=settings.temperature, seed=settings.seed, hold=settings.hold or ()
    ).to(settings.device)
    say(_described(target.name, generator))
    data = None
    if settings.data is not None:
        strict, molecule = options.strict, generator.molecule
        data = load_frames(settings.data, settings.weights, molecule, seed=settings.seed, strict=strict)
        say(f"starts from {len(data)} frames of {', '.join(settings.data)}")

    def begun() -> None:
        command = goes_on(options, None if "run_folder" in options else out)
        say(f"interrupt it at any time; it goes on with: {command}")

    about = about_training(settings, target, generator)
    compile: Literal["auto", "never"] = "auto" if settings.compile else "never"
    history = generator.train(
        run_dir=out,
        minutes=settings.minutes,
        steps=settings.steps,
        data=data,
        about=about,
        begun=begun,
        compile=compile,
    )
    say(trained(history))
    if options.json:
        print_json({"run": str(out), "evaluations": history.evaluations, "seconds": history.seconds})
    say(f"next: boltzgen sample {shlex.quote(str(out))}")


def about_training(settings: Settings, target: Molecule | System, generator: BoltzmannGenerator) -> dict[str, Any]:
    """What run.json keeps of a training; of several processes one writes it."""
    if not ranks().leads:
        return {}
    molecule = generator.molecule
    return origin(
        settings.plain(),
        target,
        {"temperature": generator.temperature, "device": str(next(generator.flow.parameters()).device)},
        {
            "molecule": None if molecule is None else molecule.fingerprint,
            "generator": generator.fingerprint,
        },
    )


def _described(name: str, generator: BoltzmannGenerator) -> str:
    """What is about to be trained."""
    molecule = generator.molecule
    if molecule is None:
        return f"{name}: {generator.target.event_shape.numel()} dimensions at kT = {generator.temperature:g}"
    return f"{name}: {molecule.n_atoms} atoms at {generator.temperature:g} K"
