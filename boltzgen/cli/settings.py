"""What a training is told, on the command line or in a TOML file, and what its run folder remembers of it."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from ..errors import InputError

__all__ = ["THREADS", "ConfigurationError", "Settings", "limit_threads"]

THREADS = 1024
"""of one process at most: with very many torch crashes."""


class ConfigurationError(InputError):
    """A configuration that is not what it must be: wrong usage, as on the command line."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `boltzgen train` is told.

    Attributes:
        system: name of a system, or path of a folder with a system.toml, or of a PDB file.
        temperature: K; the system's own if None.
        forcefield: OpenMM force fields, for a PDB file.
        data: files of frames to start from, see `load_frames`.
        weights: a text file with the weights of the frames.
        minutes: time to train.
        seed: of the network and the noise.
        compile: whether torch.compile may be used.
        threads: of one process.
        device: "cpu", "cuda", "cuda:1" or "auto".
    """

    system: str
    temperature: float | None = None
    forcefield: list[str] | None = None
    data: list[str] | None = None
    weights: str | None = None
    minutes: float = 10.0
    seed: int = 0
    compile: bool = True
    threads: int = 1
    device: str = "cpu"

    @classmethod
    def read(cls, file: str) -> dict[str, Any]:
        """What a TOML file says.

        Raises:
            ConfigurationError: naming the key that is not what it must be.
        """
        try:
            data = tomllib.loads(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(
                f"--config must name a file that can be read; got {file} ({error.strerror}): check the path"
            ) from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{file} must be TOML; got {error}: correct it") from None
        return cls._checked(data, file)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """The settings of a command: its options, then the file it names, then the defaults.

        Raises:
            ConfigurationError: if the file is not what it must be, or nobody names a system.
        """
        told = {} if options.config is None else cls.read(options.config)
        if options.system is not None and options.system != told.get("system", options.system):
            raise ConfigurationError(
                f"the system must be that of {options.config}, {told['system']}, for which the file was written; got "
                f"{options.system}: leave it out, or write another file with `boltzgen init`"
            )
        told |= {f.name: given for f in fields(cls) if (given := getattr(options, f.name)) is not None}
        if "system" not in told:
            raise ConfigurationError(
                "a training must have a system; got none: name one, or a file made by `boltzgen init` with --config"
            )
        if told.get("weights") is not None and told.get("data") is None:
            raise ConfigurationError("weights must come with the data they weight; got none: name files with --data")
        return cls(**told)

    @classmethod
    def recalled(cls, told: Any, source: str) -> Self:
        """The settings a run folder remembers.

        Raises:
            ConfigurationError: if it does not remember any.
        """
        if not isinstance(told, dict) or told.get("system") is None:
            raise ConfigurationError(
                f"{source} must come from `boltzgen train`; got the folder of another program's training: run that "
                "program again"
            )
        return cls(**cls._checked({key: value for key, value in told.items() if value is not None}, source))

    def plain(self) -> dict[str, Any]:
        """As plain data, from which `recalled` makes them in any working directory."""
        told = asdict(self)
        if self.system.lower().endswith((".pdb", ".ent")) or (Path(self.system) / "system.toml").exists():
            told["system"] = str(Path(self.system).absolute())
        if self.data is not None:
            told["data"] = [str(Path(file).absolute()) for file in self.data]
        if self.weights is not None:
            told["weights"] = str(Path(self.weights).absolute())
        return told

    @classmethod
    def _checked(cls, data: Mapping[str, Any], source: str) -> dict[str, Any]:
        for key, value in data.items():
            if key not in _WANTED:
                close = difflib.get_close_matches(key, _WANTED, 1)
                hint = f"did you mean {close[0]!r}?" if close else "leave it out"
                raise ConfigurationError(f"{source}: a key must be one of {', '.join(_WANTED)}; got {key!r}: {hint}")
            if not _fits(key, value):
                raise ConfigurationError(f"{source}: {key} must be {_WANTED[key]}; got {_shown(value)}: correct it")
        return dict(data)

    @staticmethod
    def template(system: str, temperature: float | None) -> str:
        """A commented TOML file with everything that can be said, as it is if nothing is."""
        return _TEMPLATE.format(
            system=json.dumps(system, ensure_ascii=False),
            forcefield=_FORCEFIELD if system.lower().endswith((".pdb", ".ent")) else "",
            temperature="# temperature = 300.0" if temperature is None else f"temperature = {temperature}",
        )


def _fits(key: str, value: Any) -> bool:
    """Whether a value is what its key wants."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key in ("temperature", "minutes"):
        return number and 0 < value < _LARGEST
    if key in ("seed", "threads"):
        least, most = (1, THREADS + 1) if key == "threads" else (0, _LARGEST)
        return number and isinstance(value, int) and least <= value < most
    if key == "compile":
        return isinstance(value, bool)
    if key in ("forcefield", "data"):
        return isinstance(value, list) and bool(value) and all(_text(name) for name in value)
    return _text(value)


def _text(value: Any) -> bool:
    """Whether it can be a name or a path."""
    return isinstance(value, str) and bool(value) and "\0" not in value


def _shown(value: Any) -> str:
    """A value as it may have been written, in a line."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


_LARGEST = 2**63

_WANTED = {
    "system": "a name or a path",
    "temperature": "a positive number of kelvin",
    "forcefield": "a list of file names",
    "data": "a list of file names",
    "weights": "a file name",
    "minutes": "a positive number",
    "seed": "an integer from 0 to 2^63 - 1",
    "compile": "true or false",
    "threads": f"an integer from 1 to {THREADS}",
    "device": "cpu, cuda, cuda:1 or auto",
}

_FORCEFIELD = """
# OpenMM force fields, the solvent's last.
forcefield = ["amber14-all.xml", "implicit/obc2.xml"]
"""

_TEMPLATE = """# A training of boltzgen: boltzgen train --config THIS_FILE --out run
# What the command line says goes before what is said here.

# Name of a system (`boltzgen systems`), or a folder with a system.toml, or a PDB file.
system = {system}
{forcefield}
# Temperature in kelvin; the training starts at four times it.
{temperature}

# Frames of a simulation at this temperature to start from, in any format that mdtraj reads, or .npz of boltzgen; they
# need not be converged. Weights, if they have any: a text file with one per frame.
# data = ["md.dcd"]
# weights = "weights.txt"

# Time to train. A longer training may follow in the same folder: it goes on where this one stopped.
minutes = 10.0

# Of the network and the noise. Trainings of different seeds must agree: boltzgen report run --others FILE looks.
seed = 0

# Whether torch.compile may be used where it pays: trainings of an hour and more.
compile = true

# Threads of one process; one is the fastest for molecules of tens of atoms.
threads = 1

# Where to compute: cpu, cuda, or auto for a GPU if there is one.
device = "cpu"
"""


def limit_threads(n: int) -> None:
    """The number of threads this process works with; child processes get it too where torch is not loaded yet."""
    os.environ.setdefault("OMP_NUM_THREADS", str(n))
    import torch

    torch.set_num_threads(n)
