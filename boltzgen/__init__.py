"""Boltzmann generators: independent equilibrium samples of a molecule, with weights and honest error bars.

The names below are looked up when they are first used, so that `import boltzgen` and `boltzgen --help` take no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .coordinates import InternalCoordinates
    from .energies import Energy, ForceFieldEnergy, ModuleEnergy, OpenMMEnergy, Pullback, Softened, Tempered, toys
    from .errors import (
        BoltzgenError,
        CheckpointError,
        EnergyError,
        InputError,
        UnreliableEstimateWarning,
        UnsupportedSystemError,
    )
    from .flows import Bijection, Flow, coupling_flow, iaf, maf, molecular_flow
    from .generator import BoltzmannGenerator
    from .molecule import Molecule
    from .reporting import Verdict, judge, write_report
    from .reweighting import (
        Estimate,
        effective_sample_size,
        expectation,
        expectations,
        free_energy_difference,
        histogram,
        log_partition,
        pareto_k,
        probability,
        profile,
        quantile,
        thermodynamics,
        variance,
    )
    from .sampling import Samples, draw, explore, refine, reweight, simulate, weigh
    from .training import (
        AnnealedReplay,
        History,
        alpha_divergence,
        anneal,
        chart_data,
        coordinate_entropy,
        distill,
        flow_matching,
        force_matching,
        forward_kl,
        log_variance,
        reverse_kl,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "AnnealedReplay",
    "Bijection",
    "BoltzgenError",
    "BoltzmannGenerator",
    "CheckpointError",
    "Energy",
    "EnergyError",
    "Estimate",
    "Flow",
    "ForceFieldEnergy",
    "History",
    "InputError",
    "InternalCoordinates",
    "ModuleEnergy",
    "Molecule",
    "OpenMMEnergy",
    "Pullback",
    "Samples",
    "Softened",
    "Tempered",
    "UnreliableEstimateWarning",
    "UnsupportedSystemError",
    "Verdict",
    "alpha_divergence",
    "anneal",
    "chart_data",
    "coordinate_entropy",
    "coupling_flow",
    "distill",
    "draw",
    "effective_sample_size",
    "expectation",
    "expectations",
    "explore",
    "flow_matching",
    "force_matching",
    "forward_kl",
    "free_energy_difference",
    "histogram",
    "iaf",
    "judge",
    "log_partition",
    "log_variance",
    "maf",
    "molecular_flow",
    "pareto_k",
    "probability",
    "profile",
    "quantile",
    "refine",
    "reverse_kl",
    "reweight",
    "simulate",
    "thermodynamics",
    "toys",
    "train",
    "variance",
    "weigh",
    "write_report",
]

_ROOMS = (
    "errors", "units", "energies", "flows", "molecule", "coordinates", "training", "sampling", "reweighting",
    "reporting", "generator",
)  # fmt: skip

if not TYPE_CHECKING:  # type checkers see the imports above

    def __getattr__(name: str) -> object:
        if name in _ROOMS:
            return import_module(f".{name}", __name__)
        if name in __all__:
            for room in _ROOMS:
                if hasattr(import_module(f".{room}", __name__), name):
                    return getattr(import_module(f".{room}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return [*globals(), *__all__, *_ROOMS]
