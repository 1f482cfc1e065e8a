"""Functions that bring their own gradient and stay differentiable as often as one likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Evaluation", "evaluate"]

Evaluation = Callable[[Tensor], tuple[Tensor, Callable[[], Tensor]]]
"""x of shape (..., n) ↦ u of shape (n,), and a function that gives ∂u/∂x: both made of differentiable operations."""


def evaluate(evaluation: Evaluation, x: Tensor) -> Tensor:
    """u(x), whose gradient is computed along with it instead of by autograd.

    Higher derivatives are autograd's derivatives of the gradient.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        function = _WithGradient if torch.compiler.is_compiling() else _WithTangent  # torch.compile traces no jvp
        u: Tensor = function.apply(x, evaluation)[0]  # type: ignore[no-untyped-call]
        return u
    return evaluation(x)[0]


class _WithGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, evaluation: Evaluation) -> tuple[Tensor, Tensor]:
        u, gradient = evaluation(x)
        return u, gradient()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Evaluation], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.evaluation = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor, _: Any) -> tuple[Tensor, None]:
        x, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative may be wanted
            gradient = ctx.evaluation(x)[1]()
        return grad_u * gradient, None


class _WithTangent(_WithGradient):
    """The same, to be differentiated forwards as well."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Evaluation], output: tuple[Tensor, Tensor]) -> None:
        _WithGradient.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Any) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return (ctx.evaluation(x)[1]() * tangent).flatten(0, -2).sum(0), None
