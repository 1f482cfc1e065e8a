"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..processes import ranks

if TYPE_CHECKING:
    from ..reporting import Verdict

__all__ = ["goes_on", "in_a_line", "number", "print_json", "print_results", "say"]


def say(line: str) -> None:
    """Tells the user, not the program that reads the results; of several processes one does."""
    if not ranks().leads:
        return
    print(line, file=sys.stderr, flush=True)


def goes_on(options: argparse.Namespace, run: Path | None = None) -> str:
    """The command that goes on with what this one began, in as many processes.

    Arguments:
        options: of this command, its words among them.
        run: run folder of a training that began.
    """
    words = ["resume", str(run)] if run is not None else [word for word in options.words if word != "--overwrite"]
    size, here = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    company = ["--processes", size] if size == here != "1" else []  # of several machines torchrun's own words do
    return shlex.join(["boltzgen", *words, *company])


def print_json(results: Any) -> None:
    """Results for other programs; of several processes one gives them."""
    if not ranks().leads:
        return
    print(json.dumps(results, indent=2, allow_nan=False))


def print_results(
    options: argparse.Namespace, results: dict[str, Any], verdict: Verdict, reference: Mapping[str, Any] | None = None
) -> None:
    """The results: JSON if asked for, without what only pictures show, else a table, with the reasons against it."""
    if options.json:
        print_json({key: value for key, value in results.items() if key != "pictures"})
        return
    known = reference or {}
    n, ess = results["n"], results["ess"]
    print(f"\n{results['system'] or 'samples'}: {n} draw{'s' * (n != 1)}, effective {ess:.0f} ", end="")
    k = next(one.shown for one in verdict.checks if one.name == "Pareto k")
    print(f"({100 * results['ess_fraction']:.1f} %), Pareto k {k}, verdict {results['verdict']}")
    for name, entry in results["estimates"].items():
        beside = f"   (reference {number(known[name])})" if name in known else ""
        doubt = "" if entry["reliable"] else "   unreliable"
        value = f"{number(entry)} {entry['unit']}".rstrip()
        print(f"  {name:<32} {value}{doubt}{beside}")
    if verdict.status != "red":  # where it is, that is the reason
        for why in dict.fromkeys(entry["why"] for entry in results["estimates"].values() if entry["why"]):
            print(f"  unreliable: {why}")
    if verdict.status == "red":
        print(f"\n{verdict}")


def in_a_line(results: Mapping[str, Any]) -> str:
    """What draws are worth, and what they say of the same quantities as others'."""
    found = [f"{name} {number(entry)} {entry['unit']}".rstrip() for name, entry in results["estimates"].items()]
    return ", ".join([f"effective {results['ess']:.0f} ({100 * results['ess_fraction']:.1f} %)", *found])


def number(entry: Mapping[str, Any]) -> str:
    """value ± error, as in a report; what is not finite is None in the results."""
    from ..reporting.tables import plus_minus

    return plus_minus(entry["value"], entry["standard_error"])
