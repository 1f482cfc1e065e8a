"""What a system.toml says, of a bundled system or one in a user's own folder."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from ..energies import toys
from ..errors import InputError
from ..units import positive_temperature
from .pdb import readable_file

__all__ = ["Description", "bundled"]

FILE = "system.toml"

_KINDS: dict[type, str] = {
    str: "a string",
    float: "a number",
    list: "a list of strings",
    tuple: "a list of numbers",
    dict: "a table",
}
_ANY = {"title": str, "description": str, "reference": dict}
_MOLECULE = _ANY | {
    "structure": str,
    "forcefield": list,
    "system": str,
    "temperature": float,
    "torsions": dict,
    "check": dict,
}
_TOY = _ANY | {"toy": str, "parameters": dict, "check": dict}
_REFERENCE = {"value": float, "standard_error": float, "unit": str, "method": str}
_CHECK = {"energy": float}
_TOY_CHECK = {"point": tuple, "energy": float}


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a system.toml says.

    Attributes:
        name: of the folder.
        title, description: for people.
        folder: where its files lie.
        temperature: K; 1 for toys, which have none.
        toy: name of the toy energy, None for a molecule.
        parameters: of the toy.
        structure: the PDB file of the molecule.
        forcefield: names of the force-field files.
        system: the OpenMM System in XML that takes the place of a force field, if any.
        torsions: atoms of the torsions it names, besides those every peptide has.
        check_energy: potential energy of the structure in kJ/mol, if it is known; of a toy, in kT at `check_point`.
        check_point: a configuration of the toy.
        reference: known values by name, each {"value", "standard_error", "unit", "method"}.
    """

    name: str
    title: str
    folder: Path
    description: str = ""
    temperature: float = 300.0
    toy: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    structure: Path = Path("structure.pdb")
    forcefield: tuple[str, ...] = ()
    system: Path | None = None
    torsions: Mapping[str, list[int | str]] = field(default_factory=dict)
    check_energy: float | None = None
    check_point: tuple[float, ...] | None = None
    reference: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def find(cls, name: str | os.PathLike[str]) -> Self:
        """The description of the bundled system of that name, or of the one in a folder.

        Raises:
            InputError: if there is none, or it is not what it must be.
        """
        return cls.read(_locate(name))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The description in a folder.

        Raises:
            InputError: if it is not what it must be, naming the key.
        """
        file = folder / FILE
        try:
            data = tomllib.loads(readable_file(file, "a system's description").read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{file} must be TOML; got {error}: correct it") from error
        if "toy" in data:
            _check_table(file, data, _TOY, required=("title",))
            if data["toy"] not in toys.NAMES:
                raise _unknown(file, "toy", data["toy"], toys.NAMES)
        else:
            _check_table(file, data, _MOLECULE, required=("title",) if "system" in data else ("title", "forcefield"))
            if "system" in data and "forcefield" in data:
                raise InputError(f"{file} must say system or forcefield; got both: leave one out")
        check = data.pop("check", {})
        _check_table(
            file, check, *((_TOY_CHECK, "check.", _TOY_CHECK) if "toy" in data and check else (_CHECK, "check."))
        )
        for key, entry in data.get("reference", {}).items():
            if not isinstance(entry, dict):
                raise _wrong_type(file, f"reference.{key}", "a table", entry)
            _check_table(file, entry, _REFERENCE, f"reference.{key}.", required=_REFERENCE)
        try:
            temperature = positive_temperature(data.get("temperature", 1.0 if "toy" in data else 300.0))
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        data |= {
            "temperature": temperature,
            "structure": folder / data.get("structure", "structure.pdb"),
            "forcefield": tuple(data.get("forcefield", ())),
            "system": folder / data["system"] if "system" in data else None,
            "check_energy": check.get("energy"),
            "check_point": tuple(check["point"]) if "point" in check else None,
        }
        return cls(name=folder.resolve().name, folder=folder, **data)


def bundled() -> dict[str, Path]:
    """Folders of the bundled systems by name."""
    package = Path(__file__).parents[1]
    in_wheel, in_checkout = package / "systems", package.parent / "systems"
    root = in_wheel if in_wheel.is_dir() else in_checkout
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{FILE}"))}


def _locate(name: str | os.PathLike[str]) -> Path:
    known = bundled()
    names = ", ".join(known)
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"a system must be given by name or folder; got {name!r}: the names are {names}")
    text = os.fspath(name)
    path = Path(text)
    if text in known:
        return known[text]
    if text and os.path.isdir(path):
        if not os.path.lexists(path / FILE):
            raise InputError(
                f"the folder {text} must hold a {FILE}; got none: write one that says title and forcefield, "
                "beside a structure.pdb"
            )
        return path
    what = f"a system must be a bundled one's name or a folder with a {FILE}"
    if os.path.isfile(path):
        if path.name == FILE:
            return path.parent
        raise InputError(
            f"{what}; got the file {text}: for a PDB file use Molecule.from_pdb(path), for other files the loader that "
            "docs/your_molecule.md names"
        )
    close = get_close_matches(text, known, n=1, cutoff=0.5)
    raise InputError(f"{what}; got {text!r}: {f'did you mean {close[0]!r}? The' if close else 'the'} names are {names}")


def _check_table(
    file: Path, table: Mapping[str, Any], schema: Mapping[str, type], path: str = "", required: Iterable[str] = ()
) -> None:
    for key, value in table.items():
        if key not in schema:
            raise _unknown(file, f"{path}{key}", key, schema)
        kind = schema[key]
        if not _is(value, kind):
            raise _wrong_type(file, f"{path}{key}", _KINDS[kind], value)
    for key in required:
        if key not in table:
            raise InputError(f"{file} must say {path}{key}; got none: add it as {_KINDS[schema[key]]}")


def _is(value: object, kind: type) -> bool:
    if kind in (list, tuple):
        return isinstance(value, list) and all(_is(item, str if kind is list else float) for item in value)
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)


def _wrong_type(file: Path, path: str, kind: str, value: object) -> InputError:
    return InputError(f"{file}: {path} must be {kind}; got {value!r}: correct it")


def _unknown(file: Path, path: str, given: str, known: Iterable[str]) -> InputError:
    close = get_close_matches(given, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "leave it out"
    return InputError(f"{file}: {path} must be one of {', '.join(known)}; got {given!r}: {hint}")
