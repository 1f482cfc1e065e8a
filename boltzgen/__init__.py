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
from .flows import Bijection, Flow, coupling_flow, iaf, maf, molecular_flow
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
from .sampling import Samples, draw
from .training import History, anneal, distill, forward_kl, reverse_kl, train

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
    "distill",
    "draw",
    "effective_sample_size",
    "expectation",
    "forward_kl",
    "free_energy_difference",
    "iaf",
    "judge",
    "log_partition",
    "maf",
    "molecular_flow",
    "pareto_k",
    "probability",
    "reverse_kl",
    "toys",
    "train",
    "write_report",
]
