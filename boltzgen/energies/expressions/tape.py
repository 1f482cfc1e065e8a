"""A formula as a list of elementary operations, which knows its own derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from .operations import OPERATIONS

__all__ = ["Node", "Tape"]


class Node(NamedTuple):
    """One operation on earlier nodes of its tape.

    Attributes:
        operation: its name in `OPERATIONS`; or "constant", "variable", "table".
        arguments: the nodes it acts on, by index.
        data: the value of a constant, the name of a variable; for a table its name and the order of the derivative.
    """

    operation: str
    arguments: tuple[int, ...] = ()
    data: Any = None


class Tape:
    """Nodes in an order in which each acts on earlier ones, no two of them the same.

    A formula is a node, and so is its derivative, which shares with it whatever they have in common. Where a `select`
    does not take a branch, neither does its derivative: an infinite slope there does no harm. Products with 0 are 0,
    sums with 0 and products with 1 leave no trace, and operations on constants are carried out at once.

    Example:
        >>> tape = Tape()
        >>> x = tape.variable("x")
        >>> square = tape.apply("multiply", x, x)
        >>> tape.nodes[tape.derivative(square, "x")]
        Node(operation='add', arguments=(0, 0), data=None)
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._index: dict[Node, int] = {}
        self._derivatives: dict[tuple[int, str], int] = {}

    def constant(self, value: float) -> int:
        return self._add(Node("constant", (), float(value)))

    def variable(self, name: str) -> int:
        return self._add(Node("variable", (), name))

    def table(self, name: str, arguments: Iterable[int], order: int = 0) -> int:
        """A tabulated function, or its derivative of some order by its only argument."""
        return self._add(Node("table", tuple(arguments), (name, order)))

    def apply(self, operation: str, *arguments: int) -> int:
        """The node of an operation, simplified."""
        values = [self.value(a) for a in arguments]
        if all(value is not None for value in values):
            numbers = [torch.tensor(value, dtype=torch.float64) for value in values]
            return self.constant(float(OPERATIONS[operation](*numbers)))
        simple = self._simplified(operation, arguments, values)
        return self._add(Node(operation, arguments)) if simple is None else simple

    def value(self, node: int) -> float | None:
        """The number that a node is, if it is one."""
        found = self.nodes[node]
        return float(found.data) if found.operation == "constant" else None

    def needed(self, nodes: Iterable[int]) -> list[int]:
        """What has to be computed for these nodes, in order."""
        found: set[int] = set()
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack += self.nodes[node].arguments
        return sorted(found)

    def variables(self, node: int) -> set[str]:
        """Names of the variables a node depends on."""
        return {self.nodes[i].data for i in self.needed([node]) if self.nodes[i].operation == "variable"}

    def derivative(self, node: int, name: str) -> int:
        """The node of ∂(node)/∂(variable of that name)."""
        for i in self.needed([node]):
            if (i, name) not in self._derivatives:
                self._derivatives[i, name] = self._differentiate(i, name)
        return self._derivatives[node, name]

    def _add(self, node: Node) -> int:
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
        return self._index[node]

    def _differentiate(self, i: int, name: str) -> int:
        operation, arguments, data = self.nodes[i]
        if operation == "constant":
            return self.constant(0)
        if operation == "variable":
            return self.constant(data == name)
        inner = [self._derivatives[a, name] for a in arguments]
        if operation == "select":  # linear in its branches, and blind to the one not taken
            return self.apply("select", arguments[0], inner[1], inner[2])
        total = self.constant(0)
        for k, slope in enumerate(inner):
            if self.value(slope) != 0:
                total = self.apply("add", total, self.apply("multiply", self._partial(i, k), slope))
        return total

    def _partial(self, i: int, k: int) -> int:
        """Derivative of a node by its k-th argument."""
        operation, arguments, data = self.nodes[i]
        if operation == "table":
            return self.table(data[0], arguments, data[1] + 1) if len(arguments) == 1 else self.constant(0)
        return _PARTIALS[operation](self, i, *arguments)[k]()

    def _simplified(self, operation: str, arguments: tuple[int, ...], values: list[float | None]) -> int | None:
        first, *others = arguments
        match operation, values:
            case ("add", [0.0, _]) | ("multiply", [1.0, _]):
                return others[0]
            case ("add" | "subtract", [_, 0.0]) | ("multiply" | "divide" | "power", [_, 1.0]):
                return first
            case ("multiply", [0.0, _] | [_, 0.0]) | ("divide", [0.0, _]):
                return self.constant(0)
            case "power", [_, 0.0]:
                return self.constant(1)
            case "subtract", [0.0, _]:
                return self.apply("negate", others[0])
            case "negate", _ if self.nodes[first].operation == "negate":
                return self.nodes[first].arguments[0]
            case "select", [float(condition), *_]:
                return others[0] if condition != 0 else others[1]
            case "select", _ if others[0] == others[1]:
                return others[0]
        return None


_Partials = Callable[..., tuple[Callable[[], int], ...]]


def _unary(text: str) -> _Partials:
    """∂f/∂x in reverse Polish notation: x the argument, f the node itself, numbers, and operations."""

    def partials(tape: Tape, f: int, x: int) -> tuple[Callable[[], int], ...]:
        return (lambda: _polish(tape, text, {"f": f, "x": x}),)

    return partials


def _binary(by_first: str, by_second: str) -> _Partials:
    def partials(tape: Tape, f: int, x: int, y: int) -> tuple[Callable[[], int], ...]:
        names = {"f": f, "x": x, "y": y}
        return lambda: _polish(tape, by_first, names), lambda: _polish(tape, by_second, names)

    return partials


def _polish(tape: Tape, text: str, names: dict[str, int]) -> int:
    stack: list[int] = []
    for word in text.split():
        if word in names:
            stack.append(names[word])
        elif word in OPERATIONS:
            arity = 2 if word in _BINARY else 1
            stack[-arity:] = [tape.apply(word, *stack[-arity:])]
        else:
            stack.append(tape.constant(float(word)))
    return stack.pop()


_BINARY = {"add", "subtract", "multiply", "divide", "power", "min", "max", "atan2"}
_PARTIALS: dict[str, _Partials] = {
    "add": _binary("1", "1"),
    "subtract": _binary("1", "-1"),
    "multiply": _binary("y", "x"),
    "divide": _binary("1 y divide", "f y divide negate"),
    "power": _binary("y x y 1 subtract power multiply", "x log f multiply"),
    "negate": _unary("-1"),
    "sqrt": _unary("0.5 f divide"),
    "exp": _unary("f"),
    "log": _unary("1 x divide"),
    "sin": _unary("x cos"),
    "cos": _unary("x sin negate"),
    "tan": _unary("1 f square add"),
    "sec": _unary("f x tan multiply"),
    "csc": _unary("f x cot multiply negate"),
    "cot": _unary("1 f square add negate"),
    "asin": _unary("1 1 x square subtract sqrt divide"),
    "acos": _unary("-1 1 x square subtract sqrt divide"),
    "atan": _unary("1 1 x square add divide"),
    "atan2": _binary("y x square y square add divide", "x x square y square add divide negate"),
    "sinh": _unary("x cosh"),
    "cosh": _unary("x sinh"),
    "tanh": _unary("1 f square subtract"),
    "erf": _unary(f"{2 / math.sqrt(math.pi)!r} x square negate exp multiply"),
    "erfc": _unary(f"{-2 / math.sqrt(math.pi)!r} x square negate exp multiply"),
    "step": _unary("0"),
    "delta": _unary("0"),
    "square": _unary("2 x multiply"),
    "cube": _unary("3 x square multiply"),
    "recip": _unary("f square negate"),
    "min": _binary("1 x y subtract step subtract", "x y subtract step"),
    "max": _binary("x y subtract step", "1 x y subtract step subtract"),
    "abs": _unary("2 x step multiply 1 subtract"),
    "floor": _unary("0"),
    "ceil": _unary("0"),
}
