"""Whether a molecule can be sampled, minutes before hours: everything is built, tried out, and timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import device_of, instances
from ..coordinates import InternalCoordinates, stereocentres
from ..energies import Energy, HybridEnergy, OpenMMEnergy, Pullback
from ..errors import EnergyError
from ..flows import Flow, molecular_flow
from ..molecule import Molecule
from ..sampling import draw, simulate
from ..training import reverse_kl
from ..units import kT
from .lights import SEVERITY, Check, Status, check, grade

__all__ = ["Checkup", "examine"]

_BATCH = 512
_TRAINING_SAMPLES = 4e6
"""rows through the flow in ten minutes of training alanine dipeptide: what a decent flow of a small peptide takes."""
_JACOBIAN_ROWS = 256
"""of the whole Jacobian that are computed at once: it takes a second or two for a thousand atoms."""
_ELSEWHERE = 'take molecule.energy(temperature, backend="openmm") in its place'
_REPORT = "report it with what `boltzgen doctor` prints"
_MOVED_ATOMS, _STEPS, _STEP_SIZE, _FRICTION = 1000, 200, 1e-3, 10.0
"""of the dynamics that looks for ways out of the chart: 0.2 ps of 8 to 32 walkers, some thousand atoms together."""


@dataclass(frozen=True)
class Checkup:
    """What a molecule is made of, how it will be sampled, and whether all of it works. Printed, it is a page.

    Attributes:
        molecule: what was examined.
        temperature: K.
        forces: where each force is evaluated, a line each.
        zmatrix: a line for each coordinate: its name, its value in the structure, what kind it is.
        stereocentres: atoms whose hand stays that of the structure: "ALA2: L" for amino acids, else the atom's name.
        rotors: symmetric rotors of which one sector is sampled, and hydrogens of −NH₂ of which one labelling is.
        angles: the three that are nearest to 0° or 180°, where a coordinate would end.
        checks: the self-tests.
        speed: measured times in µs per configuration: energy with gradient, and a training sample.
        minutes: estimated time to train, on this machine as it is now, before its code is compiled.
        bytes_per_draw: kept for each draw.
    """

    molecule: Molecule
    temperature: float
    forces: list[str]
    zmatrix: list[str]
    stereocentres: list[str]
    rotors: list[str]
    angles: list[str]
    checks: list[Check]
    speed: dict[str, float]
    minutes: float
    bytes_per_draw: int

    @property
    def status(self) -> Status:
        """ "green", "amber" or "red": that of the worst check."""
        return max((one.status for one in self.checks), key=SEVERITY.index)

    def __str__(self) -> str:
        m = self.molecule
        lines = [
            f"{m.name}: {m.n_atoms} atoms, {3 * m.n_atoms - 6} internal coordinates, {self.temperature:g} K",
            *(f"  force    {line}" for line in self.forces),
            *(f"  centre   {line}" for line in self.stereocentres),
            *(f"  rotor    {line}" for line in self.rotors),
            *(f"  angle    {line}" for line in self.angles),
            "",
            *(f"  {line}" for line in self.zmatrix),
            "",
        ]
        for one in self.checks:
            lines.append(f"  {one.status:<6} {one.name:<34} {one.shown:>9}   wanted: {one.wanted}")
            if one.next_step:
                lines.append(f"         {one.meaning} → {one.next_step}")
        lines += [
            "",
            *(
                f"  {name}: {_rounded(value)} µs, {_rounded(1e6 / value)} a second"
                for name, value in self.speed.items()
            ),
            f"  training takes about {_rounded(self.minutes)} minutes, less once its code is compiled,",
            "  and ten times as long for the last per cents",
            f"  100 000 draws take {1e5 * self.bytes_per_draw / 2**20:.0f} MiB",
        ]
        return "\n".join(lines)


def examine(
    molecule: Molecule,
    temperature: float | None = None,
    *,
    hold: Sequence[str] = (),
    device: str | torch.device = "cpu",
) -> Checkup:
    """Builds everything that sampling a molecule needs and tries it out on that molecule.

    Arguments:
        molecule: any.
        temperature: K; the molecule's own if None.
        hold: torsions to keep near those of the structure, see `InternalCoordinates`.
        device: where to compute, as of `BoltzmannGenerator.to`.

    Raises:
        InputError, UnsupportedSystemError: if something cannot be built, saying why.
        EnergyError: if the compiled energy disagrees with OpenMM.
    """
    instances(molecule=(molecule, Molecule))
    device = device_of(device)
    temperature = molecule.default_temperature if temperature is None else temperature
    energy = molecule.energy(temperature).to(device)
    coordinates = InternalCoordinates(molecule, hold=hold)
    target = Pullback(energy, coordinates)
    flow = molecular_flow(coordinates.circular, *coordinates.harmonic_scales(temperature)).to(device)
    coordinates.to(device)
    speed = {
        "energy with gradient, per configuration": _energy_time(energy, molecule, device),
        "training sample": _training_time(flow, target),
    }
    describe = getattr(energy, "describe", None)
    return Checkup(
        molecule,
        temperature,
        describe().splitlines() if describe else [f"all: OpenMM, {type(energy).__name__}"],
        _rows(coordinates),
        _hands(molecule),
        [
            *(", ".join(molecule.atom_labels[i] for i in rotor.members) for rotor in coordinates.rotors),
            *(f"{', '.join(molecule.atom_labels[i] for i in pair)}, exchanged" for pair in coordinates.exchanges),
        ],
        _worst_angles(coordinates),
        [
            *_of_energy(energy, molecule, device),
            *_of_coordinates(coordinates),
            _of_dynamics(coordinates, energy.at(2 * temperature)),
            _of_flow(flow, target),
        ],
        speed,
        _TRAINING_SAMPLES * speed["training sample"] / 60e6,
        4 * (3 * molecule.n_atoms - 6) + 12 * molecule.n_atoms + 32,
    )


def _of_energy(energy: Energy, molecule: Molecule, device: torch.device) -> list[Check]:
    x = _perturbed(molecule, 16, device)
    leaf = x[:4].requires_grad_()
    (gradient,) = torch.autograd.grad(energy.energy(leaf).sum(), leaf)
    along = torch.randn(gradient.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1)).to(x)
    near, far = (
        (energy.energy(x[:4] + h * along) - energy.energy(x[:4] - h * along)).detach() / (2 * h) for h in (1e-5, 2e-5)
    )
    slope = (4 * near - far) / 3  # without the error of second order in the step
    scale = 1 + (gradient.flatten(1).norm(dim=1) * along.flatten(1).norm(dim=1))
    wrong = float(((slope - (gradient * along).sum((1, 2))).abs() / scale).max())
    return [
        _against_openmm(energy, molecule, x),
        _small("gradient against differences", wrong, 1e-6, "largest relative difference", _ELSEWHERE),
    ]


def _against_openmm(energy: Energy, molecule: Molecule, x: Tensor) -> Check:
    name = "energy against OpenMM"
    if isinstance(energy, OpenMMEnergy) and not isinstance(energy, HybridEnergy):
        return Check(name, None, "nothing: it is OpenMM's own", "green", "OpenMM would be compared with itself")
    reference = OpenMMEnergy(molecule.system, energy.temperature, platform="Reference")
    u, expected = energy.energy(x), reference.energy(x)
    off = float(((u - expected).abs() / (1 + expected.abs())).max())
    return _small(name, off, 1e-6, "largest relative difference", _ELSEWHERE)


def _of_coordinates(coordinates: InternalCoordinates) -> list[Check]:
    x = _perturbed(coordinates.molecule, 8, coordinates.reference.device)
    y, log_det = coordinates.inverse(x)
    inside = torch.isfinite(log_det)
    back, _ = coordinates(y[inside])
    again, _ = coordinates.inverse(back)
    turn = (again - y[inside]).abs()
    turn = torch.where(coordinates.circular, torch.minimum(turn, (turn - 2 * math.pi).abs()), turn)
    row = coordinates.reference
    off = abs(float(coordinates(row[None])[1]) - _square_log_det(coordinates, row))
    return [
        _small("structure and back", float(turn.max()) if len(turn) else math.inf, 1e-8, "largest change", _REPORT),
        check(
            "perturbed structures in the chart", float(inside.double().mean()), "at least 95 %",
            grade(float(inside.double().mean()), 0.95, 0.5), "share of small distortions that have coordinates",
            "minimise the structure: some angle is near 0° or 180°, or a centre is nearly flat", percent=True,
        ),
        _small("measure against the whole Jacobian", off, 1e-6, "difference of log|det|", _REPORT),
    ]  # fmt: skip


def _square_log_det(coordinates: InternalCoordinates, y: Tensor) -> float:
    """log |det| of the map from translation, rotation and y to positions; the rotation near the identity has 1."""

    def positions(p: Tensor) -> Tensor:
        x: Tensor = coordinates.forward(p[6:][None])[0][0]
        axis = p[3:6].expand_as(x)
        moved: Tensor = x + torch.linalg.cross(axis, x) + p[:3]  # a rotation to first order, at no rotation
        return moved.flatten()

    jacobian = torch.func.jacrev(positions, chunk_size=_JACOBIAN_ROWS)(torch.cat([y.new_zeros(6), y]))
    return float(torch.linalg.slogdet(jacobian).logabsdet)


def _of_dynamics(coordinates: InternalCoordinates, energy: Energy) -> Check:
    """Whether a dynamics at twice the temperature stays in the chart, and by which coordinate it leaves."""
    molecule, name = coordinates.molecule, "hot dynamics in the chart"
    masses = torch.tensor(molecule.masses / kT(energy.temperature))
    start = torch.tensor(molecule.minimized().positions).to(coordinates.reference.device, torch.float32)
    walkers = min(32, max(8, _MOVED_ATOMS // molecule.n_atoms))
    try:
        run = simulate(
            energy, start, masses, walkers=walkers, steps=_STEPS, thin=10,
            step_size=_STEP_SIZE, friction=_FRICTION, seed=1,
        )  # fmt: skip
    except EnergyError as error:
        return Check(
            name, None, "at least 99 %", "red", f"it broke off at {energy.temperature:g} K: {error}",
            "minimise the structure, and look for what its force field lets fly apart",
        )  # fmt: skip
    x = run.x.flatten(0, 1).to(coordinates.reference.device, torch.float64)
    share = float(torch.isfinite(coordinates.inverse(x)[1]).double().mean())
    ways = ", ".join(f"{way} ({k})" for way, k in list(coordinates.leaks(x).items())[:3])
    return check(
        name, share, "at least 99 %", grade(share, 0.99, 0.9),
        f"share of {len(x)} frames at {energy.temperature:g} K; they leave by {ways}",
        "minimise the structure, or accept that what lies outside is never drawn", percent=True,
    )  # fmt: skip


def _of_flow(flow: Flow, target: Pullback) -> Check:
    samples = draw(flow, target, 2000, seed=1)
    share = 1 - samples.n_failed / len(samples)
    return check(
        "untrained draws of finite energy", share, "at least 90 %", grade(share, 0.9, 0.5),
        "share of the harmonic approximation's draws", "train longer at the hot temperature", percent=True,
    )  # fmt: skip


def _energy_time(energy: Energy, molecule: Molecule, device: torch.device) -> float:
    x = _perturbed(molecule, _BATCH, device).float()

    def run() -> None:
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(energy.energy(leaf).sum(), leaf)

    return _time(run, device)


def _training_time(flow: Flow, target: Pullback) -> float:
    def run() -> None:
        reverse_kl(flow, target, _BATCH, soften=20.0, generator=torch.Generator().manual_seed(0)).backward()  # type: ignore[no-untyped-call]
        flow.zero_grad()

    return _time(run, next(flow.parameters()).device)


def _time(run: Callable[[], None], device: torch.device) -> float:
    """µs per row of a batch, the quickest of three, warmed up."""
    run()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # it is told and not waited for
        times.append(time.perf_counter() - begin)
    return 1e6 * min(times) / _BATCH


def _rows(coordinates: InternalCoordinates) -> list[str]:
    n, angle = coordinates.n_atoms, 180 / math.pi
    width = max(map(len, coordinates.labels))
    return [
        f"{label:<{width}}  {f'{y:8.4f} nm' if k < n - 1 else f'{angle * y:8.1f}°'}{'  circular' if turns else ''}"
        for k, (label, y, turns) in enumerate(
            zip(coordinates.labels, coordinates.reference.tolist(), coordinates.circular.tolist(), strict=True)
        )
    ]


def _worst_angles(coordinates: InternalCoordinates) -> list[str]:
    """The three bond angles nearest to 0° or 180°; those measured across a straight line are far from both."""
    n, angle = coordinates.n_atoms, 180 / math.pi
    found = list(zip(coordinates.reference.tolist(), coordinates.labels, strict=True))[n - 1 : 2 * n - 3]
    worst = sorted(found, key=lambda one: math.sin(one[0]))[:3]
    return [f"{label.removeprefix('angle ')}: {angle * y:.1f}°" for y, label in worst]


def _hands(molecule: Molecule) -> list[str]:
    """L or D of every residue with N, CA, C and CB, in the order of the chain, then the other stereocentres."""
    place = {label: i for i, label in enumerate(molecule.atom_labels)}
    found, named = [], set()
    for residue in dict.fromkeys(label.rpartition("-")[0] for label in molecule.atom_labels):
        atoms = [place.get(f"{residue}-{name}") for name in ("CA", "N", "C", "CB")]
        if None not in atoms:
            centre, *others = (torch.tensor(molecule.positions[i]) for i in atoms)
            a, b, c = (other - centre for other in others)
            found.append(f"{residue}: {'L' if float(torch.linalg.cross(a, b) @ c) > 0 else 'D'}")
            named.add(atoms[0])
    rest = [k for k in stereocentres(molecule.bonds, molecule.elements) if k not in named]
    return found + [f"{molecule.atom_labels[k]}: as in the structure" for k in rest]


def _perturbed(molecule: Molecule, n: int, device: torch.device) -> Tensor:
    """The structure with 0.003 nm of noise on every coordinate, (n, n_atoms, 3)."""
    noise = torch.randn(n, molecule.n_atoms, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (torch.tensor(molecule.positions) + 0.003 * noise).to(device)


def _rounded(value: float) -> str:
    """A count to two digits, "16 000"."""
    return f"{float(f'{value:.2g}'):,.0f}".replace(",", " ")


def _small(name: str, value: float, limit: float, meaning: str, remedy: str) -> Check:
    return check(name, value, f"at most {limit:g}", "green" if value <= limit else "red", meaning, remedy)
