"""What a training is told, on the command line or in a TOML file, and what its run folder remembers of it."""

from __future__ import annotations

import argparse
import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, InstanceOf, ValidationError, model_validator

from ..errors import ConfigurationError
from .launching import THREADS
from .targets import AMBER, PDB, TOPOLOGIES
from .values import BEYOND, COUNT, POSITIVE, SEED

__all__ = ["Settings"]


_BUDGET = {"minutes", "steps"}


def _nameable(text: str) -> str:
    """A text that can be a name or a path; of any bytes, as paths are, so that pydantic's own strings will not do."""
    if not text or "\0" in text:
        raise ValueError
    return text


Text = Annotated[InstanceOf[str], AfterValidator(_nameable)]
Positive = Annotated[float, Field(gt=0, lt=BEYOND, allow_inf_nan=False)]


class Settings(BaseModel, extra="forbid", strict=True, frozen=True):
    """What `boltzgen train` is told. A description says what a value must be.

    Attributes:
        system: name of a system, or path of a folder with a system.toml, of a PDB file, or of a topology of AMBER's or
            GROMACS's with its positions beside it.
        temperature: K; the system's own if None.
        forcefield: OpenMM force fields, for a PDB file; the implicit solvent, for a topology of AMBER's.
        hold: torsions to keep near those of the structure.
        data: files of frames to start from, see `load_frames`.
        weights: a text file with the weights of the frames.
        minutes: time to train; ten if there is no other budget.
        steps: gradient steps to train, in place of the minutes.
        seed: of the network and the noise.
        compile: whether torch.compile may be used.
        threads: of one process.
        device: "cpu", "cuda", "cuda:1" or "auto".
    """

    system: Text = Field(description="a name or a path")
    temperature: Positive | None = Field(default=None, description=f"{POSITIVE}, in kelvin")
    forcefield: list[Text] | None = Field(default=None, min_length=1, description="a list of file names")
    hold: list[Text] | None = Field(default=None, min_length=1, description="a list of torsions' names")
    data: list[Text] | None = Field(default=None, min_length=1, description="a list of file names")
    weights: Text | None = Field(default=None, description="a file name")
    minutes: Positive | None = Field(default=None, description=POSITIVE)
    steps: int | None = Field(default=None, gt=0, lt=BEYOND, description=COUNT)
    seed: int = Field(default=0, ge=0, lt=BEYOND, description=SEED)
    compile: bool = Field(default=True, description="true or false")
    threads: int = Field(default=1, ge=1, le=THREADS, description=f"an integer from 1 to {THREADS}")
    device: Text = Field(default="cpu", description="cpu, cuda, cuda:1 or auto")

    @model_validator(mode="before")
    @classmethod
    def _one_budget(cls, data: dict[str, Any]) -> dict[str, Any]:
        told = {name for name in _BUDGET if data.get(name) is not None}
        if len(told) > 1:
            raise ValueError("a training must have minutes or steps; got both: leave one of them out")
        return data if told else data | {"minutes": 10.0}

    @model_validator(mode="after")
    def _weights_have_data(self) -> Self:
        if self.weights is not None and self.data is None:
            raise ValueError("weights must come with the data they weight; got none: name files with --data")
        return self

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
        cls._of({"system": "named elsewhere", "data": ["named elsewhere"]} | data, file)
        return data

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
        given = {name: value for name in cls.model_fields if (value := getattr(options, name)) is not None}
        if _BUDGET & given.keys():  # in place of the file's, of either kind
            told = {name: value for name, value in told.items() if name not in _BUDGET}
        told |= given
        if "system" not in told:
            raise ConfigurationError(
                "a training must have a system; got none: name one, or a file made by `boltzgen init` with --config"
            )
        return cls._of(told, "the command line")

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
        return cls._of({key: value for key, value in told.items() if value is not None}, source)

    def plain(self) -> dict[str, Any]:
        """As plain data, from which `recalled` makes them in any working directory."""
        told = self.model_dump()
        if self.system.lower().endswith((*PDB, *TOPOLOGIES)) or (Path(self.system) / "system.toml").exists():
            told["system"] = str(Path(self.system).absolute())
        if self.data is not None:
            told["data"] = [str(Path(file).absolute()) for file in self.data]
        if self.weights is not None:
            told["weights"] = str(Path(self.weights).absolute())
        return told

    @classmethod
    def _of(cls, data: Mapping[str, Any], source: str) -> Self:
        """The settings in the data, or what their source has to be told about the first that will not do."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
        if not first["loc"]:  # no value by itself
            raise ConfigurationError(f"{source}: {first['ctx']['error']}")
        key = str(first["loc"][0])
        if key not in cls.model_fields:
            close = difflib.get_close_matches(key, cls.model_fields, 1)
            hint = f"did you mean {close[0]!r}?" if close else "leave it out"
            raise ConfigurationError(
                f"{source}: a key must be one of {', '.join(cls.model_fields)}; got {key!r}: {hint}"
            )
        wanted = cls.model_fields[key].description
        raise ConfigurationError(f"{source}: {key} must be {wanted}; got {_shown(data[key])}: correct it")

    @staticmethod
    def template(system: str, temperature: float | None) -> str:
        """A commented TOML file with everything that can be said, as it is if nothing is."""
        named = system.lower()
        return _TEMPLATE.format(
            system=json.dumps(system, ensure_ascii=False).replace("\x7f", "\\u007f"),  # which JSON may hold, TOML not
            forcefield=_FORCEFIELD if named.endswith(PDB) else _SOLVENT if named.endswith(AMBER) else "",
            temperature="# temperature = 300.0" if temperature is None else f"temperature = {temperature}",
        )


def _shown(value: Any) -> str:
    """A value as it may have been written, in a line."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):  # Python writes no integer of thousands of digits
        return "a number too long to be shown"
    return text if len(text) <= 80 else f"{text[:77]}..."


_FORCEFIELD = """
# OpenMM force fields, the solvent's last.
forcefield = ["amber14-all.xml", "implicit/obc2.xml"]
"""

_SOLVENT = """
# Implicit solvent: HCT, OBC1, OBC2, GBn or GBn2; vacuum without one.
# forcefield = ["OBC2"]
"""

_TEMPLATE = """# A training of boltzgen: boltzgen train --config THIS_FILE --out run
# What the command line says goes before what is said here.

# Name of a system (`boltzgen systems`), or a folder with a system.toml, or a PDB file, or a prmtop of AMBER
# or top of GROMACS with its positions beside it.
system = {system}
{forcefield}
# Temperature in kelvin; the training of a molecule starts at four times it.
{temperature}

# Torsions to keep within 90 degrees of the structure's, such as those of peptide bonds (`boltzgen check` names them).
# hold = ["omega_1"]

# Frames of a simulation at this temperature to start from, in any format that mdtraj reads, or .npz of boltzgen; they
# need not be converged. Weights, if they have any: a text file with one per frame.
# data = ["md.dcd"]
# weights = "weights.txt"

# Time to train. A longer training may follow in the same folder: it goes on where this one stopped.
minutes = 10.0

# Or gradient steps in place of minutes: what comes out is then the same however often the training was interrupted, to
# the last bit if compile is false.
# steps = 3000

# Of the network and the noise. Trainings of different seeds must agree: boltzgen report run --others FILE looks.
seed = 0

# Whether torch.compile may be used where it pays: trainings of twenty minutes and more.
compile = true

# Threads of one process; one is the fastest for molecules of tens of atoms.
threads = 1

# Where to compute: cpu, cuda, or auto for a GPU if there is one.
device = "cpu"
"""
