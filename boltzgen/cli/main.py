"""`boltzgen`: the commands, their options, and the exit codes."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import (
    BoltzgenError,
    CheckpointError,
    ConfigurationError,
    EnergyError,
    InputError,
    RankError,
    UnreliableEstimateWarning,
)
from ..processes import distributed, processors
from . import commands, ensembles, runs, simulation
from .installation import doctor
from .launching import AUTO, fastest, launch, launched, limit_threads
from .printing import goes_on
from .usage import Parser
from .values import count, part, positive, process_count, seed, thread_count

__all__ = ["main"]

LOST, WRONG_USAGE, BAD_INPUT, NUMERICAL_FAILURE, NOT_TRUSTWORTHY = 1, 2, 3, 4, 5
INTERRUPTED, GONE, TERMINATED = 130, 141, 143  # as shells count: 128 + the signal


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code.

    0 fine, 1 a process of several was lost, 2 wrong usage, 3 bad input, 4 numerical failure, 5 not trustworthy under
    --strict, 130 and 143 interrupted, 141 the reader of the output has left.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ± or ⟨⟩ shows "?"
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else list(arguments))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to say, nobody reads
        return GONE


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    options.words = arguments
    try:
        with warnings.catch_warnings(), _terminated(), _within(getattr(options, "max_time", None)):
            warnings.simplefilter("ignore", UnreliableEstimateWarning)  # the verdict that is printed says it
            warnings.showwarning = _note
            if getattr(options, "threads", None) is not None:
                limit_threads(options.threads)
            if options.processes != 1:
                return _in_company(options, arguments)
            if launched() and not options.shared:
                raise ConfigurationError(
                    f"{arguments[0]} must run in one process; got {os.environ['WORLD_SIZE']}: start it without torchrun"
                )
            with distributed():
                verdict = options.run(options)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != TERMINATED:
            raise
        if options.goes_on and _leads():
            begun = (
                Path(options.out) if options.run is runs.train and (Path(options.out) / "run.json").exists() else None
            )
            print(f"interrupted; go on with: {goes_on(options, begun)}", file=sys.stderr)
        return INTERRUPTED if isinstance(stop, KeyboardInterrupt) else TERMINATED
    except BoltzgenError as error:
        where = "checkpoint: " if isinstance(error, CheckpointError) else ""
        if _leads():
            print(f"boltzgen: {where}{error}", file=sys.stderr)
        elif not isinstance(error, InputError):  # what is wrong with the input, every process finds
            print(f"boltzgen, process {os.environ['RANK']}: {where}{error}", file=sys.stderr)
        return next(code for kind, code in _CODES.items() if isinstance(error, kind))
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"boltzgen: {_in_words(error)}", file=sys.stderr)
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        print("boltzgen: the work must fit into memory; got more of it than that: ask for less", file=sys.stderr)
        return BAD_INPUT
    return NOT_TRUSTWORTHY if verdict == "red" and options.strict else 0


_CODES = {ConfigurationError: WRONG_USAGE, EnergyError: NUMERICAL_FAILURE, RankError: LOST, BoltzgenError: BAD_INPUT}

_SYSTEM = (
    "name of a system, folder with a system.toml, PDB file, or .prmtop/.parm7 or .top with .inpcrd/.rst7 or .gro beside"
)
_FORCEFIELD = (
    "OpenMM's, for a PDB file (default: amber14-all.xml implicit/obc2.xml); for a .prmtop its solvent, OBC2 etc."
)


def _leads() -> bool:
    """Whether this is the process that speaks, of several."""
    return os.environ.get("RANK", "0") == "0"


def _in_company(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs the command in several processes."""
    if launched():
        raise ConfigurationError("--processes must not be given under torchrun; got both: drop one of them")
    processes = options.processes
    if processes == AUTO:  # draws do not wait for each other: all processors are the fastest
        drawing = options.run is runs.sample
        processes = max(1, processors() // options.threads) if drawing else fastest(runs.settings_of(options))
    place = next(i for i, word in enumerate(arguments) if word.startswith("--processes"))
    rest = [*arguments[:place], *arguments[place + (1 if "=" in arguments[place] else 2) :]]
    return main(rest) if processes == 1 else launch(rest, processes)


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM as an exception, so that what is half done is tidied up; SIGUSR1 ends nothing, where nothing hears it.

    What is raised while Python collects garbage goes no further than there: such a signal is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED)), sys.unraisablehook

    def again(lost: sys.UnraisableHookArgs) -> None:
        number = {SystemExit: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}.get(lost.exc_type)
        if number is None:
            hook(lost)
        else:
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = again
    unheard = signal.signal(signal.SIGUSR1, lambda *_: None) if hasattr(signal, "SIGUSR1") else None
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)
        if unheard is not None:
            signal.signal(signal.SIGUSR1, unheard)


@contextmanager
def _within(minutes: float | None) -> Iterator[None]:
    """Terminates this process, as a queue would, once so many minutes have passed."""
    if minutes is None:
        yield
        return
    timer = threading.Timer(min(60.0 * minutes, threading.TIMEOUT_MAX), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _note(message: Warning | str, *_: object, **__: object) -> None:
    """A warning in a line, without the place in the code that a user does not know."""
    print(f"note: {message}", file=sys.stderr, flush=True)


def _in_words(error: OSError) -> str:
    if error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror}): check the path and who may read and write there"
    if error.errno is not None and error.strerror != os.strerror(error.errno):  # our own, which names the remedy
        return error.strerror or str(error)
    return (
        f"the system must grant what the command needs; got {error.strerror or error}: look at its disk, memory and "
        "limits (df -h, free -h, ulimit -a), then give the command again"
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="boltzgen",
        description="Independent equilibrium samples of a molecule, with weights and honest error bars.",
        epilog="Start with: boltzgen demo",
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: object, summary: str, example: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name, help=summary, description=f"{summary}.", epilog=f"Example: {example}", allow_abbrev=False
        )
        sub.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
        sub.set_defaults(run=run, strict=False, goes_on=False, processes=1, shared=False)
        return sub

    def judged(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--strict", action="store_true", help="exit with code 5 if the verdict is red")

    def threaded(
        sub: argparse.ArgumentParser,
        default: int | None = 1,
        usual: str = "1, the fastest for molecules of tens of atoms",
    ) -> None:
        sub.add_argument(
            "--threads", type=thread_count, default=default, metavar="N",
            help=f"threads of one process (default: {usual})",
        )  # fmt: skip

    def placed(sub: argparse.ArgumentParser, default: str | None = "cpu", usual: str = "cpu") -> None:
        sub.add_argument(
            "--device", default=default, metavar="D",
            help=f"where to compute: cpu, cuda, or auto for a GPU if there is one (default: {usual})",
        )  # fmt: skip

    def held(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--hold", nargs="+", metavar="TORSION", default=None,
            help="torsions to keep within 90 degrees of the structure's, such as omega of a peptide bond",
        )  # fmt: skip

    def shared(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--processes", type=process_count, default=1, metavar="N",
            help="processes of this machine that share the work; auto: as many as are fastest (default: 1)",
        )  # fmt: skip
        sub.set_defaults(shared=True)

    def going_on(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--max-time", type=positive, default=None, metavar="M",
            help="minutes after which to stop with all work saved and say how to go on, exit code 143: a few less than "
            "the limit of a batch job",
        )  # fmt: skip
        sub.set_defaults(goes_on=True)

    demo = command("demo", commands.demo, "train on alanine dipeptide and report", "boltzgen demo --out demo")
    demo.add_argument("--out", default="demo", metavar="DIR", help="folder for all that is written (default: demo)")
    demo.add_argument("--minutes", type=positive, default=10.0, metavar="M", help="time to train (default: 10)")
    demo.add_argument(
        "--seed", type=seed, default=1,
        help="of the network, the noise and the draws (default: 1; the generator beside it was trained from 0)",
    )  # fmt: skip
    going_on(demo)
    demo.add_argument("-n", type=count, default=100_000, metavar="N", help="number of draws (default: 100000)")
    threaded(demo)
    placed(demo)
    shared(demo)
    judged(demo)

    command("systems", commands.systems, "list the systems that come with boltzgen", "boltzgen systems")

    check = command("check", commands.check, "build, try out and time everything", "boltzgen check mine.pdb")
    check.add_argument("system", help=_SYSTEM)
    check.add_argument("--temperature", type=positive, default=None, metavar="T", help="K (default: the system's own)")
    check.add_argument("--forcefield", nargs="+", metavar="XML", default=None, help=_FORCEFIELD)
    held(check)
    threaded(check)
    placed(check)

    simulate = command(
        "simulate", simulation.simulate, "replica exchange, to compare with", "boltzgen simulate mine.pdb --out md"
    )
    simulate.add_argument("system", help=_SYSTEM)
    simulate.add_argument("--out", required=True, metavar="DIR", help="folder; given again, the simulation goes on")
    simulate.add_argument(
        "-n", type=count, default=10_000, metavar="N",
        help="number of frames in the end: those already there are not made again (default: 10000)",
    )  # fmt: skip
    simulate.add_argument("--temperature", type=positive, default=None, metavar="T", help="K (default: the system's)")
    simulate.add_argument(
        "--hot", type=positive, default=None, metavar="T",
        help="highest temperature of the ladder; the lowest again for none (default: 1000)",
    )  # fmt: skip
    simulate.add_argument("--walkers", type=count, default=16, metavar="W", help="independent ladders (default: 16)")
    simulate.add_argument("--forcefield", nargs="+", metavar="XML", default=None, help=_FORCEFIELD)
    simulate.add_argument("--seed", type=seed, default=0, help="of all random numbers (default: 0)")
    going_on(simulate)
    threaded(simulate)
    placed(simulate)

    init = command("init", runs.init, "write a commented configuration for train", "boltzgen init mine.pdb")
    init.add_argument("system", help=_SYSTEM)
    init.add_argument("--out", default=None, metavar="FILE", help="(default: NAME.toml)")

    train = command("train", runs.train, "train a generator", "boltzgen train double_well --out run")
    train.add_argument("system", nargs="?", help=_SYSTEM)
    train.add_argument(
        "--config", default=None, metavar="FILE", help="what `boltzgen init` wrote; options here go first"
    )
    train.add_argument("--out", required=True, metavar="DIR", help="run folder; given again, training goes on")
    train.add_argument(
        "--data", nargs="+", metavar="FILE", default=None,
        help="frames of a simulation to start from, in any format that mdtraj reads, or .npz of boltzgen",
    )  # fmt: skip
    train.add_argument("--weights", default=None, metavar="FILE", help="text file with a weight per frame of --data")
    train.add_argument("--strict", action="store_true", help="refuse files of --data that are cut short")
    train.add_argument("--minutes", type=positive, default=None, metavar="M", help="time to train (default: 10)")
    train.add_argument(
        "--steps", type=count, default=None, metavar="K", help="gradient steps to train, in place of minutes"
    )
    train.add_argument("--temperature", type=positive, default=None, metavar="T", help="K (default: the system's own)")
    train.add_argument("--forcefield", nargs="+", metavar="XML", default=None, help=_FORCEFIELD)
    held(train)
    train.add_argument("--seed", type=seed, default=None, help="of the network and the noise (default: 0)")
    train.add_argument(
        "--no-compile", dest="compile", action="store_false", default=None, help="do not use torch.compile"
    )
    going_on(train)
    threaded(train, None)
    placed(train, None)
    shared(train)

    resume = command("resume", runs.resume, "go on with a training", "boltzgen resume run")
    resume.add_argument("run_folder", metavar="run", help="run folder of `boltzgen train`")
    going_on(resume)
    threaded(resume, None, "as before")
    placed(resume, None, "as before")
    shared(resume)

    sample = command("sample", runs.sample, "draw from a trained generator", "boltzgen sample run -n 100000")
    sample.add_argument("generator", help="run folder of `boltzgen train`, or a saved generator of a molecule")
    sample.add_argument(
        "-n", type=count, default=100_000, metavar="N",
        help="number of draws in the end: those already there are not made again (default: 100000)",
    )  # fmt: skip
    sample.add_argument("--seed", type=seed, default=None, help="of the draws (default: that of the training)")
    sample.add_argument("--out", default=None, metavar="FILE", help="(default: samples.npz in the run folder)")
    sample.add_argument("--overwrite", action="store_true", help="put the draws in place of others")
    going_on(sample)
    threaded(sample)
    placed(sample)
    shared(sample)
    sample.add_argument(
        "--shard", type=part, default=(0, 1), metavar="I/N",
        help="draw part I of N only, I from 0 on, for job arrays; `boltzgen merge` puts the parts together",
    )  # fmt: skip
    judged(sample)

    estimate = command(
        "estimate",
        commands.estimate,
        "averages and free energies of samples",
        "boltzgen estimate run --torsion phi",
    )
    estimate.add_argument("samples", help="weighted ensemble written by `boltzgen sample`, or the run folder")
    estimate.add_argument("--torsion", nargs="+", default=[], metavar="NAME", help="ΔF from below to above 0 for these")
    estimate.add_argument(
        "--others", nargs="+", default=[], metavar="FILE", help="ensembles of generators trained from other seeds"
    )
    estimate.add_argument("--out", default=None, metavar="DIR", help="folder for a report and results.json")
    judged(estimate)

    report = command("report", commands.report, "a page to show to others", "boltzgen report run --strict")
    report.add_argument("draws", help="run folder with draws in it, or a weighted ensemble")
    report.add_argument("--others", nargs="+", default=[], metavar="FILE", help="ensembles of other seeds")
    report.add_argument("--out", default=None, metavar="FILE", help="(default: report.html beside the draws)")
    report.add_argument("--reference", default=None, metavar="FILE", help="ensemble to compare with, of a simulation")
    report.add_argument("--figures", default=None, metavar="DIR", help="folder for the pictures as SVG and PNG files")
    judged(report)

    reweight = command(
        "reweight",
        ensembles.reweight,
        "energy, free energy and heat capacity at other temperatures",
        "boltzgen reweight run --temperature 310 320",
    )
    reweight.add_argument("samples", help="weighted ensemble written by `boltzgen sample`, or the run folder")
    reweight.add_argument("--temperature", type=positive, nargs="+", required=True, metavar="T", help="K")

    export = command("export", ensembles.export, "frames for other programs", "boltzgen export run frames.dcd -n 1000")
    export.add_argument("samples", help="weighted ensemble written by `boltzgen sample`, or the run folder")
    export.add_argument("out", help="file to write, in the format its ending says: .dcd, .pdb, .xtc, .h5, ...")
    export.add_argument("-n", type=count, default=1000, metavar="N", help="frames, drawn by weight (default: 1000)")
    export.add_argument(
        "--all", action="store_true", help="every draw instead, the log-weights in OUT.log_w.txt beside"
    )
    export.add_argument("--seed", type=seed, default=0, help="of the choice of frames (default: 0)")
    export.add_argument("--overwrite", action="store_true", help="put the frames in place of a file that is there")

    merge = command("merge", ensembles.merge, "several ensembles as one", "boltzgen merge a.npz b.npz --out both.npz")
    merge.add_argument("samples", nargs="+", help="weighted ensembles of one target")
    merge.add_argument("--out", required=True, metavar="FILE", help="ensemble to write")

    command("doctor", doctor, "versions, platforms, and a self-test", "boltzgen doctor")
    return parser
