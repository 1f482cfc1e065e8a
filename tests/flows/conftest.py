"""Away from the identity, where every freshly built flow starts and many mistakes are invisible."""

import pytest
import torch


def _randomise(module, scale=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            fan_in = parameter.shape[1] if parameter.ndim > 1 else 1
            parameter += scale * noise / max(fan_in, 1) ** 0.5
    return module


@pytest.fixture(scope="session")
def randomise():
    """A function that adds noise to every parameter of a module, in place, and returns the module."""
    return _randomise


@pytest.fixture(scope="session")
def descendants():
    """A function of a class: every class of boltzgen derived from it, exported or not."""

    def of(kind):
        direct = set(kind.__subclasses__())
        mine = {one for one in direct if one.__module__.startswith("boltzgen.")}
        return mine.union(*(of(one) for one in direct))

    return of
