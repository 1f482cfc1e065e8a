"""The grammar of OpenMM's formulae."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ...errors import UnsupportedSystemError
from .operations import FUNCTIONS
from .tape import Tape

__all__ = ["Extension", "parse"]


class Extension(NamedTuple):
    """A function beyond `FUNCTIONS`.

    Attributes:
        arity: the number of its arguments.
        node: makes its node of those of its arguments; or, if these are but names, of their texts.
        of_names: whether its arguments are names, of particles for instance, which are no values.
    """

    arity: int
    node: Callable[[Tape, list[Any]], int]
    of_names: bool = False


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<call>[^\s\d.+\-*/^(),;][^\s+\-*/^(),;]*\()"
    r"|(?P<name>[^\s\d.+\-*/^(),;][^\s+\-*/^(),;]*)"
    r"|(?P<mark>[-+*/^(),]))"
)
_BINARY = {"+": ("add", 0), "-": ("subtract", 0), "*": ("multiply", 1), "/": ("divide", 1), "^": ("power", 3)}
_MINUS = 2  # binds closer than * and /, less close than ^: −x² is −(x²)
_DEPTH = 100


def parse(text: str, tape: Tape, names: Mapping[str, int], extensions: Mapping[str, Extension] | None = None) -> int:
    """The node of a formula as OpenMM's custom forces take it.

    A formula is followed by definitions, "k*d^2; d = r-r0", each of which may use those to its right. What is called
    means what OpenMM's documentation says; ^ is right-associative and there is no unary plus.

    Arguments:
        text: the formula.
        tape: where the nodes go.
        names: the nodes of the variables and constants it may name.
        extensions: further functions by name; they take precedence.

    Raises:
        UnsupportedSystemError: if the text is no such formula, or names something unknown.

    Example:
        >>> tape = Tape()
        >>> node = parse("a*x^2; a = 2+1", tape, {"x": tape.variable("x")})
        >>> tape.variables(node)
        {'x'}
    """
    formula, *definitions = text.split(";")
    known = dict(names)
    for definition in reversed(definitions):
        if definition.strip():
            name, equals, value = definition.partition("=")
            if not equals or not name.strip():
                raise _refusal(text, f"{definition.strip()!r}, which defines nothing")
            known[name.strip()] = _Reader(text, value, tape, known, extensions or {}).read()
    return _Reader(text, formula, tape, known, extensions or {}).read()


class _Reader:
    """Reads one formula from left to right, by the precedence of its operators."""

    def __init__(
        self, whole: str, text: str, tape: Tape, names: Mapping[str, int], extensions: Mapping[str, Extension]
    ) -> None:
        self.whole, self.tape, self.names, self.extensions = whole, tape, names, extensions
        self.tokens: list[tuple[str, str]] = []  # kind and text
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise _refusal(whole, f"{text[position:].strip()!r}")
            kind = str(match.lastgroup)
            self.tokens.append((kind, match[kind]))
            position = match.end()
        self.position = self.depth = 0

    def read(self) -> int:
        node = self.formula(0)
        if self.position < len(self.tokens):
            raise _refusal(self.whole, f"{self.peek()!r} where it should end")
        return node

    def peek(self) -> str:
        return self.tokens[self.position][1] if self.position < len(self.tokens) else ""

    def formula(self, precedence: int) -> int:
        """What stands here as far as operators bind at least so closely."""
        self.depth += 1
        if self.depth > _DEPTH:
            raise _refusal(self.whole, f"one nested more than {_DEPTH} deep")
        node = self.operand()
        while (mark := self.peek()) in _BINARY and _BINARY[mark][1] >= precedence:
            operation, binding = _BINARY[mark]
            self.position += 1
            node = self.tape.apply(operation, node, self.formula(binding if mark == "^" else binding + 1))
        self.depth -= 1
        return node

    def operand(self) -> int:
        if self.position == len(self.tokens):
            raise _refusal(self.whole, "one that ends too early")
        kind, text = self.tokens[self.position]
        self.position += 1
        if kind == "number":
            return self.tape.constant(float(text))
        if kind == "call":
            return self.call(text[:-1])
        if kind == "name":
            if text not in self.names:
                raise _refusal(self.whole, f"the unknown variable {text!r}")
            return self.names[text]
        if text == "-":
            return self.tape.apply("negate", self.formula(_MINUS))
        if text == "(":
            node = self.formula(0)
            self.expect(")")
            return node
        raise _refusal(self.whole, f"{text!r} where a value should stand")

    def call(self, name: str) -> int:
        extension = self.extensions.get(name)
        if extension is None and name not in FUNCTIONS:
            raise _refusal(self.whole, f"the unknown function {name!r}")
        arity = FUNCTIONS[name][0] if extension is None else extension.arity
        arguments: list[Any] = [self.argument(extension)]
        while self.peek() == ",":
            self.position += 1
            arguments.append(self.argument(extension))
        self.expect(")")
        if len(arguments) != arity:
            raise _refusal(self.whole, f"{name} with {len(arguments)} arguments instead of {arity}")
        return self.tape.apply(name, *arguments) if extension is None else extension.node(self.tape, arguments)

    def argument(self, extension: Extension | None) -> int | str:
        if extension is None or not extension.of_names:
            return self.formula(0)
        name = self.peek()
        self.position += 1
        return name

    def expect(self, mark: str) -> None:
        if self.peek() != mark:
            raise _refusal(self.whole, "unbalanced parentheses")
        self.position += 1


def _refusal(text: str, got: str) -> UnsupportedSystemError:
    return UnsupportedSystemError(
        f"an expression must be one that OpenMM can read, of known variables and functions; got {got} in {text!r}: "
        'correct it, or use backend="openmm"'
    )
