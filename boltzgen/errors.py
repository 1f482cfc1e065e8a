"""Every exception and warning the library raises on purpose; each also derives from the built-in it refines."""

__all__ = [
    "BoltzgenError",
    "CheckpointError",
    "ConfigurationError",
    "EnergyError",
    "InputError",
    "RankError",
    "UnreliableEstimateWarning",
    "UnsupportedSystemError",
]


class BoltzgenError(Exception):
    """Root of the library's exceptions."""


class InputError(BoltzgenError, ValueError):
    """An argument or a file is not what it must be."""


class ConfigurationError(InputError):
    """A configuration that is not what it must be: wrong usage, as on the command line."""


class UnsupportedSystemError(BoltzgenError, ValueError):
    """A molecular system that cannot be sampled as it stands (constraints, periodic boxes, virtual sites, ...)."""


class EnergyError(BoltzgenError, RuntimeError):
    """An energy could not be evaluated, or disagrees with its reference."""


class CheckpointError(BoltzgenError, RuntimeError):
    """A checkpoint or saved ensemble is damaged, or belongs to something else."""


class RankError(BoltzgenError, RuntimeError):
    """One of the processes that worked together was lost."""


class UnreliableEstimateWarning(UserWarning):
    """A number whose error bar must not be believed."""
