"""Examples in docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import boltzgen

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(boltzgen.__path__, "boltzgen.") if not m.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    module = importlib.import_module(name)
    public = {key: getattr(boltzgen, key) for key in boltzgen.__all__}
    import torch

    results = doctest.testmod(
        module,
        extraglobs={**public, "bg": boltzgen, "torch": torch},
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert results.failed == 0
