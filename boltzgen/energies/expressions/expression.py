"""A formula evaluated on whole batches, with derivatives of every order that it brings itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError, UnsupportedSystemError
from ..parameters import Parameters
from .operations import OPERATIONS
from .parser import Extension, parse
from .tabulated import Table
from .tape import Node, Tape

__all__ = ["Expression"]


class Expression(Parameters):
    """f(variables, parameters) of a formula in OpenMM's language.

    Its gradient by the variables is a formula too, evaluated along with f where one is wanted; so is the gradient of
    that, at any order. No order sees the branch that a `select` does not take.

    Arguments:
        text: the formula and its definitions.
        variables: names of the quantities to differentiate by.
        parameters: names of quantities that are given but not differentiated by.
        constants: names with a value of their own.
        tables: tabulated functions by name.
        extensions: further functions by name, which may introduce variables.
        around: a formula of the variables, and of f, to take its place.

    Attributes:
        variables: those of the variables that f depends on.
        inputs: what it has to be given: those, and the parameters it depends on.

    Raises:
        UnsupportedSystemError: if the text is no such formula, or a name could mean two things.

    Example:
        >>> f = Expression("k*(r-r0)^2", ["r"], ["k"], {"r0": 1.0})
        >>> r = torch.tensor([[2.0, 3.0]], requires_grad=True)
        >>> u = f({"r": r, "k": torch.tensor([[10.0]])})
        >>> u.detach(), torch.autograd.grad(u.sum(), r)
        (tensor([[10., 40.]]), (tensor([[20., 40.]]),))
    """

    def __init__(
        self,
        text: str,
        variables: Iterable[str],
        parameters: Iterable[str] = (),
        constants: Mapping[str, float] | None = None,
        tables: Mapping[str, Table] | None = None,
        extensions: Mapping[str, Extension] | None = None,
        around: str = "f",
    ) -> None:
        super().__init__()
        variables, parameters = list(variables), list(parameters)
        if twice := [name for name, n in Counter([*variables, *parameters, *(constants or {})]).items() if n > 1]:
            raise UnsupportedSystemError(
                f"every name in a formula must mean one thing; got {', '.join(twice)} for a parameter and something "
                f'else in {text!r}: rename the parameter, or use backend="openmm"'
            )
        self._tape = tape = Tape()
        self._formula = (text, around, tuple((constants or {}).items()))  # for an energy's fingerprint
        self._table_names = list(tables or {})
        self._tables = nn.ModuleList((tables or {}).values())
        names = {name: tape.variable(name) for name in (*parameters, *variables)}
        names |= {name: tape.constant(value) for name, value in (constants or {}).items()}
        known = {name: Extension(table.arity, _table_node(name)) for name, table in (tables or {}).items()}
        own = parse(text, tape, names, known | dict(extensions or {}))
        self._value = parse(around, tape, {name: tape.variable(name) for name in variables} | {"f": own})
        given = set(parameters)
        self.variables = sorted(tape.variables(self._value) - given)
        self._parameters_used = sorted(tape.variables(self._value) & given)
        self.inputs = {*self.variables, *self._parameters_used}
        self._steps: dict[tuple[int, ...], list[tuple[int, Node]]] = {}
        self._outputs(self._value)

    def forward(self, values: Mapping[str, Tensor], like: Tensor | None = None) -> Tensor:
        """f, (m, n).

        Arguments:
            values: the variables, all of shape (m, n), and the parameters, (m, 1) or of that shape.
            like: a tensor of shape (m, n), for an f that may depend on no variable.
        """
        variables = [values[name] for name in self.variables]
        parameters = [values[name] for name in self._parameters_used]
        if variables:
            return self._differentiable(self._value, parameters, variables, variables[0])
        if like is None:
            raise InputError("the shape of f must be known where f depends on no variable; got none: pass like")
        return self._evaluate([self._value], parameters, [], like)[0] + 0 * like  # its gradient is 0, not missing

    def _differentiable(self, node: int, parameters: list[Tensor], variables: list[Tensor], like: Tensor) -> Tensor:
        if torch.is_grad_enabled() and any(v.requires_grad for v in variables):
            function = _WithGradient if torch.compiler.is_compiling() else _WithTangent  # torch.compile traces no jvp
            found: Tensor = function.apply(_Call(self, node), *variables, *parameters)[0]  # type: ignore[no-untyped-call]
            return found
        return self._evaluate([node], parameters, variables, like)[0]

    def _outputs(self, node: int) -> list[int]:
        """The node and its derivatives by each of the variables."""
        return [node, *(self._tape.derivative(node, name) for name in self.variables)]

    def _computed(self, nodes: list[int]) -> set[int]:
        """Those of the nodes whose values are made by an operation on the variables, not given or constant."""
        return {n for n in nodes if self._tape.nodes[n].arguments and self._tape.variables(n) & set(self.variables)}

    def _evaluate(
        self, nodes: list[int], parameters: list[Tensor], variables: list[Tensor], like: Tensor
    ) -> list[Tensor]:
        """The values of these nodes, each of the shape of the variables."""
        key = tuple(nodes)
        if key not in self._steps:
            self._steps[key] = [(i, self._tape.nodes[i]) for i in self._tape.needed(nodes)]
        given = dict(zip((*self._parameters_used, *self.variables), (*parameters, *variables), strict=True))
        found: dict[int, Tensor] = {}
        for i, (operation, arguments, data) in self._steps[key]:
            if operation == "constant":
                found[i] = like.new_full((), _representable(data, like.dtype))
            elif operation == "variable":
                found[i] = given[data]
            elif operation == "table":
                found[i] = self._tables[self._table_names.index(data[0])](data[1], *(found[a] for a in arguments))
            elif operation == "power" and (exponent := self._tape.value(arguments[1])) is not None:
                found[i] = _power(found[arguments[0]], exponent)
            else:
                found[i] = OPERATIONS[operation](*(found[a] for a in arguments))
        return [found[n] if found[n].shape == like.shape else found[n].expand(like.shape) for n in nodes]


def _table_node(name: str) -> Callable[[Tape, list[Any]], int]:
    return lambda tape, arguments: tape.table(name, arguments)


def _representable(number: float, dtype: torch.dtype) -> float:
    """The number, or ±∞ where it is beyond the range of the precision."""
    return math.copysign(math.inf, number) if abs(number) > torch.finfo(dtype).max else number


def _power(x: Tensor, exponent: float) -> Tensor:
    """x to a fixed power, whole ones by multiplication: faster than by logarithms, and exact for negative x."""
    if not exponent.is_integer() or abs(exponent) > 64:
        return torch.pow(x, exponent)
    rest, found = abs(int(exponent)), None
    while rest:
        if rest & 1:
            found = x if found is None else found * x
        rest >>= 1
        if rest:
            x = x * x
    assert found is not None  # the power 0 is a constant
    return found if exponent > 0 else 1 / found


@dataclass
class _Call:
    """A node of an expression: for autograd one opaque thing, since it maps over every list that it sees."""

    expression: Expression
    node: int

    def split(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Parameters and variables."""
        n = len(self.expression.variables)
        return list(inputs[n:]), list(inputs[:n])

    def with_slopes(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The value and its slopes, none of which shares its memory with another or with a variable."""
        parameters, variables = self.split(inputs)
        nodes = self.expression._outputs(self.node)
        values = self.expression._evaluate(nodes, parameters, variables, variables[0])
        computed = self.expression._computed(nodes)
        return tuple(
            value if node in computed and node not in nodes[:k] else value.clone()
            for k, (node, value) in enumerate(zip(nodes, values, strict=True))
        )

    def slopes(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The gradient, as a function that can be differentiated in its turn."""
        parameters, variables = self.split(inputs)
        nodes = self.expression._outputs(self.node)[1:]
        return [self.expression._differentiable(n, parameters, variables, variables[0]) for n in nodes]


class _WithGradient(torch.autograd.Function):
    """The value of a node, with its gradient, which is a formula of the same tape.

    Parameters are inputs like the variables, so that transformations of torch.func see them, but have no gradient.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(call: _Call, *inputs: Tensor) -> tuple[Tensor, ...]:
        return call.with_slopes(inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.call, *tensors = inputs
        ctx.n = len(tensors)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        slopes = ctx.saved_tensors[ctx.n :]
        if torch.is_grad_enabled():  # a second derivative may be wanted
            slopes = ctx.call.slopes(ctx.saved_tensors[: ctx.n])
        return None, *(grad * slope for slope in slopes), *[None] * (ctx.n - len(slopes))


class _WithTangent(_WithGradient):
    """The same, to be differentiated forwards as well."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _WithGradient.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
        slopes = ctx.call.slopes(ctx.saved_tensors)
        total = sum((slope * tangent for slope, tangent in zip(slopes, tangents, strict=False)), torch.zeros(()))
        return total, *[None] * len(slopes)
