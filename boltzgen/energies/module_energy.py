"""A model built in torch as an `Energy`."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from ..arguments import instances
from .energy import Energy

__all__ = ["ModuleEnergy"]


class ModuleEnergy(Energy):
    """Reduced energy u(x) = module(x) of any `torch.nn.Module` that gives one number for each configuration, in kT.

    A copy of the module is kept, in evaluation mode and with constant parameters: training a flow does not train it,
    and later changes to the module have no effect. It computes in the precision of its parameters; u has that of x.

    Arguments:
        module: maps (n, *event_shape) to (n,) or (n, 1).
        event_shape: shape of one configuration, d or (n_atoms, 3).
        temperature: to which u belongs; `at(T)` is at another.

    Raises:
        InputError: if `module` is none, or the temperature is not positive.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 1))
        >>> ModuleEnergy(net, 2).energy(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(self, module: nn.Module, event_shape: int | Sequence[int], temperature: float = 1.0) -> None:
        instances(module=(module, nn.Module))
        super().__init__(event_shape, temperature)
        self.module = copy.deepcopy(module).eval()
        for parameter in self.module.parameters():
            parameter.detach_()  # in place, which compiled modules allow too

    def _energy(self, x: Tensor) -> Tensor:
        tensors = [*self.module.parameters(), *self.module.buffers()]
        own = next((t.dtype for t in tensors if t.is_floating_point()), x.dtype)
        u: Tensor = self.module(x.to(own))
        if isinstance(u, Tensor) and u.is_floating_point():
            u = u.to(x.dtype)
            return u[:, 0] if u.shape == (len(x), 1) else u
        return u
