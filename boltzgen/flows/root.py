"""Roots of many increasing functions at once, by Newton's method kept inside a bracket."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["solve_increasing"]

_ROUNDS = 100  # bisection alone needs about 60 to exhaust float64


def solve_increasing(f: Callable[[Tensor], tuple[Tensor, Tensor]], y: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The solution z of f(z) = y between `low` and `high`, elementwise, to the rounding of the dtype.

    A Newton step that leaves the bracket, or shrinks the step before it by less than half, is replaced by bisection.
    An element that has converged stays as it is, so that it does not depend on the others. Two more Newton steps, which
    autograd sees, give the result exact first and second derivatives with respect to y and whatever f depends on.

    Arguments:
        f: z ↦ (f(z), f'(z)), elementwise and with f' > 0.
        y: the values wanted, any shape.
        low, high: f(low) ≤ y ≤ f(high), of the same shape.

    References:
        Press et al. (2007), Numerical Recipes, section 9.4 (rtsafe).
    """
    with torch.no_grad():
        z, step = (low + high) / 2, high - low
        done, rounding = torch.zeros_like(z, dtype=torch.bool), 2 * torch.finfo(z.dtype).eps
        for _ in range(_ROUNDS):
            value, slope = f(z)
            above = value > y
            low, high = torch.where(above, low, z), torch.where(above, z, high)
            newton = (y - value) / slope
            good = (z + newton > low) & (z + newton < high) & (2 * newton.abs() < step.abs())
            step = torch.where(good, newton, (low + high) / 2 - z)
            following = z + step
            done |= ((value - y).abs() <= rounding * (y.abs() + slope * z.abs())) | (following == z)
            z = torch.where(done, z, following)
            if bool(done.all()):
                break
    for _ in range(2):
        value, slope = f(z)
        z = z + (y - value) / slope
    return z
