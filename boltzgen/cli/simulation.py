"""Molecular dynamics to compare with, or to start from: replica exchange that survives an interruption."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import device_of
from ..errors import InputError
from ..files import exclusive
from ..run_folder import RunFolder
from .origins import origin
from .printing import goes_on, number, print_json, say
from .targets import target_of

if TYPE_CHECKING:
    from ..molecule import Molecule
    from ..molecule.systems import System
    from ..reweighting import Estimate
    from ..sampling import Samples

__all__ = ["simulate"]

_STEPS = 40  # of a trajectory: torsions only diffuse if it is short
_STEP_SIZE = 0.0028  # ps, a first guess
_MASS = 12.0  # Da, of every atom: masses choose the speed, not the answer
_EQUILIBRATION = 200  # rounds, in which the time steps are found too
_SETTINGS = ("system", "n", "temperature", "hot", "walkers", "forcefield", "seed", "threads", "device")
"""What a simulation is told."""
_FEWEST = 4  # rounds whose correlation can be told


def simulate(options: argparse.Namespace) -> None:
    """Equilibrium frames by replica exchange, kept as an ensemble of equal weights and as a trajectory."""
    import torch

    from ..progress import show
    from ..sampling import replica_exchange
    from ..sampling.trajectory import write_trajectory
    from ..units import kT

    target = target_of(options.system, options.forcefield)
    molecule = _molecule(target)
    temperature = options.temperature or molecule.default_temperature
    ladder = _ladder(temperature, options.hot, molecule.n_atoms)
    say(f"{molecule.name}: {options.walkers} walkers at {', '.join(f'{t:.0f}' for t in ladder)} K")
    say(f"interrupt it at any time; it goes on with: {goes_on(options)}")
    out, device = Path(options.out), device_of(options.device)
    resolved = {"temperature": temperature, "temperatures": ladder, "device": str(device)}
    told = {name: getattr(options, name) for name in _SETTINGS}
    about = origin(told, target, resolved, {"molecule": molecule.fingerprint})
    folder = RunFolder(out, about, kind="simulation")
    start = torch.tensor(molecule.minimized().positions, dtype=torch.float32, device=device)
    rounds = math.ceil(options.n / options.walkers)
    total = _EQUILIBRATION + rounds
    with exclusive(out):
        folder.require_own()
        with show("simulating", visible=True, unit="rounds") as bar:

            def shown(fraction: float, message: str = "", *, count: float | None = None) -> None:
                folder.start()  # once the checkpoint is taken up
                bar(fraction, message, count=total * fraction)

            found = replica_exchange(
                molecule.energy(temperature).to(device),
                start,
                _MASS / kT(temperature),
                ladder,
                walkers=options.walkers,
                rounds=rounds,
                steps=_STEPS,
                step_size=_STEP_SIZE,
                seed=options.seed,
                equilibration=_EQUILIBRATION,
                checkpoint=out / "simulation.pt",
                fingerprint=molecule.fingerprint,
                show=shown,
            )
        samples = found.samples(molecule)
        samples.save(out / "samples.npz")
        trajectory = samples.to_mdtraj()
        write_trajectory(trajectory, out / "frames.dcd")
        write_trajectory(trajectory[0], out / "topology.pdb")
    estimates = _estimates(molecule, samples, found.u[:, 0].shape)
    mixing = {
        "acceptance": [round(float(a), 3) for a in found.acceptance],
        "swaps": [round(float(s), 3) for s in found.swaps],
        "round_trips": int(found.round_trips.sum()),
        "equilibration": _EQUILIBRATION,
    }
    if options.json:
        print_json(
            {"system": molecule.name, "temperature": temperature, "n": len(samples), "estimates": estimates} | mixing
        )
    else:
        print(f"\n{molecule.name}: {len(samples)} frames at {temperature:g} K, {mixing['round_trips']} round trips")
        print(f"  acceptance {mixing['acceptance']}, swaps {mixing['swaps']}, {_EQUILIBRATION} rounds to equilibrate")
        for name, entry in estimates.items():
            print(f"  {name:<32} {number(entry)} {entry['unit']}  (worth {entry['ess']:.0f} independent frames)")
    if not mixing["round_trips"] and len(ladder) > 1:
        say("no configuration went to the highest temperature and back: simulate longer before you trust this")
    say(f"written: {out}/samples.npz, frames.dcd, topology.pdb")


def _molecule(target: Molecule | System) -> Molecule:
    from ..molecule.systems import System

    if not isinstance(target, System):
        return target
    if target.toy is not None:
        raise InputError(f"{target.name} must be a molecule to be simulated; got a toy: it can sample itself")
    return target.molecule()


def _ladder(lowest: float, highest: float | None, n_atoms: int) -> list[float]:
    """Temperatures in constant ratio, so close that about every second exchange of 3N degrees of freedom succeeds."""
    hot = max(1000.0, 2 * lowest) if highest is None else highest
    if hot < lowest:
        raise InputError(f"--hot must not be below the temperature; got {hot:g} and {lowest:g}: give a higher one")
    steps = math.ceil(math.log(hot / lowest) * math.sqrt(1.5 * n_atoms))
    return [lowest * (hot / lowest) ** (k / steps) for k in range(steps + 1)] if steps else [lowest]


def _estimates(molecule: Molecule, samples: Samples, shape: Sequence[int]) -> dict[str, dict[str, Any]]:
    """⟨U⟩ and, with a torsion called phi, ΔF from φ < 0 to φ > 0, with errors that know the frames are correlated."""
    from ..reweighting import chain_average
    from ..units import kT

    if samples.potential is None or shape[0] < _FEWEST:
        return {}
    energy = chain_average((samples.potential * kT(samples.temperature)).view(shape).mean(1))
    found = {"mean_potential_energy": _entry(energy, "kJ/mol", shape[1])}
    if "phi" in molecule.torsions:
        share = chain_average((samples.torsion("phi") > 0).double().view(shape).mean(1))
        p = share.value
        inside = 0 < p < 1
        entry = _entry(share, "kT", shape[1])
        entry["value"] = math.log((1 - p) / p) if inside else None
        error = entry["standard_error"]
        entry["standard_error"] = error / (p * (1 - p)) if inside and error is not None else None
        found["free_energy_difference_phi"] = entry
    return found


def _entry(estimate: Estimate, unit: str, walkers: int) -> dict[str, Any]:
    error = estimate.standard_error if math.isfinite(estimate.standard_error) else None
    return {"value": estimate.value, "standard_error": error, "unit": unit, "ess": walkers * estimate.ess}
