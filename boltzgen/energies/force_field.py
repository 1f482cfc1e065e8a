"""An OpenMM System compiled to torch: all frames at once, differentiable, the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial, reduce
from operator import add
from typing import Any

import openmm
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..units import kT
from .energy import Energy
from .forces import (
    BondedForce,
    Force,
    Frames,
    PairForce,
    all_pairs,
    compile_force,
    evaluate,
    named_forces,
    particle_masses,
    rows,
    total_with_gradient,
)
from .openmm_system import check_evaluable, check_supported, notes
from .parity import require_parity

__all__ = ["ForceFieldEnergy"]

_AT_ONCE = 16_000  # bytes per √pair of all frames together that are fastest: between full caches and idle operations


class ForceFieldEnergy(Energy):
    """Reduced energy u(x) = U(x)/kT of an OpenMM System, as batched torch.

    It reads the System once and keeps nothing of it. Parameters are held in float64; u has the precision of x: float32
    for learning (about 1e-6 relative), float64 for accounting (1e-8 and better). Gradients of every order are exact.
    For speed, evaluate hundreds of frames at once and compile: `torch.compile(energy, dynamic=False)`.

    An energy and its gradient take at their height, in float32, about 80 bytes per frame and pair of atoms in vacuum,
    170 with OBC generalized Born, and 900 where pairs interact by other formulae: 2.2 GB for 1024 frames of 160 atoms
    in OBC. In float64 it is twice that. Where it passes `max_memory`, frames are evaluated a few at a time, one by one
    if need be: the same numbers in the same time. So it is in compiled code, of which such a piece is one
    (fullgraph=True allows no pieces, and torch compiles no more than eight kinds of them, by energy, size, dtype and
    whether a gradient is wanted). A second derivative evaluates them again, not compiled, and keeps everything; those
    of torch.func are for batches that fit.

    Arguments:
        system: an `openmm.System` without constraints and periodic boundaries, of harmonic bonds and angles, torsions
            (periodic, of Ryckaert and Bellemans, and their correction maps), nonbonded interactions, `GBSAOBCForce`
            without a cutoff, and custom forces of bonds, angles, torsions, compounds, centres of groups, external
            fields, pairs and generalized Born. Parameter offsets and formulae take the default values of global
            parameters. `HybridEnergy` leaves whatever else there is to OpenMM.
        temperature: in K.
        check: whether to compare energies and gradients with OpenMM's Reference platform, force by force, on a few
            distorted and clashing configurations.
        positions: a configuration for this comparison to start from, (n_atoms, 3), in nm; without one the atoms are
            strewn at random.
        seed: of the distortions.
        max_memory: bytes that an energy and its gradient may take, besides positions and the result.

    Raises:
        InputError: if the temperature or the memory is not positive.
        UnsupportedSystemError: if the System cannot be sampled as it stands, or has a force that is not compiled.
        EnergyError: if a force disagrees with OpenMM, naming it and the atoms; or OpenMM cannot evaluate the System.

    Example:
        >>> import openmm
        >>> system, bond = openmm.System(), openmm.HarmonicBondForce()
        >>> for _ in range(2):
        ...     _ = system.addParticle(12.0)
        >>> _ = bond.addBond(0, 1, 0.15, 1000.0)
        >>> _ = system.addForce(bond)
        >>> energy = ForceFieldEnergy(system, 300.0)
        >>> x = torch.tensor([[[0.0, 0.0, 0.0], [0.25, 0.0, 0.0]]])
        >>> energy.energy(x)
        tensor([2.0045])
        >>> energy.per_force(x)
        {'HarmonicBondForce': tensor([5.0000])}
    """

    compiled_methods = ("_energy",)

    _i: Tensor
    _j: Tensor

    def __init__(
        self,
        system: openmm.System,
        temperature: float,
        *,
        check: bool = True,
        positions: Any = None,
        seed: int = 0,
        max_memory: float = 2**32,
    ) -> None:
        check_supported(system)
        if check:
            check_evaluable(system)
        if not max_memory > 0:
            raise InputError(f"max_memory must be a positive number of bytes; got {max_memory!r}: pass e.g. 4e9")
        super().__init__((system.getNumParticles(), 3), temperature)
        forces = named_forces(system)
        self._names = list(forces)
        masses = particle_masses(system)
        compiled = [compile_force(force, masses) for force in forces.values()]
        self._forces = nn.ModuleList(compiled)
        self._bytes_per_pair = max([Force.bytes_per_pair, *(force.bytes_per_pair for force in compiled)])
        for name, atoms in zip(("_i", "_j"), all_pairs(system.getNumParticles()), strict=True):
            self.register_buffer(name, torch.from_numpy(atoms), persistent=False)
        self._beta = 1 / kT(temperature)
        self._max_memory = max_memory
        self._notes = notes(system)
        if check:
            require_parity(self, system, positions, seed=seed)

    def per_force(self, x: Tensor) -> dict[str, Tensor]:
        """Potential energy of each force by name, (n,) each, in kJ/mol; +inf where it cannot be evaluated.

        A force bears the name it has in the System, with a number if there are several. Pieces that fit `max_memory`
        are evaluated one after another; what their gradients need is kept all the same.

        Raises:
            InputError: if x does not have shape (n, n_atoms, 3).
        """
        self._check(x)
        pieces = [self._potentials(some) for some in torch.split(x, self._at_once(x)[0])]
        return {name: self._settle(torch.cat([U[name] for U in pieces]), x) for name in self._names}

    def describe(self) -> str:
        """Which force is evaluated where, and what there is to know of it, one per line."""
        forces = zip(self._names, self._forces, strict=True)
        lines = [f"{name}: torch, {type(force).__name__}" for name, force in forces]
        return "\n".join([*lines, *(f"{name}: {note}" for name, note in self._notes.items())])

    def _energy(self, x: Tensor) -> Tensor:
        rows, fitting = self._at_once(x)
        if torch.compiler.is_compiling():
            return self._reduced(x) if len(x) <= fitting else self._in_compiled_pieces(x, fitting)
        if len(x) <= rows:
            return self._reduced(x)
        if len(x) > fitting:
            return _in_pieces(x, rows, self._reduced, self._reduced)
        return torch.cat([self._reduced(some) for some in torch.split(x, rows)])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _in_compiled_pieces(self, x: Tensor, rows: int) -> Tensor:
        """Pieces of one size, for which code is compiled once: the last is filled up with its last frame."""
        full = torch.cat([x, x[-1:].expand(-len(x) % rows, -1, -1)])
        return _in_pieces(full, rows, partial(_compiled_reduced(), self), self._reduced)[: len(x)]

    def _at_once(self, x: Tensor) -> tuple[int, int]:
        """How many frames to evaluate at once, and how many could be for all the memory that there is.

        On a processor they are fewer of larger molecules, but by no means as few as fill the cache.
        """
        pairs = max(1, len(self._i))
        size = max(4, x.dtype.itemsize)
        fitting = max(1, int(self._max_memory / (self._bytes_per_pair * size / 4 * pairs)))
        quick = max(2, int(_AT_ONCE / (size * math.sqrt(pairs))))
        return (min(quick, fitting) if x.is_cpu else fitting), fitting

    def _reduced(self, x: Tensor) -> Tensor:
        return self._beta * self._total(list(self._forces), rows(x))

    def _potentials(self, x: Tensor) -> dict[str, Tensor]:
        X = rows(x)
        return {name: self._total([force], X) for name, force in zip(self._names, self._forces, strict=True)}

    def _total(self, forces: Sequence[nn.Module], X: Tensor) -> Tensor:
        """U of some of the forces together, (n,)."""
        own = [force for force in forces if isinstance(force, (PairForce, BondedForce))]
        if torch.compiler.is_compiling():  # which makes autograd's gradients of bonded terms as fast
            own = []
        found = [evaluate(lambda X: total_with_gradient(own, Frames(X, self._i, self._j)), X)] if own else []
        frames = Frames(X, self._i, self._j)
        found += [force(frames) for force in forces if force not in own]
        return reduce(add, found) if found else X.new_zeros(X.shape[2])


@cache
def _compiled_reduced() -> Callable[[ForceFieldEnergy, Tensor], Tensor]:
    return torch.compile(ForceFieldEnergy._reduced, dynamic=False)


def _in_pieces(
    x: Tensor, rows: int, energy: Callable[[Tensor], Tensor], differentiable: Callable[[Tensor], Tensor]
) -> Tensor:
    """u of x, some rows at a time, of which nothing is kept but their gradient.

    `differentiable` gives what `energy` gives, for a second derivative, which compiled code has none of.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        u: Tensor = _InPieces.apply(x, rows, energy, differentiable)[0]  # type: ignore[no-untyped-call]
        return u
    return torch.cat([energy(some) for some in torch.split(x, rows)])


class _InPieces(torch.autograd.Function):
    """u of x, some rows at a time, whose gradient is taken there and then, so that nothing else has to be kept."""

    @staticmethod
    def forward(
        x: Tensor, rows: int, energy: Callable[[Tensor], Tensor], _: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        found = []
        for some in torch.split(x, rows):
            with torch.enable_grad():
                u = energy(leaf := some.detach().requires_grad_())
                found.append((u.detach(), *torch.autograd.grad(u.sum(), leaf)))
        u, gradient = (torch.cat(part) for part in zip(*found, strict=True))
        return u, gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.rows, _, ctx.differentiable = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor, _: Any) -> tuple[Tensor, None, None, None]:
        x, gradient = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return grad_u[:, None, None] * gradient, None, None, None
        u = torch.cat([ctx.differentiable(some) for some in torch.split(x, ctx.rows)])  # a second one may be wanted
        return *torch.autograd.grad(u, x, grad_u, create_graph=True), None, None, None
