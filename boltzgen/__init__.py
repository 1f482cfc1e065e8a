"""Boltzmann generators: independent equilibrium samples of a molecule, with weights and honest error bars."""

from .coordinates import InternalCoordinates
from .energies import Energy, ForceFieldEnergy, OpenMMEnergy, Pullback, Softened, Tempered, toys
from .errors import (
    BoltzgenError,
    CheckpointError,
    EnergyError,
    InputError,
    UnreliableEstimateWarning,
    UnsupportedSystemError,
)
from .flows import Bijection, Flow, coupling_flow, molecular_flow
from .generator import BoltzmannGenerator
from .molecule import Molecule
from .reporting import Verdict, judge, write_report
from .reweighting import (
    Estimate,
    effective_sample_size,
    expectation,
    free_energy_difference,
    log_partition,
    pareto_k,
    probability,
)
from .sampling import Samples, draw, simulate
from .training import History, anneal, forward_kl, reverse_kl, train

__version__ = "0.1.0"

__all__ = [
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
    "Molecule",
    "OpenMMEnergy",
    "Pullback",
    "Samples",
    "Softened",
    "Tempered",
    "UnreliableEstimateWarning",
    "UnsupportedSystemError",
    "Verdict",
    "anneal",
    "coupling_flow",
    "draw",
    "effective_sample_size",
    "expectation",
    "forward_kl",
    "free_energy_difference",
    "judge",
    "log_partition",
    "molecular_flow",
    "pareto_k",
    "probability",
    "reverse_kl",
    "simulate",
    "toys",
    "train",
    "write_report",
]
