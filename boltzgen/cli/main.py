"""`boltzgen`: the commands, their options, and the exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import BoltzgenError, CheckpointError, EnergyError
from . import commands

__all__ = ["main"]

BAD_INPUT, NUMERICAL_FAILURE, INTERRUPTED = 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code is 0 fine, 2 usage, 3 bad input, 4 numerical failure, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    except EnergyError as error:
        print(f"boltzgen: {error}", file=sys.stderr)
        return NUMERICAL_FAILURE
    except (BoltzgenError, OSError) as error:
        where = "checkpoint: " if isinstance(error, CheckpointError) else ""
        print(f"boltzgen: {where}{error}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="boltzgen",
        description="Independent equilibrium samples of a molecule, with weights and honest error bars.",
        epilog="Start with: boltzgen demo",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: object, summary: str, example: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name, help=summary, description=f"{summary}.", epilog=f"Example: {example}",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        sub.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
        sub.set_defaults(run=run)
        return sub

    demo = command("demo", commands.demo, "train on alanine dipeptide and report", "boltzgen demo --out demo")
    demo.add_argument("--out", default="demo", metavar="DIR", help="folder for the run, the pictures and results.json")
    demo.add_argument("--minutes", type=_positive, default=10.0, help="time to train")
    demo.add_argument("--seed", type=_seed, default=0, help="of the network, the noise and the draws")
    demo.add_argument("-n", type=_count, default=100_000, metavar="N", help="number of draws")

    command("systems", commands.systems, "list the systems that come with boltzgen", "boltzgen systems")

    train = command("train", commands.train, "train a generator", "boltzgen train double_well --out run")
    train.add_argument("system", help="name of a system, or a folder with a system.toml, or a PDB file")
    train.add_argument("--out", required=True, metavar="DIR", help="run folder; given again, training goes on")
    train.add_argument("--minutes", type=_positive, default=10.0, help="time to train")
    train.add_argument("--temperature", type=_positive, default=None, help="K; the system's own if not given")
    train.add_argument(
        "--forcefield", nargs="+", metavar="XML", default=None, help="OpenMM force fields, for a PDB file"
    )
    train.add_argument("--seed", type=_seed, default=0, help="of the network and the noise")
    train.add_argument("--no-compile", action="store_true", help="do not use torch.compile")

    sample = command("sample", commands.sample, "draw from a trained generator", "boltzgen sample run -n 100000")
    sample.add_argument("generator", help="run folder of `boltzgen train`, or a saved generator of a molecule")
    sample.add_argument("-n", type=_count, default=100_000, metavar="N", help="number of draws")
    sample.add_argument("--seed", type=_seed, default=0, help="of the draws")
    sample.add_argument("--out", default=None, metavar="FILE", help="samples.npz in the run folder if not given")

    estimate = command(
        "estimate",
        commands.estimate,
        "averages and free energies of samples",
        "boltzgen estimate run/samples.npz",
    )
    estimate.add_argument("samples", help="weighted ensemble written by `boltzgen sample`")
    estimate.add_argument("--torsion", nargs="+", default=[], metavar="NAME", help="ΔF from below to above 0 for these")
    estimate.add_argument("--out", default=None, metavar="DIR", help="folder for a report and results.json")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive; got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer; got {text}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative; got {text}")
    return value
