"""From weights to numbers: effective sample size, Pareto k, observables, log Z and free energies with their errors."""

from .bootstrapping import bootstrap
from .chains import Chain, autocorrelation_time, chain_average, independence_metropolis
from .estimate import Estimate
from .estimate_array import BinnedEstimate, EstimateArray
from .estimators import expectation, free_energy_difference, log_partition, probability
from .free_energies import bennett_acceptance_ratio, exponential_average, free_energy_change, mbar_arrays
from .histograms import histogram, profile
from .moments import expectations, variance
from .multistate import multistate_arrays
from .pareto import pareto_k, reliability_threshold, smoothed_log_weights
from .populations import by_population
from .quantiles import quantile
from .references import evidence_upper_bound, forward_effective_fraction
from .temperatures import Thermodynamics, at_temperature, thermodynamics
from .torsion_grid import Conformers, conformers
from .weights import (
    clipped_effective_sample_size,
    effective_sample_size,
    largest_weight,
    normalized_weights,
    weight_entropy,
)

__all__ = [
    "BinnedEstimate",
    "Chain",
    "Conformers",
    "Estimate",
    "EstimateArray",
    "Thermodynamics",
    "at_temperature",
    "autocorrelation_time",
    "bennett_acceptance_ratio",
    "bootstrap",
    "by_population",
    "chain_average",
    "clipped_effective_sample_size",
    "conformers",
    "effective_sample_size",
    "evidence_upper_bound",
    "expectation",
    "expectations",
    "exponential_average",
    "forward_effective_fraction",
    "free_energy_change",
    "free_energy_difference",
    "histogram",
    "independence_metropolis",
    "largest_weight",
    "log_partition",
    "mbar_arrays",
    "multistate_arrays",
    "normalized_weights",
    "pareto_k",
    "probability",
    "profile",
    "quantile",
    "reliability_threshold",
    "smoothed_log_weights",
    "thermodynamics",
    "variance",
    "weight_entropy",
]
