"""From weights to numbers: effective sample size, Pareto k, observables, log Z and free energies with their errors."""

from .estimate import Estimate
from .estimators import expectation, free_energy_difference, log_partition, probability
from .pareto import pareto_k, reliability_threshold
from .weights import clipped_effective_sample_size, effective_sample_size, normalized_weights

__all__ = [
    "Estimate",
    "clipped_effective_sample_size",
    "effective_sample_size",
    "expectation",
    "free_energy_difference",
    "log_partition",
    "normalized_weights",
    "pareto_k",
    "probability",
    "reliability_threshold",
]
