"""Commands on ensembles that were drawn already: other temperatures, other formats, several made one."""

from __future__ import annotations

import argparse
import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files import require_writable, write_atomically
from .printing import print_json, say

if TYPE_CHECKING:
    from ..reweighting import Estimate

__all__ = ["export", "merge", "reweight"]

_HDF5 = (".h5", ".hdf5", ".lh5")


def reweight(options: argparse.Namespace) -> None:
    """Energy, free energy and heat capacity at other temperatures, from the draws made for one."""
    from ..reweighting import thermodynamics
    from ..sampling import Samples
    from ..units import kT

    samples = Samples.load(options.samples)
    if samples.potential is None:
        raise InputError(f"{options.samples} must hold a molecule's energies; got a toy's: it has no temperature in K")
    drawn_at = samples.temperature
    curves = thermodynamics(samples.log_w, samples.potential, [drawn_at, *options.temperature], drawn_at=drawn_at)
    unit = kT(drawn_at)
    if not samples.independent:
        say(f"the rows of {options.samples} are correlated: errors below are those of independent draws, and too small")
    rows = [
        {
            "temperature": float(temperature),
            "mean_potential_energy": _entry(curves.mean_energy[k] * unit, "kJ/mol"),
            "free_energy": _entry(curves.free_energy[k] * unit if samples.independent else None, "kJ/mol"),
            "heat_capacity": _entry(curves.heat_capacity[k], "R"),
            "ess": float(curves.ess[k]),
            "reliable": bool(curves.reliable[k]) and samples.independent,
        }
        for k, temperature in enumerate(curves.temperatures)
    ]
    if options.json:
        print_json({"system": samples.system, "drawn_at": drawn_at, "temperatures": rows})
        return
    print(f"{'T/K':>8}  {'<U> kJ/mol':>22}  {'F kJ/mol':>22}  {'C/R':>18}  {'effective':>9}")
    for k in range(len(rows)):
        numbers = (curves.mean_energy[k] * unit, curves.free_energy[k] * unit, curves.heat_capacity[k])
        u, f, c = (str(number).split(" (unreliable")[0] for number in numbers)
        f = f if samples.independent else "not known"  # the weights of such rows are relative: there is no log Z
        doubt = "" if curves.reliable[k] else "  out of reach"
        print(f"{curves.temperatures[k]:8.1f}  {u:>22}  {f:>22}  {c:>18}  {curves.ess[k]:9.0f}{doubt}")


def export(options: argparse.Namespace) -> None:
    """Frames for other programs, in any format that mdtraj writes: some chosen by weight, or all with their weights."""
    from ..sampling import Samples
    from ..sampling.trajectory import write_trajectory

    out, weights = Path(options.out), Path(f"{options.out}.log_w.txt")
    for path in (out, weights) if options.all else (out,):
        require_writable(path)
        if path.exists() and not options.overwrite:
            raise InputError(
                f"{path} must not exist yet; got one that does: name another, or put the frames in its place by "
                "--overwrite"
            )
    if out.suffix in _HDF5 and find_spec("tables") is None:
        raise InputError(
            f"{out.suffix} must be written with the package tables; it is not installed: pip install tables, or write "
            ".dcd"
        )
    samples = Samples.load(options.samples)
    trajectory = samples.to_mdtraj(resample=None if options.all else options.n, seed=options.seed)
    try:
        write_trajectory(trajectory, out)
    except ImportError as error:
        raise InputError(
            f"{out.suffix} needs the package {error.name}; it is not installed: install it, or write .dcd"
        ) from None
    except Exception as error:  # mdtraj raises what it likes
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"{out} must end in a format that mdtraj writes for molecules without a box, such as .dcd, .pdb or .h5; "
            f"got {out.suffix!r}"
        ) from error
    written = {"written": str(out), "n": trajectory.n_frames}
    if options.all:
        lines = "".join(f"{log_w!r}\n" for log_w in samples.log_w.tolist())
        write_atomically(weights, lines.encode())
        written["weights"] = str(weights)
        say(f"written: {out}, {len(samples)} frames as they were drawn; {weights}, the logarithms of their weights")
    else:
        say(f"written: {out}, {options.n} frames of equal weight")
    if options.json:
        print_json(written)


def merge(options: argparse.Namespace) -> None:
    """Several ensembles of one target as one; every weight stays as it is, and parts of one draw become that draw."""
    from ..sampling import Samples

    require_writable(options.out)
    if Path(options.out).exists():
        raise InputError(f"{options.out} must not exist yet; got one that does: name another with --out, or remove it")
    parts = [Samples.load(path) for path in options.samples]
    first, *others = sorted(parts, key=lambda part: (-1 if part.seed is None else part.seed, part.first))
    for other in others:
        first = first + other
    first.save(options.out)
    say(f"written: {options.out}, {len(first)} draws")
    if options.json:
        print_json({"written": options.out, "n": len(first)})


def _entry(estimate: Estimate | None, unit: str) -> dict[str, float | str | None]:
    """As plain data; what is not known, or not finite, the error of what is out of reach, is None."""
    if estimate is None:
        return {"value": None, "standard_error": None, "unit": unit}
    value, error = (x if math.isfinite(x) else None for x in (estimate.value, estimate.standard_error))
    return {"value": value, "standard_error": error, "unit": unit}
