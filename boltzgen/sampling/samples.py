"""What a draw leaves behind: configurations, their densities and energies, and hence their weights."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import counts, four_atoms, positive_counts
from ..coordinates import dihedral
from ..errors import CheckpointError, InputError
from ..flows.noise import keyed_generator
from ..units import positive_temperature
from .ensemble import read_ensemble, write_ensemble
from .trajectory import as_trajectory

if TYPE_CHECKING:
    import mdtraj

__all__ = ["Samples", "fresh_seed", "systematic"]

_ROWS = ("x", "log_q", "u", "cartesian", "potential")
_PLAIN = ("temperature", "system", "seed", "first", "independent", "topology", "torsions", "provenance")


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """Weighted draws of a target: log w = −u(x) − log q(x), to be used as weights w / Σw.

    A draw that could not be evaluated has u = +inf and weight 0; it stays, and counts in n. Numbers of such a draw that
    are not finite are stored as zeros; NaN never occurs. Everything lies in main memory and is plain data, so that a
    saved ensemble needs neither the molecule nor OpenMM to be read.

    The energies belong to the configurations as they were drawn. Do not compute them again from a trajectory file:
    XTC rounds positions, which costs 0.8 kT of noise for 22 atoms.

    Attributes:
        x: configurations (n, *event) as the flow drew them; for molecules the internal coordinates.
        log_q: log-density of the flow (n,), float64.
        u: reduced energy of the target (n,), float64, in kT.
        temperature: K; 1.0 for targets that have none.
        system: name of the molecule or of the target.
        seed: of the draw; None if these are not consecutive draws of one seed.
        first: number of the first of them among the draws of the seed.
        independent: whether the rows are independent draws, as every error bar assumes.
        cartesian: what `positions()` returns; None without a molecule.
        potential: U(x)/kT of the positions (n,), float64; None without a molecule.
        topology: `Molecule.topology_data`; None without a molecule.
        torsions: name → four atom indices.
        provenance: which release of "boltzgen" made them, and hashes of the "target" they are weighed for and of the
            "flow" with its parameters, as far as they are known; of pooled draws perhaps several.

    Raises:
        InputError: if shapes disagree, a number is NaN, or log_q is infinite where u is finite.
    """

    x: Tensor
    log_q: Tensor
    u: Tensor
    temperature: float = 1.0
    system: str = ""
    seed: int | None = None
    first: int = 0
    independent: bool = True
    cartesian: Tensor | None = None
    potential: Tensor | None = None
    topology: Mapping[str, Any] | None = None
    torsions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self._columns().items():
            if not isinstance(value, Tensor):
                raise InputError(f"{name} must be a tensor; got {type(value).__name__}: use torch.as_tensor({name})")
            value = value.detach().cpu()
            object.__setattr__(self, name, value if name in ("x", "cartesian") else value.double())
            if len(value) != len(self.x) or (name in ("log_q", "u", "potential") and value.ndim != 1):
                raise InputError(
                    f"{name} must have one row for each of the {len(self.x)} rows of x; got shape "
                    f"{tuple(value.shape)}: pass what belongs to the same draws"
                )
            if value.isnan().any():
                raise InputError(
                    f"{name} must not hold NaN; got {int(value.isnan().sum())} of them: give such draws u = +inf"
                )
        if not (self.log_q.isfinite() | self.u.isposinf()).all() or self.u.isneginf().any():
            raise InputError(
                "log_q must be finite wherever u is, and u never -inf; got draws for which a weight is not defined: "
                "give them u = +inf"
            )
        (first,) = counts(first=self.first)
        plain = {
            "temperature": positive_temperature(self.temperature),
            "seed": None if self.seed is None else fresh_seed(self.seed),
            "first": first,
            "independent": bool(self.independent),
            "torsions": {name: [int(i) for i in atoms] for name, atoms in self.torsions.items()},
            "provenance": {str(name): str(value) for name, value in self.provenance.items()},
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def log_w(self) -> Tensor:
        """Log-weights −u − log q with respect to the target (n,), float64; −inf where u is +inf."""
        return torch.where(self.u.isposinf(), -torch.inf, -self.u - self.log_q)

    @property
    def n_failed(self) -> int:
        """Number of draws with u = +inf."""
        return int(self.u.isposinf().sum())

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        where = "" if self.topology is None else f" at {self.temperature:g} K"
        return f"Samples({len(self)} of {self.system or 'a target'}{where}, {self.n_failed} failed)"

    def positions(self) -> Tensor:
        """Cartesian positions (n, n_atoms, 3), float32, in nm.

        Raises:
            InputError: if the target is not a molecule.
        """
        if self.cartesian is None:
            raise InputError(
                f"positions must come from a molecule; got samples of {self.system or 'another target'}: use samples.x"
            )
        return self.cartesian

    def torsion(self, atoms: str | Sequence[int]) -> Tensor:
        """Dihedral angle of four atoms (n,), float64, in radians within [−π, π), cis = 0 (IUPAC sign).

        Arguments:
            atoms: a name in `torsions`, or four atom indices.

        Raises:
            InputError: if the target is not a molecule, the name is unknown, or the atoms are not four different ones.
        """
        positions = self.positions()
        if isinstance(atoms, str) and atoms not in self.torsions:
            known = ", ".join(self.torsions) or "none"
            raise InputError(
                f"a torsion must be one of {known}; got {atoms!r}: name one of these, or four atom indices"
            )
        quadruple = four_atoms(self.torsions[atoms] if isinstance(atoms, str) else atoms, positions.shape[1])
        return dihedral(positions.double(), quadruple)

    def __getitem__(self, rows: slice | Tensor | np.ndarray[Any, Any] | Sequence[int]) -> Samples:
        """The chosen rows, by slice, boolean mask or indices.

        Each keeps its weight. But rows chosen by what they are no longer follow the flow: log Z, and whatever is
        compared between such parts, needs all the draws. Estimators take masks for that. Rows that come twice are not
        independent.
        """
        n, once = len(self), True
        if isinstance(rows, slice):
            if rows.step is not None and rows.step < 0:  # torch goes forwards only
                rows = torch.tensor(range(n)[rows], dtype=torch.long)
        else:
            rows = rows if isinstance(rows, Tensor) else torch.as_tensor(np.array(rows, order="C"))
            if rows.ndim != 1 or rows.is_floating_point() or (rows.dtype == torch.bool and len(rows) != n):
                raise InputError(
                    f"rows must be a slice, a mask of shape ({n},) or a list of indices; got a tensor of shape "
                    f"{tuple(rows.shape)} and {rows.dtype}: use samples[i : i + 1] for a single row"
                )
            if rows.dtype != torch.bool and not ((rows >= -n) & (rows < n)).all():
                raise InputError(
                    f"rows must be between 0 and {n - 1}; got {rows.min()} to {rows.max()}: choose among {n} draws"
                )
            once = rows.dtype == torch.bool or len(set((rows % max(n, 1)).tolist())) == len(rows)
        columns = {name: value[rows] for name, value in self._columns().items()}
        return replace(self, seed=None, first=0, independent=self.independent and once, **columns)

    def __add__(self, other: Samples) -> Samples:
        """Pooled draws of the same target, from this flow or another; every row keeps its weight.

        Each flow must reach the whole target, as for any weighted draw: pooling does not mend a flow that lost a mode.
        Draws of one seed, of which the second follow the first, become one longer draw.

        Raises:
            InputError: if the targets differ, by their hashes where both are known; both were drawn with the same seed
                and do not follow one another; or the first draw of one, its seed forgotten by pooling, is in the other.
        """
        if not isinstance(other, Samples):
            return NotImplemented
        mine, its = self._target(), other._target()
        differing = [name for name in mine if mine[name] != its[name]]
        if differing:
            raise InputError(
                f"samples to pool must be of one target; got different {differing[0]}: pool draws of the same system"
            )
        hashes = [one.provenance.get("target") for one in (self, other)]
        if None not in hashes and hashes[0] != hashes[1]:
            raise InputError(
                f"samples to pool must be of one target; got two called {self.system!r} whose force fields or "
                f"parameters differ, {hashes[0]} and {hashes[1]}: reweight(samples, target) both for one of them first"
            )
        follow = self.seed is not None and self.seed == other.seed
        if follow and other.first != self.first + len(self):
            raise InputError(
                f"samples to pool must be independent, or follow one another; got seed {self.seed} twice, draws from "
                f"{self.first} to {self.first + len(self)} and from {other.first} on: draw with another seed, or add "
                "the parts of one draw in their order, all of them"
            )
        if self.seed is None or other.seed is None:
            for one, two in ((self, other), (other, self)):
                if len(one) and len(two) and bool((two.x == one.x[0]).flatten(1).all(1).any()):
                    raise InputError(
                        "samples to pool must be independent; got draws that are there already: add each part once"
                    )
        columns = other._columns()
        rows: dict[str, Any] = {name: torch.cat([value, columns[name]]) for name, value in self._columns().items()}
        seed, first = (self.seed, self.first) if follow else (None, 0)
        independent = self.independent and other.independent
        provenance = _united(self.provenance, other.provenance)
        return replace(self, seed=seed, first=first, independent=independent, provenance=provenance, **rows)

    def at(self, temperature: float) -> Samples:
        """The same draws with their weights at another temperature: u becomes u + (T₀/T − 1)·potential.

        No energy is evaluated: the samples know U. How far it reaches Pareto k tells: `judge` the result.

        Arguments:
            temperature: T in K.

        Raises:
            InputError: if the samples do not know what a temperature divides, or it is not positive.

        References:
            Ferrenberg & Swendsen, Phys. Rev. Lett. 61, 2635 (1988).
        """
        temperature = positive_temperature(temperature)
        if self.potential is None:
            raise InputError(
                f"samples must hold the potential to change their temperature; got those of "
                f"{self.system or 'another target'} without: use reweight(samples, target.at({temperature:g}))"
            )
        ratio = self.temperature / temperature
        u = torch.where(self.u.isposinf(), torch.inf, self.u + (ratio - 1) * self.potential)
        provenance = {name: value for name, value in self.provenance.items() if name != "target"}
        return replace(self, u=u, temperature=temperature, potential=ratio * self.potential, provenance=provenance)

    def resample(self, n: int, *, seed: int | None = None) -> Samples:
        """n equally weighted rows, each drawn with a probability in proportion to its weight (systematic resampling).

        Their log_q becomes −u − log Ẑ, the density of the target as estimated from these weights, so that every
        log_w is log Ẑ. Heavy draws come several times: the rows are no longer independent, and errors and effective
        sample sizes taken from them are too good. Resample to look at configurations; estimate from the weights.

        Arguments:
            n: number of rows.
            seed: a non-negative integer; taken from the default generator of torch if None.

        Raises:
            InputError: if n is not positive, or every weight is zero.

        References:
            Douc & Cappé, Comparison of resampling schemes for particle filtering (2005).
        """
        positive_counts(n=n)
        log_w = self.log_w
        if self.n_failed == len(self):
            raise InputError(
                f"at least one draw must have a finite energy; got none of {len(self)}: check the target and the flow"
            )
        generator = keyed_generator(fresh_seed(seed))
        chosen = self[systematic(log_w, n, generator)]
        log_z = log_w.logsumexp(0) - math.log(len(self))
        return replace(chosen, log_q=-chosen.u - log_z, independent=False)

    def to_mdtraj(self, *, resample: int | None = None, seed: int | None = None) -> mdtraj.Trajectory:
        """The configurations as an `mdtraj.Trajectory`, frame by frame.

        A trajectory has no weights: its frames follow the flow, not the target, and `log_w` remains here. With
        `resample=n`, n frames drawn by weight follow the target; see the method of that name for their use.

        Arguments:
            resample: number of frames to draw by weight; None for every frame as it is.
            seed: of the resampling.

        Raises:
            InputError: if the target is not a molecule.
        """
        positions = self.positions() if resample is None else self.resample(resample, seed=seed).positions()
        if self.topology is None:
            raise InputError("a trajectory must have a topology; got samples without one: use samples.positions()")
        return as_trajectory(positions, dict(self.topology))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the weighted ensemble as an npz file that `load` reads back bit for bit.

        Its members are x, log_q, u, cartesian and potential as above, and log_w, for programs that read the file with
        `numpy.load(path, allow_pickle=False)`; metadata is JSON.

        Raises:
            OSError: if the file cannot be written; an older one is left intact.
        """
        arrays = {name: value.numpy() for name, value in (*self._columns().items(), ("log_w", self.log_w))}
        write_ensemble(path, arrays, {name: getattr(self, name) for name in _PLAIN})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Samples:
        """The samples saved at `path`.

        Arguments:
            path: a file written by `save`, or the folder of a run or a simulation with such a file samples.npz in it.

        Raises:
            InputError: if there is no such file.
            CheckpointError: if it is damaged or something else.
        """
        path = Path(path) / "samples.npz" if os.path.isdir(path) else path
        arrays, metadata = read_ensemble(path)
        arrays.pop("log_w", None)  # follows from u and log_q
        try:
            fields: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
            return cls(**fields, **metadata)
        except (TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{os.fspath(path)} does not hold samples ({error}): use another file") from None

    def _columns(self) -> dict[str, Any]:
        """Whatever has one row for each draw."""
        return {name: value for name in _ROWS if (value := getattr(self, name)) is not None}

    def _target(self) -> dict[str, Any]:
        """What samples that may be pooled have in common."""
        return {
            "system": self.system,
            "temperature": self.temperature,
            "event shape": tuple(self.x.shape[1:]),
            "dtype": self.x.dtype,
            "columns": list(self._columns()),
            "topology": self.topology,
        }


def _united(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Both provenances; where they differ, what either says, each once."""
    said = {name: [*one.get(name, "").split(), *other.get(name, "").split()] for name in (*one, *other)}
    return {name: " ".join(dict.fromkeys(words)) for name, words in said.items()}


def fresh_seed(seed: int | None = None) -> int:
    """The seed given, or one from torch's default generator for those who give none.

    Raises:
        InputError: if it is not a non-negative integer.
    """
    return int(torch.randint(2**62, ())) if seed is None else counts(seed=seed)[0]


def systematic(log_w: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n rows in proportion to their weights: evenly spaced marks on the cumulated weights, from one random offset."""
    share = (log_w - log_w.max()).exp().cumsum(0)
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    marks = ((torch.arange(n, dtype=torch.float64) + offset) / n).clamp_max(1 - 1e-16).to(share.device) * share[-1]
    return torch.searchsorted(share, marks, right=True).clamp_max(len(share) - 1)
