"""OpenMM's XML for Systems, read so that a file from a stranger can hold nothing but numbers and formulae."""

from __future__ import annotations

import re
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import openmm

from ..errors import InputError
from .openmm_system import check_force_type

__all__ = ["deserialize", "serialize"]

_MAX_CHARACTERS = 64 * 1024**2
_MAX_DEPTH = 32
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_FUNCTION = re.compile(r"(Continuous|Discrete)[123]DFunction")
_PLAIN_TYPE = re.compile(r"[a-z0-9]*")  # OpenMM's classes, which alone are looked up and built, begin with a capital
_CHILD = {  # what OpenMM takes the children of these to be, whatever they call themselves
    "Forces": "Force",
    "CollectiveVariables": "CollectiveVariable",
    "CollectiveVariable": "Force",
    "Functions": "Function",
}


def serialize(system: openmm.System) -> str:
    """The System as OpenMM's XML.

    Raises:
        InputError: if OpenMM cannot write it (a `PythonForce`, for one).
    """
    try:
        return str(openmm.XmlSerializer.serialize(system))
    except Exception as error:
        raise InputError(f"system must be one that OpenMM can write; got {_line(error)}: check its forces") from None


def deserialize(text: str) -> openmm.System:
    """The System written in OpenMM's XML, without running anything the text may hold.

    OpenMM builds whatever class the text names, and one of them (`PythonForce`) unpickles code. Here the text
    is parsed first, every force at every depth must be of a known kind, and OpenMM is given what was
    understood, written anew, instead of the text itself.

    Arguments:
        text: what `serialize`, `openmm.XmlSerializer.serialize` or OpenFF's `to_openmm` recipe wrote.

    Raises:
        InputError: if the text is not the XML of a System, or is longer than 64 MiB.
        UnsupportedSystemError: if it holds a force that is not allowed, naming it.

    Example:
        >>> system = openmm.System()
        >>> _ = system.addParticle(12.0)
        >>> deserialize(serialize(system)).getNumParticles()
        1
    """
    if not isinstance(text, str):
        raise InputError(f"text must be a str of XML; got {type(text).__name__}: read the file as UTF-8 text")
    if len(text) > _MAX_CHARACTERS:
        raise InputError(
            f"System XML must be at most {_MAX_CHARACTERS} characters; got {len(text)}: build it in Python"
        )
    clean = _Rewriter().rewrite(text)
    try:
        return openmm.XmlSerializer.deserialize(clean)
    except Exception as error:
        raise InputError(f"XML must be a System as OpenMM writes it; got {_line(error)}: write it again") from None


class _Rewriter:
    """Expat handlers that check each element as it comes and write it anew: names and attributes, nothing else."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.path: list[str] = []  # the open elements

    def rewrite(self, text: str) -> str:
        parser = expat.ParserCreate("utf-8")
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.StartDoctypeDeclHandler = self.doctype
        try:
            parser.Parse(text.encode(), True)
        except (expat.ExpatError, UnicodeEncodeError) as error:
            raise InputError(
                f"text must be well-formed XML; got {_line(error)}: check that the file is whole"
            ) from None
        return "".join(self.parts)

    def doctype(self, *_: Any) -> None:
        raise InputError("System XML must have no DOCTYPE; got one: OpenMM writes none, so do not trust this file")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self.path) == _MAX_DEPTH:
            raise InputError(f"System XML must be nested at most {_MAX_DEPTH} deep; got more: do not trust this file")
        for name in (tag, *attributes):
            if not _NAME.fullmatch(name):
                raise InputError(f"names in System XML must be plain; got {name!r}: write it again with OpenMM")
        self.check(tag, attributes.get("type"), self.path[-1] if self.path else "")
        self.path.append(tag)
        self.parts.append(f"<{tag}" + "".join(f" {k}={quoteattr(v)}" for k, v in attributes.items()) + ">")

    def end(self, tag: str) -> None:
        self.path.pop()
        self.parts.append(f"</{tag}>")

    def check(self, tag: str, kind: str | None, parent: str) -> None:
        """OpenMM casts by position, so a class that it knows is refused in any place but its own."""
        if not parent:
            fits = tag == kind == "System"
        elif tag == "Force":
            fits = kind is not None
        elif tag == "Function":
            fits = _FUNCTION.fullmatch(kind or "") is not None
        else:
            fits = _PLAIN_TYPE.fullmatch(kind or "") is not None
        if not fits or tag != _CHILD.get(parent, tag):
            element = f"<{tag}>" if kind is None else f"<{tag} type={kind!r}>"
            where = f"inside <{parent}>" if parent else "as its root"
            raise InputError(
                f"XML must be a System as OpenMM writes it; got {element} {where}: write it again with OpenMM"
            )
        if tag == "Force" and kind is not None:
            check_force_type(kind)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
