"""A model built in torch as an `Energy`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..arguments import instances
from .energy import Energy

__all__ = ["ModuleEnergy"]


class ModuleEnergy(Energy):
    """Reduced energy u(x) = module(x) of any `torch.nn.Module` that gives one number for each configuration, in kT.

    The parameters are constants here: neither a flow's training nor a gradient of u reaches them, and changes made to
    the module show at once. The module is evaluated in the precision of its parameters; u has that of x. Rows must not
    see each other: put a module with batch normalisation or dropout in `eval()` mode.

    Arguments:
        module: maps (n, *event_shape) to (n,) or (n, 1).
        event_shape: shape of one configuration, d or (n_atoms, 3).
        temperature: to which u belongs; `at(T)` is at another.

    Raises:
        InputError: if `module` is none, or the temperature is not positive.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 1))
        >>> ModuleEnergy(net, 2).energy(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(self, module: nn.Module, event_shape: int | Sequence[int], temperature: float = 1.0) -> None:
        instances(module=(module, nn.Module))
        super().__init__(event_shape, temperature)
        self.module = module

    def _energy(self, x: Tensor) -> Tensor:
        constants = {name: value.detach() for name, value in self.module.named_parameters()}
        own = next((value.dtype for value in constants.values() if value.is_floating_point()), x.dtype)
        u: Tensor = torch.func.functional_call(self.module, constants, (x.to(own),))
        if isinstance(u, Tensor) and u.shape == (len(x), 1):
            u = u[:, 0]
        return u.to(x.dtype) if isinstance(u, Tensor) and u.is_floating_point() else u
